-- What happened, for subscribers that come back and for whoever asks.
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    occurred INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- The whole event as it goes over the wire.
    doc TEXT NOT NULL
);
CREATE INDEX event_occurred ON event (occurred);

-- The status of pools, queues and deployments that was told last, so that a change is told once.
CREATE TABLE told_status (
    resource TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    event_id TEXT NOT NULL,
    told INTEGER NOT NULL
) WITHOUT ROWID;

-- When a deployment was polled by itself, as a served flow does; a worker polls its queue.
CREATE TABLE deployment_poll (
    deployment_id TEXT PRIMARY KEY REFERENCES deployment (id) ON DELETE CASCADE,
    last_polled INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE artifact (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    key TEXT,
    type TEXT,
    description TEXT,
    -- JSON, as are the two below.
    data TEXT,
    metadata TEXT,
    flow_run_id TEXT,
    task_run_id TEXT
);
CREATE INDEX artifact_key ON artifact (key);
CREATE INDEX artifact_flow_run ON artifact (flow_run_id);

CREATE TABLE flow_run_input (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    flow_run_id TEXT NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    sender TEXT,
    UNIQUE (flow_run_id, key)
);

CREATE TABLE concurrency_limit (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    active INTEGER NOT NULL,
    -- Slots taken without a lease: by rate limits, and by clients that do not know leases.
    taken REAL NOT NULL DEFAULT 0,
    -- When they were counted; they decay from then on.
    counted INTEGER NOT NULL,
    decay_per_second REAL NOT NULL
);

CREATE TABLE slot_lease (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    -- JSON: who holds it.
    holder TEXT
) WITHOUT ROWID;

CREATE TABLE slot_lease_limit (
    lease_id TEXT NOT NULL REFERENCES slot_lease (id) ON DELETE CASCADE,
    limit_id TEXT NOT NULL REFERENCES concurrency_limit (id) ON DELETE CASCADE,
    PRIMARY KEY (limit_id, lease_id)
) WITHOUT ROWID;
CREATE INDEX slot_lease_limit_lease ON slot_lease_limit (lease_id);
