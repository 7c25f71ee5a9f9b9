{{/* Where the Prefect API is, and how the worker and its jobs are let in. */}}

{{- define "worker.apiUrl" -}}
{{- $worker := .Values.worker -}}
{{- if eq $worker.apiConfig "selfHostedServer" -}}
{{- $worker.selfHostedServerApiConfig.apiUrl -}}
{{- else -}}
{{- $cloud := eq $worker.apiConfig "cloud" | ternary $worker.cloudApiConfig $worker.customerManagedCloudApiConfig -}}
{{- $url := $cloud.cloudUrl | default $cloud.apiUrl | trimSuffix "/" -}}
{{- printf "%s/accounts/%s/workspaces/%s" $url $cloud.accountId $cloud.workspaceId -}}
{{- end -}}
{{- end -}}

{{/* The Secret with what basic authentication takes. */}}
{{- define "worker.authSecret" -}}
{{- $made := printf "%s-auth" (include "worker.fullname" .) -}}
{{- .Values.worker.selfHostedServerApiConfig.basicAuth.existingSecret | default $made -}}
{{- end -}}

{{- define "worker.apiEnvironment" -}}
{{- $worker := .Values.worker -}}
- name: PREFECT_API_URL
  value: {{ include "worker.apiUrl" . | quote }}
{{- if eq $worker.apiConfig "selfHostedServer" }}
{{- if $worker.selfHostedServerApiConfig.basicAuth.enabled }}
- name: PREFECT_API_AUTH_STRING
  valueFrom:
    secretKeyRef:
      name: {{ include "worker.authSecret" . }}
      key: auth-string
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME
  value: {{ include "worker.authSecret" . }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY
  value: auth-string
{{- end }}
{{- else }}
{{- $cloud := eq $worker.apiConfig "cloud" | ternary $worker.cloudApiConfig $worker.customerManagedCloudApiConfig }}
- name: PREFECT_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $cloud.apiKeySecret.name }}
      key: {{ $cloud.apiKeySecret.key }}
{{- with $cloud.cloudApiUrl }}
- name: PREFECT_CLOUD_API_URL
  value: {{ . | quote }}
{{- end }}
{{- with $cloud.cloudUiUrl }}
- name: PREFECT_CLOUD_UI_URL
  value: {{ . | quote }}
{{- end }}
{{- if eq $cloud.jobApiKeyPropagation "secretRef" }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET_NAME
  value: {{ $cloud.apiKeySecret.name }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET_KEY
  value: {{ $cloud.apiKeySecret.key }}
{{- else if eq $cloud.jobApiKeyPropagation "autoSecret" }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_CREATE_SECRET_FOR_API_KEY
  value: "true"
{{- end }}
{{- end }}
{{- end -}}
