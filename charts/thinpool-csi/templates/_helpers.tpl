{{- define "thinpool-csi.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) }}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "thinpool-csi.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "thinpool-csi.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "thinpool-csi.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .default }}{{ end }}
{{- end }}

{{/* What the definition of ThinPool refuses, and the pools' defaults with it, is refused here. */}}
{{- define "thinpool-csi.pools" -}}
{{- range .Values.pools }}
{{- $loop := eq (.spec.mode | default "direct-lvm") "loop-lvm" }}
{{- $percents := addf (.spec.thinpPercent | default 95) (mulf 2 (.spec.thinpMetaPercent | default 1)) }}
{{- $why := "" }}
{{- if and (not $loop) (eq (hasKey .spec "devices") (hasKey .spec "deviceSelector")) }}
{{- $why = "direct-lvm needs disks: either devices or deviceSelector" }}
{{- else if and $loop (keys (pick .spec "devices" "deviceSelector" "force" "thinpPercent" "thinpMetaPercent")) }}
{{- $why = "devices, deviceSelector, force and the two percents belong to direct-lvm; a loop-lvm pool has its sizes in loop" }}
{{- else if and (not $loop) (hasKey .spec "loop") }}
{{- $why = "loop belongs to loop-lvm" }}
{{- else if gt $percents 100.0 }}
{{- $why = "thinpPercent with twice thinpMetaPercent (metadata and its spare) exceeds 100" }}
{{- end }}
{{- if $why }}{{ fail (printf "pools: %s: %s" .name $why) }}{{ end }}
{{- end }}
{{- toYaml .Values.pools }}
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
