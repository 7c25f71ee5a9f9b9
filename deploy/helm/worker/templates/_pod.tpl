{{/* The worker's pod. */}}

{{/* Whether there may be more than one, which makes the worker a StatefulSet. */}}
{{- define "worker.several" -}}
{{- if or .Values.worker.autoscaling.enabled (gt (int .Values.worker.replicaCount) 1) -}}yes{{- end -}}
{{- end -}}

{{- define "worker.image" -}}
{{- $image := .Values.worker.image -}}
{{- if has $image.repository (list "prefecthq/prefect" "docker.io/prefecthq/prefect") -}}
worker:{{ $image.tag | default .Chart.AppVersion }}
{{- else if eq $image.repository "worker" -}}
worker:{{ $image.tag | default .Chart.AppVersion }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $image.prefectTag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The ConfigMap that this chart makes of a base job template. */}}
{{- define "worker.baseJobTemplateMade" -}}
{{- .Values.worker.config.baseJobTemplate.name | default (printf "%s-base-job-template" (include "worker.fullname" .)) -}}
{{- end -}}

{{/* The ConfigMap that the worker reads one from. Empty: none. */}}
{{- define "worker.baseJobTemplate" -}}
{{- $template := .Values.worker.config.baseJobTemplate -}}
{{- if eq $template.sync "never" -}}
{{- else if $template.configuration -}}
{{- include "worker.baseJobTemplateMade" . -}}
{{- else -}}
{{- $template.existingConfigMapName -}}
{{- end -}}
{{- end -}}

{{- define "worker.gracePeriod" -}}
{{- $worker := .Values.worker -}}
{{- if kindIs "invalid" $worker.terminationGracePeriodSeconds -}}
{{- ternary 30 (add 45 (int ($worker.drainSeconds | default 0))) (kindIs "invalid" $worker.drainSeconds) -}}
{{- else -}}
{{- int $worker.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* What was written for the Python worker's image starts with its program; ours takes the same flags. */}}
{{- define "worker.arguments" -}}
{{- $worker := .Values.worker -}}
{{- if $worker.args -}}
{{- $args := $worker.args -}}
{{- if eq (join " " (slice $args 0 (min 3 (len $args)))) "prefect worker start" -}}
{{- $args = slice $args 3 -}}
{{- end -}}
{{- toYaml $args -}}
{{- else -}}
- --type
- {{ $worker.config.type | quote }}
- --pool
- {{ $worker.config.workPool | quote }}
- --name
{{- if include "worker.several" . }}
- {{ with $worker.config.name }}{{ . }}-{{ end }}$(POD_NAME)
{{- else }}
- {{ $worker.config.name | default (include "worker.fullname" .) | quote }}
{{- end }}
{{- range $worker.config.workQueues }}
- --work-queue
- {{ . | quote }}
{{- end }}
{{- with $worker.config.limit }}
- --limit
- {{ int . | quote }}
{{- end }}
{{- if not (kindIs "invalid" $worker.drainSeconds) }}
- --drain-timeout
- {{ printf "%ds" (int $worker.drainSeconds) }}
{{- end }}
{{- if include "worker.baseJobTemplate" . }}
- --base-job-template
- /etc/worker/baseJobTemplate.json
{{- end }}
{{- range $worker.extraArgs }}
- {{ . | toString | quote }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "worker.environment" -}}
{{- $worker := .Values.worker -}}
- name: HOME
  value: /var/lib/worker
- name: WORKER_STATE_DIR
  value: /var/lib/worker
- name: WORKER_STATUS_ENABLED
  value: "true"
- name: WORKER_STATUS_HOST
  value: 0.0.0.0
- name: WORKER_STATUS_PORT
  value: "8080"
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: PREFECT_WORKER_QUERY_SECONDS
  value: {{ $worker.config.queryInterval | toString | quote }}
- name: PREFECT_WORKER_PREFETCH_SECONDS
  value: {{ $worker.config.prefetchSeconds | toString | quote }}
- name: PREFECT_API_ENABLE_HTTP2
  value: {{ $worker.config.http2 | quote }}
- name: PREFECT_DEBUG_MODE
  value: {{ $worker.image.debug | quote }}
- name: PREFECT_KUBERNETES_CLUSTER_UID
  value: {{ include "worker.clusterUid" . | quote }}
{{- if not $worker.config.observerClusterWide }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES
  value: {{ $worker.config.jobNamespace | default (include "worker.namespace" .) | quote }}
{{- end }}
{{- if and (include "worker.baseJobTemplate" .) (eq $worker.config.baseJobTemplate.sync "always") }}
- name: WORKER_SYNC_BASE_JOB_TEMPLATE
  value: "true"
{{- end }}
{{- with $worker.config.pullImage }}
- name: WORKER_KUBERNETES_PULL_IMAGE
  value: {{ . | quote }}
{{- end }}
{{- if not .Values.role.secrets }}
- name: WORKER_KUBERNETES_PASS_CREDENTIALS
  value: "false"
{{- end }}
{{ include "worker.apiEnvironment" . }}
{{- with $worker.logging.level }}
- name: WORKER_LOGGING_LEVEL
  value: {{ . | quote }}
{{- end }}
{{- if $worker.logging.json }}
- name: WORKER_LOGGING_JSON
  value: "true"
{{- end }}
{{- if not $worker.policy.allowCommand }}
- name: WORKER_POLICY_ALLOW_COMMAND
  value: "false"
{{- end }}
{{- if not $worker.policy.allowEnvironmentPlaceholders }}
- name: WORKER_POLICY_ALLOW_ENVIRONMENT_PLACEHOLDERS
  value: "false"
{{- end }}
{{- if $worker.tls.caSecret.name }}
- name: SSL_CERT_FILE
  value: /etc/worker/ca/ca.crt
{{- end }}
{{- with $worker.proxy.http }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with $worker.proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with $worker.proxy.noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with $worker.extraEnvVars }}
{{ include "worker.filled" (dict "value" . "context" $) }}
{{- end }}
{{- end -}}

{{- define "worker.clusterUid" -}}
{{- $found := lookup "v1" "Namespace" "" "kube-system" | default dict -}}
{{- .Values.worker.clusterUid | default (dig "metadata" "uid" "" $found) -}}
{{- end -}}

{{- define "worker.environmentFrom" -}}
{{- $worker := .Values.worker -}}
{{- range compact (prepend $worker.extraEnvVarsCMs $worker.extraEnvVarsCM) }}
- configMapRef:
    name: {{ include "worker.filled" (dict "value" . "context" $) }}
{{- end }}
{{- range compact (prepend $worker.extraEnvVarsSecrets $worker.extraEnvVarsSecret) }}
- secretRef:
    name: {{ include "worker.filled" (dict "value" . "context" $) }}
{{- end }}
{{- end -}}

{{- define "worker.probe" -}}
{{- if .probe.enabled -}}
{{ .name }}:
  httpGet:
    path: {{ .path }}
    port: status
  {{- toYaml .probe.config | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "worker.container" -}}
{{- $worker := .Values.worker -}}
name: prefect-worker
image: {{ include "worker.image" . | quote }}
imagePullPolicy: {{ $worker.image.pullPolicy }}
{{- with $worker.command }}
command: {{- toYaml . | nindent 2 }}
{{- end }}
args: {{- include "worker.arguments" . | nindent 2 }}
workingDir: /var/lib/worker
env: {{- include "worker.environment" . | nindent 2 }}
{{- with include "worker.environmentFrom" . | trim }}
envFrom: {{- . | nindent 2 }}
{{- end }}
ports:
  - name: status
    containerPort: 8080
{{- range $probe := list
  (dict "name" "startupProbe" "path" "/livez" "probe" $worker.startupProbe)
  (dict "name" "livenessProbe" "path" "/livez" "probe" $worker.livenessProbe)
  (dict "name" "readinessProbe" "path" "/readyz" "probe" $worker.readinessProbe) }}
{{- with include "worker.probe" $probe }}
{{ . }}
{{- end }}
{{- end }}
{{- with $worker.lifecycle }}
lifecycle: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $worker.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $worker.containerSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: state
    mountPath: /var/lib/worker
  - name: tmp
    mountPath: /tmp
  {{- if include "worker.baseJobTemplate" . }}
  - name: base-job-template
    mountPath: /etc/worker/baseJobTemplate.json
    subPath: baseJobTemplate.json
    readOnly: true
  {{- end }}
  {{- if $worker.tls.caSecret.name }}
  - name: ca
    mountPath: /etc/worker/ca
    readOnly: true
  {{- end }}
  {{- with $worker.extraVolumeMounts }}
  {{- include "worker.filled" (dict "value" . "context" $) | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "worker.volumes" -}}
{{- $worker := .Values.worker -}}
- name: state
  {{- if $worker.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $worker.existingClaim }}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- with include "worker.baseJobTemplate" . }}
- name: base-job-template
  configMap:
    name: {{ . }}
{{- end }}
{{- with $worker.tls.caSecret }}
{{- if .name }}
- name: ca
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- with $worker.extraVolumes }}
{{ include "worker.filled" (dict "value" . "context" $) }}
{{- end }}
{{- end -}}

{{/* The fields of a pod that are simply passed on. */}}
{{- define "worker.placement" -}}
{{- range $field := list "affinity" "nodeSelector" "tolerations" "topologySpreadConstraints" "priorityClassName" "dnsPolicy" }}
{{- with index $.Values.worker $field }}
{{ $field }}: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- $dns := dict -}}
{{- range $field, $value := .Values.worker.dnsConfig }}
{{- if $value }}{{ $_ := set $dns $field $value }}{{ end }}
{{- end }}
{{- with $dns }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "worker.pod" -}}
{{- $worker := .Values.worker -}}
metadata:
  labels:
    {{- include "worker.labels" . | nindent 4 }}
    {{- with $worker.podLabels }}
    {{- include "worker.filled" (dict "value" . "context" $) | nindent 4 }}
    {{- end }}
  annotations:
    # A new template or new credentials are read at the start only.
    checksum/config: {{ list $worker.config.baseJobTemplate $worker.selfHostedServerApiConfig | toJson | sha256sum }}
    {{- with $worker.podAnnotations }}
    {{- include "worker.filled" (dict "value" . "context" $) | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "worker.serviceAccountName" . }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "worker.gracePeriod" . }}
  {{- with $worker.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $worker.podSecurityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "worker.placement" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $worker.initContainer.extraContainers }}
  initContainers: {{- include "worker.filled" (dict "value" . "context" $) | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "worker.container" . | nindent 6 | trim }}
    {{- with $worker.extraContainers }}
    {{- include "worker.filled" (dict "value" . "context" $) | nindent 4 }}
    {{- end }}
  volumes: {{- include "worker.volumes" . | nindent 4 }}
{{- end -}}
