"""The accept and refuse table of the CRD: every bound, enum, pattern, required field and CEL rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from e2e.tests.schema_access_table import ACCESS
from e2e.tests.schema_audits_table import AUDITS_TABLE
from e2e.tests.schema_breach_table import BREACHES, of_job
from e2e.tests.schema_card_table import CARD, FRESHNESS, SUSPECTS
from e2e.tests.schema_cases import DIGEST, EXAMPLE, Case
from e2e.tests.schema_external_table import OWN_SERVER
from e2e.tests.schema_inputs_table import INPUTS
from e2e.tests.schema_monitoring_table import MONITORING
from e2e.tests.schema_pods_table import PODS
from e2e.tests.schema_rollout_table import ROLLOUT
from e2e.tests.schema_shapes import INT32, bounds, choice, moment, profile, required, text
from e2e.tests.schema_traffic_table import TRAFFIC
from e2e.tests.schema_verify_table import DECISIONS, VERIFY, built

URI = "spec.model.uri"
RUNTIME = "spec.runtime"
RESOURCES = f"{RUNTIME}.resources"
TOLERATION = f"{RUNTIME}.tolerations.*"


def _quantity(path: str, accepts: Any) -> Iterator[Case]:
    """``accepts`` keeps requests at or below limits."""
    says = "must be a quantity that is not negative, such as 500m, 2 or 1Gi"
    for wrong in ("1ki", "1 Gi", "1GB", "0.5.1", "", "one", "1e"):
        yield Case(path, "rule", accepts, wrong, says)
    also = "must not be above" if "limits" in path else "must be above 0" if path.endswith("cpu") else ""
    yield Case(path, "rule", accepts, "-1", says, also=also)
    least = 2**40 if path.endswith("limits.memory") else 1
    yield Case(path, "minimum", least, -1, "should be greater than or equal to 0", also=also)
    exponent = "e00" if path.endswith("cpu") else "e12" if "limits" in path else "e06"
    longest = "0" * 14 + "1." + "0" * 9 + exponent
    yield Case(path, "maxLength", longest, "0" + longest, "Too long: may not be more than 28 bytes")


def _revision(path: str) -> Iterator[Case]:
    yield from required(path, "revision", "version", "digest")
    yield text(f"{path}.revision", 63)
    yield text(f"{path}.version", 256)
    yield text(f"{path}.digest", 71)
    yield from bounds(f"{path}.replicas", 0, INT32)
    yield from bounds(f"{path}.readyReplicas", 0, INT32)
    yield from moment(f"{path}.modelCreatedAt")
    yield from profile(f"{path}.profile")
    yield text(f"{path}.resolvedURI", 1024)
    yield from built(f"{path}.provenance")
    yield from bounds(f"{path}.bytes", 0, None)
    yield from required(f"{path}.server", "httpPort", "readyPath")
    yield from bounds(f"{path}.server.httpPort", 1, 65535)
    yield from bounds(f"{path}.server.grpcPort", 1, 65535)
    yield text(f"{path}.server.readyPath", 256)
    yield from choice(f"{path}.device", "CUDA")
    yield from required(f"{path}.crashes", "since", "runs", "servers")
    yield from moment(f"{path}.crashes.since")
    yield from bounds(f"{path}.crashes.runs", 0, INT32)
    yield from bounds(f"{path}.crashes.servers", 0, INT32)


def _conditions(count: int) -> list[dict[str, Any]]:
    condition = EXAMPLE["status"]["conditions"][0]
    return [condition | {"type": f"Type{index}"} for index in range(count)]


METADATA = [
    Case("", "rule", "a" * 45, "a" * 46, "metadata.name must have at most 45 characters", "metadata.name"),
    Case("", "rule", "a1-b", "1a", "metadata.name must start with a lower case letter", "metadata.name"),
    Case("", "rule", "a", "a.b", "metadata.name must start with a lower case letter", "metadata.name"),
]

MODEL = [
    *required("", "spec"),
    *required("spec", "model"),
    *required("spec.model", "uri"),
    text(URI, 1024, head="https://example.com/"),
    *(
        Case(
            URI,
            "rule",
            "https://example.com/m.onnx",
            wrong,
            "uri must start with mlflow://, https://, pvc://, s3://, gs://, az://, dvc:// or oci://",
        )
        for wrong in (
            "",
            "fraud",
            "ftp://example.com/m.onnx",
            "http://example.com/m.onnx",
            "MLFLOW://fraud/1",
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "an MLflow model is mlflow://NAME@ALIAS or mlflow://NAME/VERSION")
        for right, wrong in (
            ("mlflow://fraud@champion", "mlflow://fraud"),
            ("mlflow://fraud/1", "mlflow://fraud/0"),
            ("mlflow://fraud score/12", "mlflow://fraud/latest"),
            ("mlflow://fraud@v-1.0_x", "mlflow://fraud@"),
            ("mlflow://f@c", "mlflow://@c"),
            ("mlflow://f@c", "mlflow://a/b@c"),
            ("mlflow://f@c", "mlflow://f@c/1"),
            ("mlflow://f@c", "mlflow://f?x@c"),
            ("mlflow://f@c", "mlflow://f:2@c"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model on a volume is pvc://CLAIM/PATH")
        for right, wrong in (
            ("pvc://models/fraud/model.onnx", "pvc://models"),
            ("pvc://models.v2/a", "pvc://models/"),
            ("pvc://m/a", "pvc:///a"),
            ("pvc://m/a", "pvc://Models/a"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "the path on a volume must not contain '..'")
        for right, wrong in (
            ("pvc://models/a..b", "pvc://models/../b"),
            ("pvc://models/..a/b", "pvc://models/a/.."),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model in S3 is s3://BUCKET/KEY")
        for right, wrong in (
            ("s3://models/fraud/7/model.onnx", "s3://models"),
            ("s3://models/fraud/7/", "s3://models/"),
            ("s3://my.models/a", "s3://Models/a"),
            ("s3://my-models/a@b", "s3://key:secret@models/a"),
            ("s3://models/a?versionId=b_1.c", "s3://models/a?version=b"),
            ("s3://models/a?versionId=b", "s3://models/a?versionId=b&c=d"),
            ("s3://models/a", "s3://models/a#b"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model in Google Cloud Storage is gs://BUCKET/KEY")
        for right, wrong in (
            ("gs://models/fraud/7/model.onnx", "gs://models"),
            ("gs://my_models/fraud/7/", "gs://models/"),
            ("gs://my.models/a", "gs://Models/a"),
            ("gs://models/a#12", "gs://models/a#latest"),
            ("gs://models/a", "gs://models/a?generation=12"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model in Azure Blob Storage is az://ACCOUNT/CONTAINER/KEY")
        for right, wrong in (
            ("az://lake/models/fraud/7/model.onnx", "az://lake/models"),
            ("az://lake/my-models/fraud/7/", "az://lake/my--models/a"),
            ("az://lake/$web/a", "az://lake/$other/a"),
            ("az://lake/models/a", "az://Lake/models/a"),
            ("az://lake/models/a", "az://lake/models/a?snapshot=1"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model that DVC keeps is dvc://HOST/ORG/REPO/PATH@REV")
        for right, wrong in (
            ("dvc://github.com/shop/models/fraud.onnx@v1.4", "dvc://github.com/shop/models/fraud.onnx"),
            ("dvc://git.example.com:8443/shop/models/a/b.onnx@feature/x", "dvc://github.com/shop/models@v1"),
            ("dvc://github.com/shop/models/a@fraud@v1.2.3", "dvc://user:secret@github.com/shop/models/a@v1"),
            ("dvc://github.com/shop/models/a@main", "dvc://github.com/shop/models/a@main#1"),
            ("dvc://github.com/shop/models?artifact=fraud", "dvc://github.com/shop/models"),
            (
                "dvc://github.com/shop/models?artifact=fraud&stage=prod",
                "dvc://github.com/shop/models?stage=prod",
            ),
            (
                "dvc://github.com/shop/models?artifact=a:b&version=1.0.0",
                "dvc://github.com/shop?artifact=fraud",
            ),
            ("dvc://gitlab.com/a/b/c.git?artifact=fraud", "dvc://gitlab.com/a/b/c?artifact=fraud"),
            ("dvc://gitlab.com/a/b/c.git/m.onnx@v1", "dvc://gitlab.com/a/b?artifact=f&stage=a&version=1.0.0"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "a model in a registry is oci://REGISTRY/REPOSITORY")
        for right, wrong in (
            ("oci://ghcr.io/shop/fraud:v7", "oci://ghcr.io"),
            ("oci://localhost:5000/fraud", "oci://ghcr.io/Shop/fraud:v7"),
            (f"oci://ghcr.io/shop/fraud@sha256:{'a' * 64}", "oci://ghcr.io/shop/fraud@sha256:abc"),
            ("oci://ghcr.io/shop/team-a/fraud_x.y:1.0_b", "oci://user:secret@ghcr.io/shop/fraud:v7"),
            ("oci://ghcr.io/fraud", "oci://ghcr.io/fraud?tag=v7"),
        )
    ),
    *(
        Case(URI, "rule", right, wrong, "an https model is https://HOST/PATH without user, query or fragment")
        for right, wrong in (
            ("https://example.com/m.onnx", "https://example.com"),
            ("https://example.com:8443/m", "https://user:secret@example.com/m"),
            ("https://example.com/a@b", "https://example.com/m?token=1"),
            ("https://example.com/a", "https://example.com/m#a"),
        )
    ),
    Case(URI, "rule", "mlflow://a b/1", "mlflow://a\nb/1", "uri must not contain line breaks or control"),
    Case(URI, "rule", "pvc://m/a", "pvc://m/a\0", "uri must not contain line breaks or control"),
    Case("spec.model.digest", "maxLength", DIGEST, DIGEST + "0", "Too long: may not be more than 71 bytes"),
    Case(
        "spec.model.digest", "rule", DIGEST, DIGEST[:-1], "digest must be sha256: and 64 hexadecimal digits"
    ),
    Case("spec.model.digest", "rule", DIGEST, DIGEST[:-1] + "A", "digest must be sha256: and 64 hexadecimal"),
    Case("spec.model.digest", "rule", DIGEST, DIGEST[7:], "digest must be sha256: and 64 hexadecimal digits"),
    *bounds("spec.model.refreshSeconds", 0, 86_400),
    *(
        Case(
            "spec.model.credentials",
            "rule",
            {"secretRef": {"name": "store"}},
            wrong,
            "credentials must have exactly one of secretRef and serviceAccountName",
        )
        for wrong in ({}, {"secretRef": {"name": "store"}, "serviceAccountName": "reader"})
    ),
    *(
        Case(
            "spec.model",
            "rule",
            {"uri": "s3://models/fraud/", "credentials": {"serviceAccountName": "reader"}},
            {"uri": uri, "credentials": {"serviceAccountName": "reader"}},
            "credentials.serviceAccountName enters buckets: s3://, gs://, az://, and those that",
        )
        for uri in ("https://a/b", "oci://a/b", "pvc://a/b", "dvc://a/b/c/d@e")
    ),
    Case(
        "spec",
        "rule",
        {"serviceAccountName": "reader"},
        {"serviceAccountName": "other"},
        "the model's pods run under model.credentials.serviceAccountName; leave",
        at="spec.model.credentials",
    ),
    text("spec.model.credentials.serviceAccountName", 253),
    *(
        Case(
            "spec.model.credentials.serviceAccountName", "rule", right, wrong, "must be a name of lower case"
        )
        for right, wrong in (("a.b", "a..b"), ("a-b", "A"))
    ),
    *required("spec.model.credentials.secretRef", "name"),
    text("spec.model.credentials.secretRef.name", 253),
    *(
        Case(
            "spec.model.credentials.secretRef.name",
            "rule",
            right,
            wrong,
            "must be a name of lower case letters",
        )
        for right, wrong in (
            ("store", ""),
            ("store.v2", "store..v2"),
            ("a-b", "a-"),
            ("a", "A"),
            ("1", "a/b"),
        )
    ),
]

POD = [
    text(f"{RUNTIME}.image", 512),
    *(
        Case(f"{RUNTIME}.image", "rule", right, wrong, "image must be [REGISTRY/]NAME[:TAG][@sha256:DIGEST]")
        for right, wrong in (
            ("", " "),
            ("server", "Server"),
            ("slipway.dev/server:dev", "slipway.dev/server:"),
            ("localhost:5000/a/b-c.d__e:v1", "localhost:5000/"),
            ("a/b@" + DIGEST, "a/b@" + DIGEST[:-1]),
            ("a/b:1@" + DIGEST, "https://a/b"),
        )
    ),
    *_quantity(f"{RESOURCES}.requests.cpu", "1.5"),
    *_quantity(f"{RESOURCES}.requests.memory", "1e6"),
    *_quantity(f"{RESOURCES}.limits.cpu", 3),
    *_quantity(f"{RESOURCES}.limits.memory", "1.5Ti"),
    Case(
        RESOURCES,
        "rule",
        {"requests": {"cpu": "1m"}},
        {"requests": {"cpu": "0.0"}},
        "requests.cpu must be above 0, since scaling counts in percent of it",
    ),
    Case(
        RESOURCES,
        "rule",
        {"limits": {"cpu": "100m"}},
        {"limits": {"cpu": "99m"}},
        "requests.cpu (100m where it is not given) must not be above limits.cpu",
    ),
    Case(
        RESOURCES,
        "rule",
        {"requests": {"cpu": 2}, "limits": {"cpu": "2000m"}},
        {"requests": {"cpu": 2}, "limits": {"cpu": "1999m"}},
        "requests.cpu (100m where it is not given) must not be above limits.cpu",
    ),
    Case(
        RESOURCES,
        "rule",
        {"requests": {"memory": "1024Mi"}},
        {"requests": {"memory": "1025Mi"}},
        "requests.memory (256Mi where it is not given) must not be above limits.memory (1Gi where",
    ),
    Case(
        f"{RESOURCES}.extended",
        "maxProperties",
        {f"a.b/c{index}": 1 for index in range(16)},
        {f"a.b/c{index}": 1 for index in range(17)},
        "Too many: 17: must have at most 16 items",
    ),
    Case(
        f"{RESOURCES}.extended",
        "rule",
        {"a" * 253 + "/" + "b" * 63: 1},
        {"a" * 254 + "/" + "b" * 63: 1},
        "keys must have at most 317 characters",
    ),
    *(
        Case(f"{RESOURCES}.extended", "rule", {right: 1}, {wrong: 1}, "names must be those of extended res")
        for right, wrong in (
            ("nvidia.com/gpu", "gpu"),
            ("nvidia.com/mig-1g.5gb", "nvidia.com/"),
            ("a/b", "A/b"),
            ("a.b/C", "memory"),
            ("a.b/C", "hugepages-2Mi"),
        )
    ),
    *(
        Case(f"{RESOURCES}.extended", "rule", {right: 1}, {wrong: 1}, "names of kubernetes.io and names that")
        for right, wrong in (
            ("example.com/gpu", "kubernetes.io/gpu"),
            ("example.com/gpu", "node.kubernetes.io/gpu"),
            ("a.requests/gpu", "requests.example.com/gpu"),
        )
    ),
    *bounds(f"{RESOURCES}.extended.*", 1, 1024),
    *choice(f"{RUNTIME}.device", "CPU", "CUDA"),
    *(
        Case(
            RUNTIME,
            "rule",
            {"device": "CUDA", "resources": {"extended": {right: 1}}},
            {"device": "CUDA", **wrong},
            "device: CUDA needs a GPU: ask for one in resources.extended, such as nvidia.com/gpu: 1",
        )
        for right, wrong in (
            ("nvidia.com/gpu", {}),
            ("nvidia.com/mig-1g.5gb", {"resources": {"limits": {"cpu": 1}}}),
            ("example.com/gpu", {"resources": {"extended": {}}}),
        )
    ),
    *bounds(f"{RUNTIME}.threads", 1, 256),
    *bounds(f"{RUNTIME}.processes", 0, 64),
    *choice(f"{RUNTIME}.batching.mode", "Auto", "Off"),
    *bounds(f"{RUNTIME}.batching.maxRows", 1, 128),
    *bounds(f"{RUNTIME}.requestTimeoutMilliseconds", 1, 3_600_000),
    Case(
        f"{RUNTIME}.nodeSelector",
        "maxProperties",
        {f"k{index}": "" for index in range(32)},
        {f"k{index}": "" for index in range(33)},
        "Too many: 33: must have at most 32 items",
    ),
    Case(
        f"{RUNTIME}.nodeSelector",
        "rule",
        {"a" * 253 + "/" + "b" * 63: ""},
        {"a" * 254 + "/" + "b" * 63: ""},
        "keys must have at most 317 characters",
    ),
    *(
        Case(f"{RUNTIME}.nodeSelector", "rule", {right: ""}, {wrong: ""}, "keys must be label keys, such as")
        for right, wrong in (("a.b/C_d", "a b"), ("b" * 63, "b" * 64), ("a", "a/"), ("a", "/a"), ("a", ""))
    ),
    text(f"{RUNTIME}.nodeSelector.*", 63),
    *(
        Case(f"{RUNTIME}.nodeSelector.*", "rule", right, wrong, "must be a label value: letters, digits,")
        for right, wrong in (("", "-"), ("A_b.c-1", "a b"), ("a", "a."))
    ),
    Case(
        f"{RUNTIME}.tolerations",
        "maxItems",
        [{"operator": "Exists"}] * 32,
        [{"operator": "Exists"}] * 33,
        "Too many: 33: must have at most 32 items",
    ),
    Case(
        TOLERATION,
        "rule",
        {"operator": "Exists"},
        {"operator": "Equal"},
        "without key needs operator: Exists",
    ),
    Case(TOLERATION, "rule", {"key": "a"}, {"value": "a"}, "a toleration without key needs operator: Exists"),
    Case(
        TOLERATION,
        "rule",
        {"key": "a", "operator": "Exists", "value": ""},
        {"key": "a", "operator": "Exists", "value": "b"},
        "a toleration with operator: Exists must have no value",
    ),
    *(
        Case(
            TOLERATION,
            "rule",
            {"key": "a", "effect": "NoExecute", "tolerationSeconds": 1},
            {"key": "a", "tolerationSeconds": 1} | wrong,
            "tolerationSeconds needs effect: NoExecute",
        )
        for wrong in ({}, {"effect": "NoSchedule"})
    ),
    Case(
        f"{TOLERATION}.key",
        "maxLength",
        "a" * 253 + "/" + "b" * 63,
        "a" * 318,
        "Too long: may not be more than 317",
    ),
    Case(f"{TOLERATION}.key", "rule", "example.com/gpu", "gpu!", "key must be a label key, such as gpu"),
    Case(f"{TOLERATION}.operator", "enum", "Equal", "equal", 'supported values: "Exists", "Equal"'),
    text(f"{TOLERATION}.value", 63),
    Case(f"{TOLERATION}.value", "rule", "a", "a b", "must be a label value: letters, digits,"),
    Case(
        TOLERATION + ".effect",
        "enum",
        "NoExecute",
        "Never",
        'supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ),
    *bounds(f"{TOLERATION}.tolerationSeconds", 0, INT32),
    Case(
        f"{RUNTIME}.env",
        "maxItems",
        [{"name": f"A{index}"} for index in range(64)],
        [{"name": f"A{index}"} for index in range(65)],
        "Too many: 65: must have at most 64 items",
    ),
    Case(
        f"{RUNTIME}.env",
        "x-kubernetes-list-type",
        [{"name": "A"}, {"name": "a"}],
        [{"name": "A"}, {"name": "A"}],
        "Duplicate value",
    ),
    *required(f"{RUNTIME}.env.*", "name"),
    text(f"{RUNTIME}.env.*.name", 128),
    *(
        Case(
            f"{RUNTIME}.env.*.name",
            "rule",
            right,
            wrong,
            "must be letters, digits and '_', and not start with",
        )
        for right, wrong in (("_A1", "1A"), ("a", "a-b"), ("a", ""))
    ),
    Case(
        f"{RUNTIME}.env.*.name",
        "rule",
        "SLIPWAY",
        "SLIPWAY_X",
        "names that start with SLIPWAY_ are set by the operator",
    ),
    text(f"{RUNTIME}.env.*.value", 4096),
]

SCALING = [
    *bounds("spec.scaling.minReplicas", 1, None),
    *bounds("spec.scaling.maxReplicas", None, 1000),
    Case(
        "spec.scaling.minReplicas",
        "maximum",
        {"minReplicas": 1000, "maxReplicas": 1000},
        {"minReplicas": 1001, "maxReplicas": 1000},
        "should be less than or equal to 1000",
        at="spec.scaling",
        also="minReplicas must not be above maxReplicas",
    ),
    Case(
        "spec.scaling.maxReplicas",
        "minimum",
        {"maxReplicas": 1},
        {"maxReplicas": 0},
        "should be greater than or equal to 1",
        at="spec.scaling",
        also="minReplicas must not be above maxReplicas",
    ),
    Case(
        "spec.scaling",
        "rule",
        {"minReplicas": 10},
        {"minReplicas": 11},
        "minReplicas must not be above maxReplicas; raise maxReplicas first",
    ),
    Case("spec.scaling.metrics", "minItems", [{}], [], "should have at least 1 items"),
    Case("spec.scaling.metrics", "maxItems", [{}], [{}, {}], "must have at most 1 item"),
    Case("spec.scaling.metrics.*.type", "enum", "CPU", "Memory", 'supported values: "CPU"'),
    *bounds("spec.scaling.metrics.*.targetPercent", 1, 1000),
]

STATUS = [
    *bounds("status.observedGeneration", 0, None),
    Case(
        "status.conditions",
        "maxItems",
        _conditions(16),
        _conditions(17),
        "Too many: 17: must have at most 16 items",
    ),
    Case(
        "status.conditions", "x-kubernetes-list-type", _conditions(2), _conditions(1) * 2, "Duplicate value"
    ),
    *required(
        "status.conditions.*",
        "type",
        "status",
        "reason",
        "message",
        "observedGeneration",
        "lastTransitionTime",
    ),
    text("status.conditions.*.type", 316),
    Case(
        "status.conditions.*.status",
        "enum",
        "Unknown",
        "true",
        'supported values: "True", "False", "Unknown"',
    ),
    Case("status.conditions.*.reason", "minLength", "A", "", "should be at least 1 chars long"),
    text("status.conditions.*.reason", 1024),
    Case(
        "status.conditions.*.reason", "pattern", "ModelNotFound", "Model not found", "should match '^[A-Za-z]"
    ),
    text("status.conditions.*.message", 32768),
    *bounds("status.conditions.*.observedGeneration", 0, None),
    Case(
        "status.conditions.*.lastTransitionTime",
        "format",
        "2026-01-02T03:04:05.678901Z",
        "2026-01-02 03:04",
        "must be of type date-time",
    ),
    text("status.conditions.*.lastTransitionTime", 64, "0", "2026-01-02T03:04:05.0", "Z"),
    *required("status.model", "uri", "resolvedURI", "version", "digest", "bytes"),
    text("status.model.uri", 1024),
    text("status.model.resolvedURI", 1024),
    text("status.model.version", 256),
    text("status.model.digest", 71),
    *bounds("status.model.bytes", 0, None),
    *moment("status.model.createdAt"),
    text("status.model.mark", 128),
    *profile("status.model.profile"),
    *_revision("status.stable"),
    *_revision("status.canary"),
    *bounds("status.canaryWeight", 0, 100),
    Case("status.promotedAt", "format", "2026-01-02T03:04:05Z", "yesterday", "must be of type date-time"),
    text("status.promotedAt", 64, "0", "2026-01-02T03:04:05.0", "Z"),
    *(
        replace(case, also="should be") for case in bounds("status.replicas", 0, INT32)
    ),  # the scale checks too
    *bounds("status.readyReplicas", 0, INT32),
    *bounds("status.settledGeneration", 0, None),
    Case("status.operator", "pattern", "a/b", "no-lease", "should match '^[a-z0-9]"),
    text("status.operator", 317, head="a/"),
    *required("status.upgrade", "phase"),
    *choice("status.upgrade.phase", "Waiting", "Upgrading", "Stuck"),
    *moment("status.upgrade.startedAt"),
    *moment("status.upgrade.progressedAt"),
    *bounds("status.upgrade.readyReplicas", 0, INT32),
    *bounds("status.upgrade.updatedReplicas", 0, INT32),
    text("status.upgrade.message", 1024),
    *choice("status.upgrade.cause", "Spec"),
    text("status.selector", 1024),
    text("status.url", 1024),
]

CASES = [
    *METADATA,
    *MODEL,
    *VERIFY,
    *POD,
    *OWN_SERVER,
    *PODS,
    *SCALING,
    *INPUTS,
    *MONITORING,
    *BREACHES,
    *of_job(POD, RUNTIME),
    *ACCESS,
    *CARD,
    *FRESHNESS,
    *SUSPECTS,
    *ROLLOUT,
    *AUDITS_TABLE,
    *TRAFFIC,
    *STATUS,
    *DECISIONS,
]
