"""The pods that serve a revision."""

from __future__ import annotations

import math
from typing import Any

from slipway import contract
from slipway.api.access import Access
from slipway.api.inputs import Inputs
from slipway.api.monitoring import Feedback
from slipway.api.pods import NOTHING, PodOptions, over
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.access import contract_of, mounted, mounts_of, volumes_of
from slipway.core.objects.external import external_server, is_external
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.objects.model_files import fetch_container, room
from slipway.core.observed import Manifest
from slipway.core.revision import Revision, Settings

#: How long a leaving pod goes on serving at most while clients are asked to go elsewhere.
DRAIN_SECONDS = 15
#: What a leaving pod has after the drain at least.
LEAST_GRACE_SECONDS = 30
#: What :func:`settings_of` reads.
TOLD_BY_PODS = ("server_image", "image_pull_policy", "mlflow_tracking_uri", "cuda_image")


def deployment(
    owner: Owner,
    revision: Revision,
    settings: Settings,
    own: PodOptions = NOTHING,
    access: Access | None = None,
) -> dict[str, Any]:
    """Deployment of a revision. ``replicas`` is left to the autoscaler from the start.

    Args:
        owner: the ModelDeployment.
        revision: what is served.
        settings: of the installation.
        own: what the ModelDeployment says of pods now, whatever it said when the revision was made.
        access: likewise of who may ask.
    """
    name = revision.name
    selector = naming.pod_selector(owner.name, name)
    template = _template(owner, revision, settings, own, access)
    meta = metadata(
        owner, naming.revision_object(owner.name, name), naming.labels(owner.name, "model-server", name)
    )
    if own != NOTHING or access is not None:
        installed = naming.content_hash(_template(owner, revision, settings, NOTHING, None))
        if "imagePullSecrets" in template["spec"]:
            installed += f".{naming.content_hash(settings.image_pull_secrets)}"
        meta["annotations"] = {naming.INSTALLED_ANNOTATION: installed}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": selector},
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def _template(
    owner: Owner, revision: Revision, settings: Settings, own: PodOptions, access: Access | None
) -> dict[str, Any]:
    options = pod.under(over(settings.pods, own), revision.service_account)
    scraped = {
        "prometheus.io/scrape": options.annotations.get("prometheus.io/scrape", "true"),
        "prometheus.io/port": str(contract.ADMIN_PORT),
        "prometheus.io/path": contract.METRICS_PATH,
    }
    annotations = {**({} if is_external(revision.runtime) else scraped), **pod.skipped(options)}
    return {
        "metadata": pod.meta(options, naming.labels(owner.name, "model-server", revision.name), annotations),
        "spec": _pod_spec(owner, revision, settings, options, own, access),
    }


def server_image(live: Manifest) -> str:
    """The image that a Deployment's model servers run; empty where it has none."""
    return str(_container(live, "containers", naming.SERVER_CONTAINER).get("image", ""))


def image_of(revision: Revision, settings: Settings) -> str:
    """The image that model servers of a revision are to run; empty where the installation has none for it."""
    runtime = revision.runtime
    return runtime.image or (settings.cuda_image if runtime.device == "CUDA" else settings.server_image)


def checks_callers(live: Manifest, access: Access) -> bool:
    """Whether a Deployment's pods are to check callers as a spec says, by the keys that it names."""
    config = _config(live)
    if config is None:
        return False
    pod_spec = ((live.get("spec") or {}).get("template") or {}).get("spec") or {}
    there = config.access and config.access.model_copy(update={"peers": ""})
    meta = live["metadata"]
    wanted = volumes_of(access, meta["labels"][naming.MODEL_LABEL])
    is_told = there == contract_of(access, meta["namespace"])
    return is_told and mounted(pod_spec.get("volumes")) == mounted(wanted)


def _config(live: Manifest) -> contract.ServingConfig | None:
    """What a Deployment's model servers are told, or None where it cannot be read."""
    env = _container(live, "containers", naming.SERVER_CONTAINER).get("env") or ()
    text = next((found.get("value") for found in env if found["name"] == contract.SERVING_CONFIG_ENV), None)
    try:
        return contract.ServingConfig.model_validate_json(text or "")
    except ValueError:
        return None


def settings_of(live: Manifest) -> Settings | None:
    """What the installation had decided when a Deployment was applied last; None if somebody else made it."""
    fetch = _container(live, "initContainers", naming.FETCH_CONTAINER)
    if not fetch:
        return None
    env = {found["name"]: found.get("value", "") for found in fetch.get("env") or ()}
    config = _config(live)
    return Settings(
        server_image=str(fetch.get("image", "")),
        image_pull_policy=str(fetch.get("imagePullPolicy", "")),
        mlflow_tracking_uri=str(env.get(contract.MLFLOW_TRACKING_URI_ENV, "")),
        cuda_image=server_image(live) if config is not None and config.device == "CUDA" else "",
    )


def _container(live: Manifest, kind: str, name: str) -> Manifest:
    pod_spec = ((live.get("spec") or {}).get("template") or {}).get("spec") or {}
    return next((found for found in pod_spec.get(kind) or () if found["name"] == name), {})


def grace_seconds(request_timeout_milliseconds: int) -> int:
    """Drain, then the longest answer still under way, then a margin."""
    longest = math.ceil(request_timeout_milliseconds / 1000)
    return DRAIN_SECONDS + max(LEAST_GRACE_SECONDS, longest + 5)


def _pod_spec(
    owner: Owner,
    revision: Revision,
    settings: Settings,
    options: PodOptions,
    own: PodOptions,
    access: Access | None,
) -> dict[str, Any]:
    uri = revision.model.resolvedURI
    return {
        **pod.identity(owner, options, own, settings.image_pull_secrets),
        # Hundreds of Services in a namespace would otherwise become thousands of variables.
        "enableServiceLinks": False,
        "securityContext": pod.POD_SECURITY,
        "terminationGracePeriodSeconds": grace_seconds(revision.runtime.requestTimeoutMilliseconds),
        "initContainers": [fetch_container(revision, settings)],
        "containers": [
            external_server(owner, revision, settings, room(revision))
            if is_external(revision.runtime)
            else _server(owner, revision, settings, access)
        ],
        "volumes": [
            {"name": "model", "emptyDir": pod.scratch(room(revision))},
            {"name": "tmp", "emptyDir": pod.scratch(pod.SCRATCH_MEBIBYTES)},
            *pod.claim_volume(uri),
            *_keys_volume(revision.feedback),
            *volumes_of(access, owner.name),
        ],
        "topologySpreadConstraints": pod.spread(options, naming.pod_selector(owner.name, revision.name)),
        **pod.placement(revision.runtime),
        **pod.classes(options),
    }


def server_inputs(inputs: Inputs) -> contract.Inputs:
    """As the server reads them: each column with its place in a row."""
    columns = tuple(
        contract.InputColumn(
            name=column.name,
            tensor=tensor.name,
            column=place,
            type=column.type,
            minimum=None if column.minimum is None else float(column.minimum),
            maximum=None if column.maximum is None else float(column.maximum),
            nullable=column.nullable,
            enum=column.enum,
        )
        for tensor in inputs.tensors
        for place, column in enumerate(tensor.columns)
    )
    return contract.Inputs(columns=columns, onViolation=inputs.onViolation)


def _watched(revision: Revision) -> dict[str, Any]:
    """What the server is told of what it counts; nothing where nothing was asked for."""
    told: dict[str, Any] = {}
    if revision.feedback is not None:
        told["feedbackMaxAgeDays"] = revision.feedback.maxAgeDays
    if revision.fairness is not None:
        told["sensitiveAttributes"] = tuple(
            contract.SensitiveAttribute(
                name=each.name,
                groups=each.groups,
                tensor=each.tensor or "",
                column=each.column,
                parameter=each.parameter or "",
                header=each.header or "",
            )
            for each in revision.fairness.sensitiveAttributes
        )
        told["favorableOutcomes"] = revision.fairness.favorableOutcomes
    if revision.freshness is not None:
        found = revision.freshness
        told["freshness"] = contract.Freshness(
            source=found.source,
            name=found.name,
            maxAgeSeconds=found.maxAgeSeconds,
            column=found.column,
        )
    if revision.suspects:
        told["suspectInputs"] = revision.suspects
    return told


def _keys_volume(feedback: Feedback | None) -> list[dict[str, Any]]:
    """The keys of feedback tokens, which only the server sees."""
    if feedback is None:
        return []
    return [{"name": "feedback-keys", "secret": {"secretName": feedback.secretRef.name}}]


def _keys_mount(feedback: Feedback | None) -> list[dict[str, Any]]:
    if feedback is None:
        return []
    return [{"name": "feedback-keys", "mountPath": contract.FEEDBACK_KEYS_DIR, "readOnly": True}]


def serving_config(owner: Owner, revision: Revision, access: Access | None) -> contract.ServingConfig:
    """What a model server is told of a revision.

    Args:
        owner: the ModelDeployment.
        revision: what is served.
        access: who may ask, as the ModelDeployment says it now.
    """
    runtime = revision.runtime
    return contract.ServingConfig(
        modelName=owner.name,
        modelVersion=revision.model.version,
        digest=revision.model.digest,
        threads=runtime.threads,
        requestTimeoutMilliseconds=runtime.requestTimeoutMilliseconds,
        drainSeconds=DRAIN_SECONDS,
        processes=runtime.processes,
        batching=runtime.batching.mode,
        maxBatchRows=runtime.batching.maxRows,
        device=runtime.device,
        **({} if revision.inputs is None else {"inputs": server_inputs(revision.inputs)}),
        **_watched(revision),
        **(
            {}
            if access is None
            else {
                "access": contract_of(
                    access, owner.namespace, naming.revision_object(owner.name, revision.name)
                )
            }
        ),
    )


def _server(owner: Owner, revision: Revision, settings: Settings, access: Access | None) -> dict[str, Any]:
    runtime = revision.runtime
    config = serving_config(owner, revision, access)
    # A kubelet looks at no certificate, and shows none.
    scheme = "HTTP" if access is None or access.tls is None else "HTTPS"
    return {
        "name": naming.SERVER_CONTAINER,
        "image": image_of(revision, settings),
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["slipway-server"],
        "env": [
            # Defaults are left out: a server of its own version in spec.runtime.image may not know them all.
            {"name": contract.SERVING_CONFIG_ENV, "value": config.model_dump_json(exclude_defaults=True)},
            *pod.without_credentials(revision.service_account),
            *pod.plain_env(runtime.env),
        ],
        "ports": [
            {"name": "http", "containerPort": contract.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": contract.GRPC_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": contract.ADMIN_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "http", "scheme": scheme},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": contract.LIVE_PATH, "port": "http", "scheme": scheme},
            "initialDelaySeconds": 15,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "resources": pod.on_disk(pod.resources(runtime.resources), room(revision) + pod.SCRATCH_MEBIBYTES),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "model", "mountPath": contract.MODEL_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": contract.TMP_DIR},
            *_keys_mount(revision.feedback),
            *mounts_of(access, owner.name),
        ],
    }
