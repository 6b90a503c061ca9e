{{/* The operator's name, which its Deployment, account, roles and Service share; short enough for every suffix below. */}}
{{- define "berth.operator" -}}
{{ .Release.Name | trunc 46 | trimSuffix "-" }}-operator
{{- end }}

{{/* Labels by which the operator's pods are selected. A Deployment's selector cannot change: neither may these. */}}
{{- define "berth.selectorLabels" -}}
app.kubernetes.io/name: berth-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of an object, from a dict of `root`, `component` and perhaps `extra` labels. Berth's own win over all others. */}}
{{- define "berth.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (printf "berth-%s" .component)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "berth"
  "app.kubernetes.io/managed-by" .root.Release.Service
-}}
{{ merge $own (.extra | default dict) .root.Values.commonLabels | toYaml }}
{{- end }}

{{- define "berth.operatorLabels" -}}
{{ include "berth.labels" (dict "root" . "component" "operator") }}
{{- end }}

{{- define "berth.letGoLabels" -}}
{{ include "berth.labels" (dict "root" . "component" "let-go") }}
{{- end }}

{{- define "berth.testLabels" -}}
{{ include "berth.labels" (dict "root" . "component" "test") }}
{{- end }}

{{- define "berth.crdLabels" -}}
{{ include "berth.labels" (dict "root" . "component" "crds") }}
{{- end }}

{{/* Annotations of a CRD: Helm leaves what is kept where it is, in an uninstall and when it is turned off. */}}
{{- define "berth.crdAnnotations" -}}
{{- $own := dict -}}
{{- if .Values.crds.keep -}}
{{- $_ := set $own "helm.sh/resource-policy" "keep" -}}
{{- end -}}
{{ merge $own .Values.crds.annotations | toYaml }}
{{- end }}

{{/* The operator's service account. */}}
{{- define "berth.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "berth.operator" . }}
{{- else -}}
{{ fail "serviceAccount.create is false, and serviceAccount.name does not say which account to use instead." }}
{{- end -}}
{{- end }}

{{/* The account of what runs after an uninstall: the operator's own is gone by then, unless it was brought along. */}}
{{- define "berth.letGoServiceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ include "berth.operator" . }}-let-go
{{- else -}}
{{ include "berth.serviceAccount" . }}
{{- end -}}
{{- end }}

{{/* The account of `helm test`, which may less than the operator's. */}}
{{- define "berth.testServiceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ include "berth.operator" . }}-test
{{- else -}}
{{ include "berth.serviceAccount" . }}
{{- end -}}
{{- end }}

{{/* The gateway's name. */}}
{{- define "berth.gateway" -}}
{{ .Release.Name | trunc 46 | trimSuffix "-" }}-gateway
{{- end }}

{{/* "true" where the release has a gateway: its callers' tokens are asked for in the cluster, to which one who works in a few
namespaces alone has no right. */}}
{{- define "berth.gatewayEnabled" -}}
{{- if kindIs "invalid" .Values.gateway.enabled | ternary (not .Values.watchNamespaces) .Values.gateway.enabled -}}
true
{{- end -}}
{{- end }}

{{- define "berth.gatewayLabels" -}}
{{ include "berth.labels" (dict "root" . "component" "gateway") }}
{{- end }}

{{/* Labels by which the gateway's pods are selected; the walls around instances let them in by these. */}}
{{- define "berth.gatewaySelectorLabels" -}}
app.kubernetes.io/name: berth-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "berth.gatewayServiceAccount" -}}
{{- if .Values.gateway.serviceAccountName -}}
{{ .Values.gateway.serviceAccountName }}
{{- else if .Values.serviceAccount.create -}}
{{ include "berth.gateway" . }}
{{- else -}}
{{ include "berth.serviceAccount" . }}
{{- end -}}
{{- end }}

{{/* What the gateway may do with Berth's kinds, in the cluster or in a watched namespace. */}}
{{- define "berth.gatewayRules" -}}
# `operate` is no request: by it the admission policies know Berth's own accounts. The gateway asks for its callers' rights itself.
- apiGroups: [berth.dev]
  resources: [sessions]
  verbs: [get, list, watch, create, patch, delete, operate]
- apiGroups: [berth.dev]
  resources: [sessions/status]
  verbs: [patch]
- apiGroups: [berth.dev]
  resources: [workspaces, sessionpolicies]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* The image, by digest where there is one. */}}
{{- define "berth.image" -}}
{{- $tagged := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" $tagged .Values.image.digest }}
{{- else -}}
{{ $tagged }}
{{- end -}}
{{- end }}

{{/* The configuration file. */}}
{{- define "berth.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.watchNamespaces -}}
{{- $_ := set $config "watchNamespaces" .Values.watchNamespaces -}}
{{- end -}}
{{- if include "berth.gatewayEnabled" . -}}
{{- $_ := set $config "history" (dict "prunedBy" "gateway") -}}
{{- end -}}
{{- if and (include "berth.gatewayEnabled" .) .Values.gateway.tls.secretName -}}
{{- $gateway := $config.gateway | default dict -}}
{{- $_ := set $gateway "tls" (dict "certificate" "/etc/berth-tls/tls.crt" "key" "/etc/berth-tls/tls.key") -}}
{{- $_ := set $config "gateway" $gateway -}}
{{- end -}}
{{- if include "berth.guarded" . -}}
{{- $_ := set $config "admission" (dict "policies" .Release.Name) -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{/* "true" where the release brings the admission policies. */}}
{{- define "berth.guarded" -}}
{{- if and .Values.admissionPolicies.enabled (not .Values.watchNamespaces) -}}
true
{{- end -}}
{{- end }}

{{/* The port of an address of the configuration, from a dict of `section` (may be unset) and `default`. */}}
{{- define "berth.port" -}}
{{- (.section | default dict).address | default "" | regexFind "[0-9]+$" | default .default -}}
{{- end }}

{{/* What the operator may do with Berth's kinds and with what it makes of them, in the cluster or in a watched namespace. */}}
{{- define "berth.operatorRules" -}}
# `operate` is no request: by it the admission policies know Berth's own accounts.
- apiGroups: [berth.dev]
  resources: [sessions]
  verbs: [get, list, watch, patch, delete, operate]
- apiGroups: [berth.dev]
  resources: [workspaces]
  verbs: [get, list, watch, delete]
- apiGroups: [berth.dev]
  resources: [sessionpolicies]
  verbs: [get, list, watch]
- apiGroups: [berth.dev]
  resources: [sessions/status, workspaces/status]
  verbs: [patch]
# Where the API server protects owner references, their writer must be allowed to finalize the owner.
- apiGroups: [berth.dev]
  resources: [sessions/finalizers, workspaces/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
# Written, never read: one for each Workspace, of which the operator knows what it says.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, update]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What letting go needs of the Sessions. */}}
{{- define "berth.letGoRules" -}}
- apiGroups: [berth.dev]
  resources: [sessions]
  verbs: [get, list, patch, operate]
{{- end }}

{{/* When a hook's object is made, and when it is removed again; the argument is its weight. What failed stays to be read. */}}
{{- define "berth.letGoAnnotations" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The same for what `helm test` makes. */}}
{{- define "berth.testAnnotations" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* "true" where an object of the Prometheus operator is to be made, from a dict of `root`, `values` and `kind`. */}}
{{- define "berth.monitored" -}}
{{- if .values.enabled -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or $known (eq .values.renderMode "alwaysRender") -}}
true
{{- else if eq .values.renderMode "failIfMissing" -}}
{{- fail (printf "The cluster has no %s: install the Prometheus operator first, or choose another renderMode." .kind) -}}
{{- end -}}
{{- end -}}
{{- end }}
