{{/* What should wake somebody. Braces of Prometheus' own templates are kept from Helm's. */}}
{{- define "worker.alerts" -}}
- alert: WorkerDoesNotPoll
  expr: sum by (namespace, pod, pool) (rate(worker_polls_total{result!="error"}[5m])) == 0
  for: 5m
  labels: {severity: critical}
  annotations:
    summary: The worker {{ "{{ $labels.pod }}" }} has polled {{ "{{ $labels.pool }}" }} without success for ten minutes
    description: Its flow runs are not claimed. /readyz of the worker says what the API answers.
- alert: WorkerIsFull
  expr: |
    sum by (namespace, pod, pool) (worker_flow_runs{phase=~"starting|running"})
      >= sum by (namespace, pod, pool) (worker_slots_limit > 0)
  for: 15m
  labels: {severity: warning}
  annotations:
    summary: The worker {{ "{{ $labels.pod }}" }} has had no free slot for 15 minutes
    description: Flow runs of {{ "{{ $labels.pool }}" }} wait. Raise worker.config.limit, or add a worker.
- alert: FlowRunsStartLate
  expr: |
    histogram_quantile(0.95, sum by (namespace, pool, le) (rate(worker_schedule_lag_seconds_bucket[10m]))) > {{ int .lag }}
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: Flow runs of {{ "{{ $labels.pool }}" }} are claimed {{ "{{ $value | humanizeDuration }}" }} late
    description: Too few slots, a limit on the pool or its queues, or an API that is slow to answer.
- alert: JobsNeverStart
  expr: |
    sum by (namespace, pool) (increase(worker_jobs_finished_total{outcome="never_started"}[15m])) >= 3
  labels: {severity: warning}
  annotations:
    summary: Jobs of {{ "{{ $labels.pool }}" }} do not start
    description: An image that cannot be pulled, no node with room for them, or no right to make them. The states of the flow runs say which.
{{- end -}}
