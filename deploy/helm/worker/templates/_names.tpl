{{/* What things are called. Every template below takes the values of one worker: `.Values.worker` is its own. */}}

{{- define "worker.name" -}}
{{- .Values.nameOverride | default "prefect-worker" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name for everything, before the name of a pool is added. */}}
{{- define "worker.baseName" -}}
{{- $name := include "worker.name" . -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $made | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "worker.fullname" -}}
{{- $base := include "worker.baseName" . -}}
{{- with .Pool -}}
{{- printf "%s-%s" $base . | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $base -}}
{{- end -}}
{{- end -}}

{{- define "worker.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "worker.serviceAccountName" -}}
{{- $made := ternary (include "worker.baseName" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $made -}}
{{- end -}}

{{/* Never changes in the life of a release: Kubernetes lets nobody change what a workload selects. */}}
{{- define "worker.selector" -}}
app.kubernetes.io/name: {{ include "worker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- with .Pool }}
app.kubernetes.io/part-of: {{ . }}
{{- end }}
{{- end -}}

{{- define "worker.labels" -}}
{{ include "worker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ include "worker.filled" (dict "value" . "context" $) }}
{{- end }}
{{- end -}}

{{/* The head of an object: what it is called, where it is, whose it is. Takes `context`; `name`, `namespace` and `annotations`
     where they are not the usual ones. */}}
{{- define "worker.metadata" -}}
{{- $annotations := merge (dict) (.annotations | default dict) (.context.Values.commonAnnotations | default dict) -}}
name: {{ .name | default (include "worker.fullname" .context) }}
namespace: {{ .namespace | default (include "worker.namespace" .context) | quote }}
labels:
  {{- include "worker.labels" .context | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- include "worker.filled" (dict "value" . "context" $.context) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A value of people's, which may be a template. */}}
{{- define "worker.filled" -}}
{{- $text := ternary .value (toYaml .value) (kindIs "string" .value) -}}
{{- ternary (tpl $text .context) $text (contains "{{" $text) -}}
{{- end -}}

{{/* The workers of this release, as YAML: for each a name (none where there is but one) and its values. */}}
{{- define "worker.all" -}}
{{- $values := deepCopy .Values -}}
{{- if .Values.pools -}}
{{- range .Values.pools }}
- name: {{ .name | quote }}
  worker: {{ mergeOverwrite (deepCopy $values.worker) (.worker | default dict) | toJson }}
{{- end }}
{{- else }}
- name: ""
  worker: {{ $values.worker | toJson }}
{{- end }}
{{- end -}}
