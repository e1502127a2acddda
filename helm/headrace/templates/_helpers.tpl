{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* Names are fixed: Pipelines are cluster-wide, so a cluster has one Headrace. */ -}}

{{- /* First in every template: what values.yaml has and .Values lacks, such as those of an earlier
       chart (helm upgrade --reuse-values), becomes its default. */ -}}
{{- define "headrace.defaults" -}}
{{- include "headrace.complete" (list .Values (.Files.Get "files/values.yaml" | fromYaml)) -}}
{{- end -}}

{{- /* Maps whose keys are the user's stay as they are: null takes a default away. */ -}}
{{- define "headrace.complete" -}}
{{- $values := index . 0 -}}
{{- range $key, $default := index . 1 -}}
{{- if not (hasKey $values $key) -}}
{{- $_ := set $values $key $default -}}
{{- else if and (kindIs "map" $default) (not (has $key (list "resources" "labels"))) -}}
{{- include "headrace.complete" (list (get $values $key) $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.labels" -}}
{{- merge (include "headrace.ownLabels" . | fromYaml) .Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "headrace.ownLabels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: headrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "headrace.operatorLabels" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/component: operator
{{- end -}}

{{- /* The reference of an image: (list $ .Values.operator.image). */ -}}
{{- define "headrace.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The image of the connectivity test: from the operator's registry and with its tag where it has
       none of its own. */ -}}
{{- define "headrace.connectivityImage" -}}
{{- $operator := pick .Values.operator.image "registry" "tag" -}}
{{- include "headrace.image" (list . (merge (dict) .Values.connectivity.image $operator)) -}}
{{- end -}}

{{- /* What Pod Security's restricted level asks of a container. */ -}}
{{- define "headrace.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "headrace.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* What a pod of Headrace's tolerates: what is given, and nodes whose node agent is not there yet. */ -}}
{{- define "headrace.tolerations" -}}
{{- prepend . (dict "key" "headrace.dev/agent-not-ready" "operator" "Exists") | toYaml -}}
{{- end -}}

{{- /* Name of the Secret with the certificate of /metrics; empty: it is served in clear. */ -}}
{{- define "headrace.metricsCertificate" -}}
{{- if eq .Values.metrics.authentication "TokenReview" -}}
{{ .Values.metrics.certificateSecret | default "headrace-metrics-certificate" }}
{{- end -}}
{{- end -}}

{{- /* Who gives the node agent the annotations of pods: Multus does not pass on what the runtime says. */ -}}
{{- define "headrace.podAnnotations" -}}
{{- if .Values.nodeAgent.cni.chained -}}
{{- .Values.nodeAgent.cni.podAnnotations | default "Runtime" -}}
{{- else -}}
APIServer
{{- end -}}
{{- end -}}

{{- /* Kinds that people write, in the plural, as the items of a YAML list, each with a suffix:
       (list $ "Namespaced" "/status"); scope "": both. What is compiled is in another group. */ -}}
{{- define "headrace.kinds" -}}
{{- $root := index . 0 -}}
{{- $scope := index . 1 -}}
{{- $suffix := index . 2 -}}
{{- $found := list -}}
{{- range $path, $_ := $root.Files.Glob "files/crds/*.yaml" -}}
{{- $spec := ($root.Files.Get $path | fromYaml).spec -}}
{{- if and (eq $spec.group "headrace.dev") (or (not $scope) (eq $spec.scope $scope)) -}}
{{- $found = append $found (print $spec.names.plural $suffix) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
