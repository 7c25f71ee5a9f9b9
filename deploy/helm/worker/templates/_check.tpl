{{/* What the schema cannot say, or not so that it helps: everything that is wrong, at once. Takes the context of one worker. */}}
{{- define "worker.mistakes" -}}
{{- $worker := .Values.worker -}}
{{- $of := "" -}}
{{- with .Pool }}{{ $of = printf " of the pool %s" . }}{{ end -}}
{{- $config := dict
  "cloud" (list "accountId" "workspaceId")
  "customerManagedCloud" (list "apiUrl" "accountId" "workspaceId")
  "selfHostedServer" (list "apiUrl") -}}
{{- if and (not $worker.config.workPool) (not $worker.args) }}
- worker.config.workPool{{ $of }} is empty: name the work pool to poll, as in --set worker.config.workPool=my-pool
{{- end }}
{{- $section := printf "%sApiConfig" $worker.apiConfig }}
{{- range $key := index $config $worker.apiConfig }}
{{- if not (index $worker $section $key) }}
- worker.{{ $section }}.{{ $key }}{{ $of }} is empty, which worker.apiConfig={{ $worker.apiConfig }} needs
{{- end }}
{{- end }}
{{- $key := ternary "cloudUrl" "apiUrl" (eq $worker.apiConfig "cloud") }}
{{- $url := index $worker $section $key }}
{{- if and $url (not (regexMatch "^https?://[^/ ]+" $url)) }}
- worker.{{ $section }}.{{ $key }}{{ $of }} is {{ $url }}: begin it with http:// or https://
{{- end }}
{{- $template := $worker.config.baseJobTemplate }}
{{- if kindIs "string" $template.configuration }}
{{- if and $template.configuration (hasKey (fromJson $template.configuration) "Error") }}
- worker.config.baseJobTemplate.configuration{{ $of }} is not JSON: {{ (fromJson $template.configuration).Error }}
{{- end }}
{{- end }}
{{- if and $template.configuration $template.existingConfigMapName }}
- worker.config.baseJobTemplate{{ $of }} has both configuration and existingConfigMapName: leave one of them out
{{- end }}
{{- $grace := include "worker.gracePeriod" . | int }}
{{- if and $worker.drainSeconds (lt $grace (int $worker.drainSeconds)) }}
- worker.terminationGracePeriodSeconds{{ $of }} is {{ $grace }}, less than worker.drainSeconds ({{ int $worker.drainSeconds }}): Kubernetes would kill the worker while it waits
{{- end }}
{{- if and (eq $worker.config.type "kubernetes") $worker.autoscaling.enabled (lt (int $worker.autoscaling.maxReplicas) (int $worker.autoscaling.minReplicas)) }}
- worker.autoscaling.maxReplicas{{ $of }} is less than minReplicas
{{- end }}
{{- end -}}
