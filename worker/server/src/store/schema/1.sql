CREATE TABLE work_pool (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    type TEXT NOT NULL,
    description TEXT,
    base_job_template TEXT NOT NULL,
    is_paused INTEGER NOT NULL,
    concurrency_limit INTEGER,
    storage_configuration TEXT NOT NULL,
    default_queue_id TEXT NOT NULL
);

CREATE TABLE work_queue (
    id TEXT PRIMARY KEY,
    work_pool_id TEXT NOT NULL REFERENCES work_pool (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    description TEXT,
    priority INTEGER NOT NULL,
    is_paused INTEGER NOT NULL,
    concurrency_limit INTEGER,
    last_polled INTEGER,
    UNIQUE (work_pool_id, name)
) WITHOUT ROWID;

CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    work_pool_id TEXT NOT NULL REFERENCES work_pool (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_heartbeat INTEGER NOT NULL,
    heartbeat_interval_seconds INTEGER NOT NULL,
    UNIQUE (work_pool_id, name)
) WITHOUT ROWID;

CREATE TABLE flow (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    tags TEXT NOT NULL,
    labels TEXT NOT NULL
);

CREATE TABLE deployment (
    id TEXT PRIMARY KEY,
    flow_id TEXT NOT NULL REFERENCES flow (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    work_queue_id TEXT REFERENCES work_queue (id) ON DELETE SET NULL,
    paused INTEGER NOT NULL,
    concurrency_limit INTEGER,
    -- Everything else a deployment says, as a JSON object.
    doc TEXT NOT NULL,
    UNIQUE (flow_id, name)
);

CREATE TABLE schedule (
    id TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployment (id) ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    active INTEGER NOT NULL,
    slug TEXT,
    schedule TEXT NOT NULL,
    parameters TEXT NOT NULL,
    max_scheduled_runs INTEGER,
    UNIQUE (deployment_id, slug)
);

CREATE TABLE flow_run (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL,
    flow_id TEXT NOT NULL REFERENCES flow (id) ON DELETE CASCADE,
    -- Not a reference: a run may outlive its deployment, and the orchestration has to know.
    deployment_id TEXT,
    deployment_version TEXT,
    work_queue_id TEXT REFERENCES work_queue (id) ON DELETE SET NULL,
    flow_version TEXT,
    parameters TEXT NOT NULL,
    idempotency_key TEXT,
    context TEXT NOT NULL,
    policy TEXT NOT NULL,
    tags TEXT NOT NULL,
    labels TEXT NOT NULL,
    job_variables TEXT,
    parent_task_run_id TEXT,
    infrastructure_pid TEXT,
    auto_scheduled INTEGER NOT NULL,
    state_id TEXT,
    state_type TEXT,
    state_name TEXT,
    state_timestamp INTEGER,
    run_count INTEGER NOT NULL,
    start_time INTEGER,
    end_time INTEGER,
    total_run_time INTEGER NOT NULL,
    expected_start_time INTEGER,
    next_scheduled_start_time INTEGER,
    -- Whether the engine of this run waits for the retry itself, so that no worker may take it.
    retries_in_process INTEGER NOT NULL DEFAULT 0,
    UNIQUE (flow_id, idempotency_key)
);
CREATE INDEX flow_run_due ON flow_run (work_queue_id, next_scheduled_start_time) WHERE state_type = 'SCHEDULED';
CREATE INDEX flow_run_active ON flow_run (work_queue_id) WHERE state_type IN ('RUNNING', 'PENDING');
CREATE INDEX flow_run_since ON flow_run (state_type, state_timestamp);
CREATE INDEX flow_run_deployment ON flow_run (deployment_id, state_type);
CREATE INDEX flow_run_parent ON flow_run (parent_task_run_id) WHERE parent_task_run_id IS NOT NULL;

-- The order of rows is the order of states.
CREATE TABLE flow_run_state (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    flow_run_id TEXT NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
    timestamp INTEGER NOT NULL,
    -- The whole state as it goes over the wire.
    doc TEXT NOT NULL
);
CREATE INDEX flow_run_state_run ON flow_run_state (flow_run_id);

CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployment (id) ON DELETE CASCADE,
    flow_run_id TEXT NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lease_deployment ON lease (deployment_id, expires);
CREATE INDEX lease_run ON lease (flow_run_id);

CREATE TABLE task_run (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    flow_run_id TEXT REFERENCES flow_run (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    task_key TEXT NOT NULL,
    dynamic_key TEXT NOT NULL,
    state_type TEXT,
    state_name TEXT,
    run_count INTEGER NOT NULL,
    start_time INTEGER,
    end_time INTEGER,
    state TEXT,
    -- Everything else a task run says, as a JSON object.
    doc TEXT NOT NULL
);
CREATE INDEX task_run_flow_run ON task_run (flow_run_id, task_key, dynamic_key);

CREATE TABLE log (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    flow_run_id TEXT,
    task_run_id TEXT,
    name TEXT NOT NULL,
    level INTEGER NOT NULL,
    message TEXT NOT NULL,
    timestamp INTEGER NOT NULL
);
CREATE INDEX log_flow_run ON log (flow_run_id, timestamp);

CREATE TABLE variable (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    value TEXT NOT NULL,
    tags TEXT NOT NULL
);

CREATE TABLE block_type (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    doc TEXT NOT NULL
);

CREATE TABLE block_schema (
    id TEXT PRIMARY KEY,
    block_type_id TEXT NOT NULL REFERENCES block_type (id) ON DELETE CASCADE,
    checksum TEXT NOT NULL,
    version TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    fields TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    UNIQUE (checksum, version)
);

CREATE TABLE block_document (
    id TEXT PRIMARY KEY,
    block_type_id TEXT NOT NULL REFERENCES block_type (id) ON DELETE CASCADE,
    block_schema_id TEXT NOT NULL REFERENCES block_schema (id) ON DELETE CASCADE,
    name TEXT,
    is_anonymous INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (block_type_id, name)
);
