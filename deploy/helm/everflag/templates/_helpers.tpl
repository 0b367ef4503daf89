{{- define "everflag.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels that select a component's pods: they never change. Called with (dict "root" $ "component" "decide"). */}}
{{- define "everflag.selector" -}}
app.kubernetes.io/name: everflag
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "everflag.labels" -}}
{{ include "everflag.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "everflag.metadata" -}}
name: {{ include "everflag.fullname" .root }}-{{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "everflag.labels" . | nindent 2 }}
{{- end -}}

{{- define "everflag.image" -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end -}}
{{- .repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- end -}}

{{- define "everflag.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "everflag.fullname" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "everflag.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Probes on the admin port. Liveness says that the process answers and nothing of the servers behind it: an outage of those never restarts a pod. */}}
{{- define "everflag.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "everflag.redisCA.volume" -}}
{{- if .Values.redisCA.secret }}
- name: redis-ca
  secret:
    secretName: {{ .Values.redisCA.secret }}
    items: [{key: {{ .Values.redisCA.key }}, path: ca.crt}]
{{- end }}
{{- end -}}

{{- define "everflag.redisCA.mount" -}}
{{- if .Values.redisCA.secret }}
- {name: redis-ca, mountPath: /etc/everflag/redis-ca, readOnly: true}
{{- end }}
{{- end -}}
