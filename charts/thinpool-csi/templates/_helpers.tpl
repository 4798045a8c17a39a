{{- define "thinpool-csi.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) }}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "thinpool-csi.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "thinpool-csi.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "thinpool-csi.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .default }}{{ end }}
{{- end }}

{{/* auto: whether the cluster has the API; else what was said. */}}
{{- define "thinpool-csi.enabled" -}}
{{- if eq (toString .switch) "auto" }}{{ if .root.Capabilities.APIVersions.Has .api }}true{{ end }}{{ else if eq (toString .switch) "true" }}true{{ end }}
{{- end }}

{{- define "thinpool-csi.snapshots" -}}
{{- include "thinpool-csi.enabled" (dict "root" . "switch" .Values.snapshots.enabled "api" "snapshot.storage.k8s.io/v1") }}
{{- end }}

{{- define "thinpool-csi.groups" -}}
{{- if include "thinpool-csi.snapshots" . }}{{ include "thinpool-csi.enabled" (dict "root" . "switch" .Values.snapshots.groups "api" "groupsnapshot.storage.k8s.io/v1") }}{{ end }}
{{- end }}
