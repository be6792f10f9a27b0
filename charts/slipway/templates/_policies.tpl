{{/* A ValidatingAdmissionPolicy's head: list of the root and the policy's name. */}}
{{- define "slipway.policy.head" -}}
{{- $root := index . 0 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "slipway.fullname" $root }}-{{ index . 1 }}
  labels:
    {{- include "slipway.labels" $root | nindent 4 }}
{{- end }}

{{/* What binds it: list of the root, the policy's name, and a label of the namespaces that ask for it. */}}
{{- define "slipway.policy.binding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "slipway.fullname" $root) (index . 1) -}}
{{- $label := index . 2 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "slipway.labels" $root | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
  {{- if or $label $root.Values.watchNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        {{- with $root.Values.watchNamespaces }}
        - key: kubernetes.io/metadata.name
          operator: In
          values: {{ toJson . }}
        {{- end }}
        {{- with $label }}
        - key: {{ . }}
          operator: Exists
        - key: {{ . }}
          operator: NotIn
          values: ["false"]
        {{- end }}
  {{- end }}
{{- end }}

{{/* Whether the writer has a verb on the approvals of the ModelDeployment; CEL. */}}
{{- define "slipway.policy.may" -}}
authorizer.group('slipway.dev').resource('modeldeployments').subresource('approval').namespace(request.namespace).name(request.?name.orValue('')).check('{{ . }}').allowed()
{{- end }}

{{/* Policies need Kubernetes 1.30: an installation that asks for them elsewhere would be less safe than it says. */}}
{{- define "slipway.policy.possible" -}}
{{- if not (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "policies.* need ValidatingAdmissionPolicy of admissionregistration.k8s.io/v1, which Kubernetes has from 1.30 on; this is %s: upgrade the cluster, or set policies.approvals, policies.borrowing and policies.operator.enabled to false" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
