"""What people may say of the pods themselves: ``spec.runtime.pod``, and the chart's ``modelPods``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from slipway.api.base import INT32, LABEL_KEY, MESSAGE_KEY, Block, DnsSubdomain, LabelKey, LabelValue, rule

#: Annotations by which a cloud's webhook is told containers that get no credentials of the ServiceAccount.
#: Sources: https://github.com/aws/amazon-eks-pod-identity-webhook,
#: https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
SKIPPED_CONTAINERS = ("eks.amazonaws.com/skip-containers", "azure.workload.identity/skip-containers")
#: Labels and annotations that Slipway or Kubernetes puts on pods, and finds them by.
OWNED_PREFIX = "slipway.dev/"
OWNED_LABELS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/component", "pod-template-hash")
OWNED_ANNOTATIONS = ("prometheus.io/port", "prometheus.io/path", *SKIPPED_CONTAINERS)


def _not_owned(names: tuple[str, ...], what: str) -> dict[str, Any]:
    listed = ", ".join(f"'{name}'" for name in names)
    return {
        "x-kubernetes-validations": [
            rule(
                f"self.all(key, !key.startsWith('{OWNED_PREFIX}') && !(key in [{listed}]))",
                f"{what} {OWNED_PREFIX}…, {', '.join(names)} are set by the operator; take another name",
            )
        ]
    }


class PullSecret(Block):
    """A Secret of type kubernetes.io/dockerconfigjson in the namespace of the ModelDeployment."""

    name: DnsSubdomain = Field(description="Name of the Secret.")


class TopologySpread(Block):
    """How evenly pods lie over places; which pods are counted, the operator says."""

    topologyKey: str = Field(
        max_length=317,
        pattern=LABEL_KEY,
        description="Label of nodes that names a place, such as topology.kubernetes.io/zone.",
        json_schema_extra={
            MESSAGE_KEY: "topologyKey must be a label key, such as topology.kubernetes.io/zone",
        },
    )
    maxSkew: int = Field(
        default=1, ge=1, le=INT32, description="By how many pods places may differ; 1 unless given."
    )
    whenUnsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = Field(
        default="ScheduleAnyway",
        description="What becomes of a pod that would lie worse; ScheduleAnyway unless given.",
    )


class PodOptions(Block):
    """What pods have beyond what runs in them. Nothing of it is judged by a rollout."""

    imagePullSecrets: tuple[PullSecret, ...] = Field(
        default=(),
        max_length=16,
        description="Secrets of the namespace for pulling images, in addition to those of the chart.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    serviceAccountName: DnsSubdomain | None = Field(
        default=None,
        description="ServiceAccount that the model's pods run under; one of the ModelDeployment's own unless "
        "given. No token of it is mounted. Routers keep their own.",
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default={},
        max_length=32,
        description="More labels of the pods, for cost allocation, policies or a mesh.",
        json_schema_extra=_not_owned(OWNED_LABELS, "labels"),
    )
    annotations: dict[LabelKey, Annotated[str, Field(max_length=4096)]] = Field(
        default={},
        max_length=32,
        description="More annotations of the pods.",
        json_schema_extra=_not_owned(OWNED_ANNOTATIONS, "annotations"),
    )
    priorityClassName: DnsSubdomain | None = Field(
        default=None, description="PriorityClass of the pods; the cluster's default unless given."
    )
    runtimeClassName: DnsSubdomain | None = Field(
        default=None,
        description="RuntimeClass of the model's pods, such as gvisor or nvidia; not of routers.",
    )
    topologySpread: tuple[TopologySpread, ...] = Field(
        default=(),
        max_length=8,
        description="Where pods lie; over nodes, as far as there are enough, unless given.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["topologyKey"]},
    )


#: Where nobody says anything.
NOTHING = PodOptions()


def over(defaults: PodOptions, own: PodOptions) -> PodOptions:
    """What holds where both an installation and a ModelDeployment say something: the latter, name by name."""
    given = {name: value for name in PodOptions.model_fields if (value := getattr(own, name))}
    given["labels"] = {**defaults.labels, **own.labels}
    given["annotations"] = {**defaults.annotations, **own.annotations}
    return defaults.model_copy(update=given)
