"""Every manifest that Slipway builds, as a golden file; and what has to hold of each.

``SLIPWAY_REGENERATE=1 pytest tests/unit/core/test_manifests.py`` writes the files anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway import contract
from slipway.api.status import ModelStatus
from slipway.api.types import MAX_NAME_LENGTH, ModelDeploymentSpec, Scaling
from slipway.api.verdicts import VerdictStatus
from slipway.core import naming
from slipway.core.objects.audit import audit_job
from slipway.core.objects.autoscaler import autoscaler
from slipway.core.objects.cluster_keys import cluster_keys
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.deployment import deployment, grace_seconds
from slipway.core.objects.diff import contains, quantity
from slipway.core.objects.disruption_budget import disruption_budget
from slipway.core.objects.issuer_keys import issuer_keys, key_sets
from slipway.core.objects.job import breach_job
from slipway.core.objects.metadata import Owner
from slipway.core.objects.resolver import resolver_pod
from slipway.core.objects.service import revision_service, stable_service
from slipway.core.objects.service_account import service_account
from slipway.core.observed import Observed
from slipway.core.revision import Settings, revision_of
from tests.unit.core.tables import OWNER, SETTINGS, digest

GOLDEN = Path(__file__).parent / "golden"

SMALLEST = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud@champion"}})
LARGEST = ModelDeploymentSpec.model_validate(
    {
        "model": {
            "uri": "pvc://models/fraud/model.onnx",
            "digest": digest(7),
            "credentials": {"secretRef": {"name": "store"}},
        },
        "runtime": {
            "image": "registry.example.com/server:2",
            "resources": {"requests": {"cpu": 1, "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
            "threads": 4,
            "requestTimeoutMilliseconds": 500,
            "nodeSelector": {"disktype": "ssd"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
            "env": [{"name": "OMP_NUM_THREADS", "value": "4"}, {"name": "EMPTY"}],
        },
        "inputs": {
            "tensors": [
                {
                    "name": "x",
                    "columns": [
                        {
                            "name": "age",
                            "type": "Integer",
                            "minimum": 18,
                            "maximum": "110.5",
                            "nullable": False,
                        },
                        {"name": "channel", "enum": ["0", "1"]},
                    ],
                },
                {"name": "colour", "columns": [{"name": "colour", "type": "String"}]},
            ],
            "onViolation": "Report",
        },
        "monitoring": {
            "drift": {"psi": {"warning": "0.1"}},
            "performance": {
                "feedback": {"secretRef": {"name": "feedback"}, "maxAgeDays": 30},
                "objectives": [{"metric": "Accuracy", "minimum": "82%"}],
            },
            "onBreach": {
                "action": "Job",
                "job": {
                    "image": "registry.example.com/train:1",
                    "command": ["train"],
                    "args": ["--register"],
                    "env": [{"name": "EPOCHS", "value": "3"}],
                    "secretRefs": [{"name": "mlflow"}],
                },
            },
            "freshness": {"source": "Tensor", "name": "x", "column": 1, "maxAgeSeconds": 3600},
            "suspectInputs": {"detectors": ["Turned", "Nearby"]},
        },
        "fairness": {
            "sensitiveAttributes": [
                {"name": "sex", "parameter": "sex", "groups": ["female", "male"]},
                {"name": "young", "tensor": "x", "column": 1, "groups": ["0", "1"]},
                {"name": "region", "header": "X-Region", "groups": ["north"]},
            ],
            "favorableOutcomes": ["1"],
        },
        "rollout": {
            "audits": [
                {
                    "name": "groups",
                    "type": "Subgroups",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}, "digest": digest(9)},
                    "labelColumn": "repaid",
                    "attributes": [{"column": "sex", "groups": ["female", "male"], "referenceGroup": "male"}],
                    "favorableOutcomes": ["1"],
                    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
                    "maxAccuracyLoss": "2%",
                    "timeoutSeconds": 900,
                },
                {
                    "name": "noise",
                    "type": "CertifiedSmoothing",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
                    "labelColumn": "repaid",
                    "robustness": {"radius": "0.25", "noise": "0.5", "fixedColumns": ["age"]},
                    "maxAccuracyLoss": "5%",
                },
                {
                    "name": "evasion",
                    "type": "Evasion",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
                    "labelColumn": "repaid",
                    "robustness": {"radius": "0.25", "attack": "Boundary"},
                    "minimumAccuracy": "60%",
                },
            ]
        },
        "scaling": {"minReplicas": 2, "maxReplicas": 5, "metrics": [{"type": "CPU", "targetPercent": 50}]},
    }
)
GUARDED = ModelDeploymentSpec.model_validate(
    {
        "model": {
            "uri": "s3://models/fraud/model.onnx",
            "credentials": {"serviceAccountName": "reader"},
            "verify": {
                "signature": {"publicKeys": {"configMapRef": {"name": "signers", "key": "ours.pem"}}},
                "hazards": {"onFinding": "Report", "allowedOperatorDomains": ["com.example"]},
            },
        },
        "access": {
            "apiKeys": {"secretRef": {"name": "callers"}},
            "issuers": [
                {
                    "name": "company",
                    "issuer": "https://id.example.com",
                    "audiences": ["fraud"],
                    "jwks": {"configMapKeyRef": {"name": "keys", "key": "jwks.json"}},
                    "callerClaim": "email",
                    "requiredClaims": [{"name": "groups", "values": ["risk"]}],
                },
                {
                    "name": "partner",
                    "issuer": "https://id.example.org",
                    "audiences": ["fraud"],
                    "jwks": {"uri": "https://id.example.org/keys"},
                },
            ],
            "serviceAccounts": {},
            "tls": {
                "secretRef": {"name": "fraud-tls"},
                "clientCA": {"secretKeyRef": {"name": "clients", "key": "ca.crt"}},
            },
            "allow": [
                {"callers": ["key:shop"], "actions": ["Infer", "Feedback"]},
                {"callers": ["*"], "actions": ["Metadata"]},
            ],
            "limits": {
                "perCaller": {"requestsPerSecond": 50, "burst": 100, "rowsPerDay": 100000},
                "anonymous": {"concurrent": 4, "bytesInFlight": 1048576},
            },
        },
    }
)
EXTERNAL = ModelDeploymentSpec.model_validate(
    {
        "model": {"uri": "oci://registry.example.com/models/fraud:2"},
        "runtime": {
            "server": "External",
            "image": "registry.example.com/mlserver:1",
            "command": ["mlserver"],
            "args": ["start", "$(SLIPWAY_MODEL_DIR)"],
            "ports": {"http": 9000, "grpc": 9001},
            "readiness": {"path": "/v2/health/ready"},
            "protocol": "OpenInference",
            "resources": {"extended": {"nvidia.com/gpu": 1}},
            "pod": {"runtimeClassName": "nvidia", "priorityClassName": "high"},
        },
    }
)
SPECS = {"smallest": SMALLEST, "largest": LARGEST, "guarded": GUARDED, "external": EXTERNAL}
MODELS = {
    "smallest": ModelStatus(
        uri="mlflow://fraud@champion",
        resolvedURI="mlflow://fraud/3",
        version="3",
        digest=digest(3),
        bytes=4096,
    ),
    "largest": ModelStatus(
        uri="pvc://models/fraud/model.onnx",
        resolvedURI="pvc://models/fraud/model.onnx",
        version="model.onnx",
        digest=digest(7),
        bytes=1 << 20,
    ),
    "guarded": ModelStatus(
        uri="s3://models/fraud/model.onnx",
        resolvedURI="s3://models/fraud/model.onnx?versionId=a",
        version="a",
        digest=digest(5),
        bytes=4096,
    ),
    "external": ModelStatus(
        uri="oci://registry.example.com/models/fraud:2",
        resolvedURI=f"oci://registry.example.com/models/fraud@{digest(4)}",
        version=digest(4),
        digest=digest(6),
        bytes=4096,
    ),
}


VERDICT = VerdictStatus(
    type="Drift",
    status="True",
    reason="FeaturesDrifted",
    message="1 of 3 features moved; age: PSI 0.3 beyond noise",
    judgedAt="2026-11-24T12:00:00Z",
    countedSince="2026-11-24T11:00:00Z",
)


def built(kind: str, owner: Owner = OWNER) -> dict[str, dict[str, Any]]:
    """Every manifest of one spec, by the name of its golden file."""
    spec = SPECS[kind]
    revision = revision_of(spec, MODELS[kind])
    manifests = {
        "resolver": resolver_pod(owner, spec, SETTINGS),
        "service-account": service_account(owner),
        "controller-revision": controller_revision(owner, revision, 3),
        "deployment": deployment(owner, revision, SETTINGS, spec.runtime.pod, spec.access),
        "revision-service": revision_service(owner, revision.name),
        "autoscaler": autoscaler(owner, revision.name, spec.scaling, 0),
        "disruption-budget": disruption_budget(owner, revision.name),
        "stable-service": stable_service(owner, revision.name),
    }
    if spec.access is not None:
        manifests["cluster-keys"] = cluster_keys(owner, '{"issuer": "https://cluster", "keys": []}')
        issuers = key_sets(spec, owner, Observed(issuer_keys={"https://id.example.org/keys": '{"keys": []}'}))
        manifests["issuer-keys"] = issuer_keys(
            owner, {name: text for name, text in issuers.items() if text is not None}
        )
    breach = spec.monitoring.onBreach if spec.monitoring else None
    if breach is not None and breach.job is not None:
        name = naming.breach_job(owner.name, ["Drift", VERDICT.judgedAt])
        manifests["breach-job"] = breach_job(owner, name, breach.job, revision, VERDICT)
    for audit in spec.rollout.audits:
        name = naming.audit_job(owner.name, [owner.uid, audit.name])
        before = revision_of(SMALLEST, MODELS["smallest"])
        kind_of_job = {"Subgroups": "audit", "CertifiedSmoothing": "smoothing", "Evasion": "evasion"}[
            audit.type
        ]
        job = audit_job(owner, name, audit, revision, before, SETTINGS, spec.runtime.pod)
        manifests[f"{kind_of_job}-job"] = job
    return {f"{kind}-{name}": manifest for name, manifest in manifests.items()}


MANIFESTS = {name: manifest for kind in SPECS for name, manifest in built(kind).items()}
POD_SPECS = {
    name: manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
    for name, manifest in MANIFESTS.items()
    if manifest["kind"] in ("Pod", "Deployment", "Job")
}
DEPLOYMENTS = [name for name in MANIFESTS if name.endswith("-deployment")]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifest_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.dump(json.loads(json.dumps(MANIFESTS[name])), sort_keys=False, width=110)
    if os.environ.get("SLIPWAY_REGENERATE"):
        path.write_text(text)
    assert path.read_text() == text, "if that is meant: SLIPWAY_REGENERATE=1"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MANIFESTS)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_child_is_owned_and_labelled_as_its_model_deployments(name: str) -> None:
    meta = MANIFESTS[name]["metadata"]
    assert meta["namespace"] == OWNER.namespace
    assert meta["ownerReferences"] == [
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "name": OWNER.name,
            "uid": OWNER.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert meta["labels"][naming.MODEL_LABEL] == OWNER.name
    assert meta["labels"][naming.MANAGED_BY_LABEL] == "slipway"


@pytest.mark.parametrize("name", POD_SPECS)
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    spec = POD_SPECS[name]
    allowed = {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected", "ephemeral"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] != 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in _containers(spec):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security.get("privileged", False) is False
        assert all("hostPort" not in port for port in container.get("ports", ()))


@pytest.mark.parametrize("name", POD_SPECS)
def test_pods_have_no_token_a_read_only_root_and_room_to_write_in_memory_of_their_own(name: str) -> None:
    spec = POD_SPECS[name]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == ("reader" if name.startswith("guarded-") else "fraud-model")
    assert spec["enableServiceLinks"] is False
    for container in _containers(spec):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"name": "tmp", "mountPath": contract.TMP_DIR} in container["volumeMounts"]
        assert container["terminationMessagePath"] == contract.TERMINATION_PATH
        # Without limits of its own a pod is refused where a quota counts memory.
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
    assert MANIFESTS["smallest-service-account"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", [one for one in DEPLOYMENTS if not one.startswith("external-")])
def test_probes_ask_what_the_contract_names_and_the_end_of_a_pod_asks_nothing(name: str) -> None:
    (server,) = POD_SPECS[name]["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"http": contract.HTTP_PORT, "grpc": contract.GRPC_PORT, "admin": contract.ADMIN_PORT}
    assert server["readinessProbe"]["httpGet"]["path"] == contract.READY_PATH
    assert server["livenessProbe"]["httpGet"]["path"] == contract.LIVE_PATH
    assert "lifecycle" not in server, "SIGTERM drains; nobody else may"


@pytest.mark.parametrize("milliseconds", [1, 2000, 30_000, 3_600_000])
def test_the_grace_period_outlasts_the_drain_and_the_longest_answer(milliseconds: int) -> None:
    spec = LARGEST.model_copy(
        update={"runtime": LARGEST.runtime.model_copy(update={"requestTimeoutMilliseconds": milliseconds})}
    )
    manifest = deployment(
        OWNER, revision_of(spec, MODELS["largest"]), Settings("slipway.dev/server:dev", "Always")
    )
    pod_spec = manifest["spec"]["template"]["spec"]
    config = _serving_config(pod_spec["containers"][0])
    assert config.requestTimeoutMilliseconds == milliseconds
    assert pod_spec["terminationGracePeriodSeconds"] == grace_seconds(milliseconds)
    assert pod_spec["terminationGracePeriodSeconds"] > config.drainSeconds + milliseconds / 1000


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_rolling_a_deployment_never_takes_a_pod_before_another_is_ready(name: str) -> None:
    spec = MANIFESTS[name]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in spec, "that is the autoscaler's"
    assert MANIFESTS[name.replace("deployment", "disruption-budget")]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_selectors_find_the_pods_of_one_revision(name: str) -> None:
    kind = name.partition("-")[0]
    labels = MANIFESTS[name]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        MANIFESTS[name]["spec"]["selector"]["matchLabels"],
        MANIFESTS[f"{kind}-stable-service"]["spec"]["selector"],
        MANIFESTS[f"{kind}-revision-service"]["spec"]["selector"],
        MANIFESTS[f"{kind}-disruption-budget"]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert naming.REVISION_LABEL in selector
        assert not selector.items() <= MANIFESTS[f"{kind}-resolver"]["metadata"]["labels"].items()


def test_what_the_pods_are_told_can_be_read_by_the_contract() -> None:
    spec = POD_SPECS["largest-deployment"]
    (fetch,), (server,) = spec["initContainers"], spec["containers"]
    assert _serving_config(server) == contract.ServingConfig(
        modelName="fraud",
        modelVersion="model.onnx",
        digest=digest(7),
        threads=4,
        requestTimeoutMilliseconds=500,
        inputs=contract.Inputs(
            columns=(
                contract.InputColumn(
                    name="age",
                    tensor="x",
                    column=0,
                    type="Integer",
                    minimum=18,
                    maximum=110.5,
                    nullable=False,
                ),
                contract.InputColumn(name="channel", tensor="x", column=1, enum=("0", "1")),
                contract.InputColumn(name="colour", tensor="colour", column=0, type="String"),
            ),
            onViolation="Report",
        ),
        feedbackMaxAgeDays=30,
        sensitiveAttributes=(
            contract.SensitiveAttribute(name="sex", groups=("female", "male"), parameter="sex"),
            contract.SensitiveAttribute(name="young", groups=("0", "1"), tensor="x", column=1),
            contract.SensitiveAttribute(name="region", groups=("north",), header="X-Region"),
        ),
        favorableOutcomes=("1",),
        freshness=contract.Freshness(source="Tensor", name="x", column=1, maxAgeSeconds=3600),
        suspectInputs=("Nearby", "Turned"),
    )
    task = contract.FetchTask.model_validate_json(_env(fetch)[contract.MODEL_TASK_ENV])
    assert (task.uri, task.digest) == ("pvc://models/fraud/model.onnx", digest(7))
    (resolve,) = POD_SPECS["largest-resolver"]["containers"]
    asked = contract.ResolveTask.model_validate_json(_env(resolve)[contract.MODEL_TASK_ENV])
    assert (asked.uri, asked.digest) == ("pvc://models/fraud/model.onnx", digest(7))


def test_processes_and_batching_reach_the_server_and_defaults_are_left_unsaid() -> None:
    runtime = {"processes": 2, "batching": {"mode": "Off", "maxRows": 16}}
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/3"}, "runtime": runtime})
    revision = revision_of(spec, MODELS["smallest"])
    manifest = deployment(OWNER, revision, SETTINGS)
    config = _serving_config(manifest["spec"]["template"]["spec"]["containers"][0])
    assert (config.processes, config.batching, config.maxBatchRows) == (2, "Off", 16)
    (server,) = POD_SPECS["smallest-deployment"]["containers"]
    assert set(json.loads(_env(server)[contract.SERVING_CONFIG_ENV])) == {
        "modelName",
        "modelVersion",
        "digest",
    }


def test_every_pod_fetches_the_pinned_uri_never_the_moving_one() -> None:
    (fetch,) = POD_SPECS["smallest-deployment"]["initContainers"]
    task = contract.FetchTask.model_validate_json(_env(fetch)[contract.MODEL_TASK_ENV])
    assert (task.uri, task.digest) == ("mlflow://fraud/3", digest(3))
    assert _env(fetch)[contract.MLFLOW_TRACKING_URI_ENV] == SETTINGS.mlflow_tracking_uri


def test_only_the_containers_that_fetch_see_the_credentials() -> None:
    secret = [{"prefix": contract.CREDENTIAL_ENV_PREFIX, "secretRef": {"name": "store"}}]
    spec = POD_SPECS["largest-deployment"]
    assert spec["initContainers"][0]["envFrom"] == secret
    assert POD_SPECS["largest-resolver"]["containers"][0]["envFrom"] == secret
    assert "envFrom" not in spec["containers"][0]
    assert "store" not in json.dumps(spec["containers"])
    assert all("envFrom" not in found for found in _containers(POD_SPECS["smallest-deployment"]))


def test_a_claim_is_mounted_read_only_where_the_model_is_fetched_and_nowhere_else() -> None:
    mount = {"name": "claim", "mountPath": contract.PVC_MOUNT_DIR, "readOnly": True}
    for name in ("largest-deployment", "largest-resolver"):
        volume = {"name": "claim", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
        assert volume in POD_SPECS[name]["volumes"]
        assert mount in _containers(POD_SPECS[name])[0]["volumeMounts"]
    assert mount not in POD_SPECS["largest-deployment"]["containers"][0]["volumeMounts"]
    assert all("persistentVolumeClaim" not in found for found in POD_SPECS["smallest-resolver"]["volumes"])


def test_a_cpu_request_is_there_for_the_autoscaler_to_measure_against() -> None:
    assert POD_SPECS["smallest-deployment"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"
    asked = POD_SPECS["largest-deployment"]["containers"][0]["resources"]
    assert asked["requests"].items() >= {"cpu": "1", "memory": "512Mi"}.items()
    assert asked["limits"].items() >= {"cpu": "2", "memory": "2Gi"}.items()


@pytest.mark.parametrize("size", [1, 5 * 2**20, 3 * 2**30])
def test_a_pod_asks_for_as_much_of_the_disk_as_its_model_may_take_and_gets_no_more(size: int) -> None:
    model = MODELS["largest"].model_copy(update={"bytes": size})
    spec = deployment(OWNER, revision_of(LARGEST, model), Settings("slipway.dev/server:dev", "Always"))[
        "spec"
    ]["template"]["spec"]
    (fetch,), (server,) = spec["initContainers"], spec["containers"]
    sizes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume}
    model_room, scratch = (quantity(sizes[name]["sizeLimit"]) for name in ("model", "tmp"))
    task = contract.FetchTask.model_validate_json(
        next(each["value"] for each in fetch["env"] if each["name"] == contract.MODEL_TASK_ENV)
    )
    # The last block of each file is counted whole, and directories take room too.
    assert size < (task.maxBytes or 0) <= model_room * 100 / 105
    for container in (fetch, server):
        requests, limits = (container["resources"][kind] for kind in ("requests", "limits"))
        asked, most = quantity(requests["ephemeral-storage"]), quantity(limits["ephemeral-storage"])
        assert asked == model_room + scratch
        assert most - asked >= 100 * 2**20, "room for the logs of its containers"


def test_a_size_that_the_api_server_writes_otherwise_is_the_same() -> None:
    assert contains({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "1024Mi"}})
    assert not contains({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "1023Mi"}})
    assert not contains({"emptyDir": {}}, {"emptyDir": {"sizeLimit": "1023Mi"}})


@pytest.mark.parametrize(
    ("floor", "least"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5), (9, 5)], ids=lambda number: str(number)
)
def test_the_floor_lifts_the_autoscalers_minimum_within_the_bounds(floor: int, least: int) -> None:
    scaling = Scaling(minReplicas=2, maxReplicas=5)
    assert autoscaler(OWNER, "r", scaling, floor)["spec"]["minReplicas"] == least


def test_every_name_and_label_of_the_longest_allowed_name_fits() -> None:
    owner = Owner("a" * MAX_NAME_LENGTH, "n", "u")
    for kind in ("smallest", "largest"):
        for manifest in built(kind, owner).values():
            assert len(manifest["metadata"]["name"]) <= 63
            assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _env(container: dict[str, Any]) -> dict[str, str]:
    return {var["name"]: var.get("value", "") for var in container["env"]}


def _serving_config(server: dict[str, Any]) -> contract.ServingConfig:
    return contract.ServingConfig.model_validate_json(_env(server)[contract.SERVING_CONFIG_ENV])


def test_attacks_alone_run_in_the_image_that_has_them() -> None:
    settings = replace(SETTINGS, audit_image="slipway.dev/audit:1")
    revision = revision_of(LARGEST, MODELS["largest"])
    images = {
        audit.type: {
            container["name"]: container["image"]
            for field in ("initContainers", "containers")
            for container in audit_job(OWNER, "job", audit, revision, None, settings, LARGEST.runtime.pod)[
                "spec"
            ]["template"]["spec"][field]
        }
        for audit in LARGEST.rollout.audits
    }
    assert images.pop("Evasion")["audit"] == "slipway.dev/audit:1"
    own = {image for found in images.values() for image in found.values()}
    assert own == {SETTINGS.server_image}
