"""What a resolver pod may say of a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import (
    AUTHORITIES_ENV,
    MODEL_TASK_ENV,
    PUBLIC_KEYS_ENV,
    TRUST_ROOT_ENV,
    Built,
    Resolution,
    Resolved,
    TerminationMessage,
)
from slipway.core.naming import content_hash
from slipway.core.objects.resolver import resolver_pod
from slipway.core.observed import Manifest, ObjectKind
from slipway.core.resolution import _is_meant, is_asked, last_look, question, resolve
from tests.unit.core.tables import OWNER, SETTINGS
from tests.unit.world import World, resolution

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("uri", "pinned", "meant"),
    [
        ("mlflow://fraud@champion", "mlflow://fraud/3", True),
        ("mlflow://fraud/3", "mlflow://fraud/3", True),
        ("mlflow://credit%20risk@champion", "mlflow://credit%20risk/3", True),
        ("mlflow://credit risk@champion", "mlflow://credit%20risk/3", True),
        ("mlflow://fraud@champion", "mlflow://other/3", False),
        ("mlflow://fraud@champion", "https://evil.example.com/model.onnx", False),
        ("mlflow://fraud@champion", "mlflow://fraud.evil/3", False),
        ("https://store/model.onnx", "https://store/model.onnx", True),
        ("https://store/model.onnx", "https://store/other.onnx", False),
        ("https://store/model.onnx", "http://store/model.onnx", False),
        ("pvc://models/a", "pvc://models/a/model.onnx", True),
        ("pvc://models", "pvc://models/model.onnx", True),
        ("pvc://models/a", "pvc://others/a/model.onnx", False),
        ("pvc://models/a", "mlflow://models/1", False),
        ("s3://models/a", "s3://models/a/model.onnx?versionId=1", True),
        ("s3://models/a/", "s3://models/a/model.onnx", True),
        ("s3://models/a b.onnx", "s3://models/a%20b.onnx?versionId=1", True),
        ("s3://models/a.onnx?versionId=1", "s3://models/a.onnx?versionId=1", True),
        ("s3://models/a.onnx?versionId=1", "s3://models/a.onnx?versionId=2", False),
        ("s3://models/a", "s3://models/ab/model.onnx", False),
        ("s3://models/a", "s3://others/a/model.onnx", False),
        ("s3://models/a", "https://models/a", False),
        ("gs://models/a", "gs://models/a/model.onnx#1", True),
        ("gs://models/a.onnx", "gs://others/a.onnx#1", False),
        ("az://lake/models/a", "az://lake/models/a/model.onnx", True),
        ("az://lake/models/a", "az://lake/others/a/model.onnx", False),
        ("dvc://git/a/b/c.onnx@main", f"dvc://git/a/b/c.onnx@{'a' * 40}", True),
        ("dvc://git/a/b/c%20d@main", f"dvc://git/a/b/c%20d/model.onnx@{'a' * 40}", True),
        ("dvc://git/a/b?artifact=c", f"dvc://git/a/b/models/c.onnx@{'a' * 40}", True),
        ("dvc://git/a/b?artifact=c", f"dvc://git/a/bc/models/c.onnx@{'a' * 40}", False),
        ("dvc://git/a/b/c.onnx@main", f"dvc://git/a/b/d.onnx@{'a' * 40}", False),
        ("dvc://git/a/b/c.onnx@main", f"dvc://evil/a/b/c.onnx@{'a' * 40}", False),
        ("dvc://git/a/b/c.onnx@main", "dvc://git/a/b/c.onnx@main", False),
        ("oci://hub:5000/a/b:v1", f"oci://hub:5000/a/b@sha256:{'a' * 64}", True),
        ("oci://hub:5000/a/b", f"oci://hub:5000/a/b@sha256:{'a' * 64}", True),
        (f"oci://hub/a@sha256:{'a' * 64}", f"oci://hub/a@sha256:{'a' * 64}", True),
        (f"oci://hub/a@sha256:{'b' * 64}", f"oci://hub/a@sha256:{'a' * 64}", False),
        ("oci://hub:5000/a/b:v1", f"oci://hub:5000/a/bc@sha256:{'a' * 64}", False),
        ("oci://hub:5000/a/b:v1", f"oci://evil:5000/a/b@sha256:{'a' * 64}", False),
        ("oci://hub/a/b:v1", "oci://hub/a/b:v1", False),
        ("dvc://git/a/b/c.onnx@main", f"https://git/a/b/c.onnx@{'a' * 40}", False),
    ],
)
def test_a_pinned_uri_is_one_of_the_model_that_is_asked_for(uri: str, pinned: str, meant: bool) -> None:
    assert _is_meant(uri, pinned) is meant


async def test_an_answer_for_another_model_is_not_believed() -> None:
    world = World()
    forged = resolution(1).model_copy(update={"uri": "https://evil.example.com/model.onnx"})
    assert isinstance(forged, Resolution)
    world.models["mlflow://fraud/1"] = forged
    await world.operator.start()
    world.create({"model": {"uri": "mlflow://fraud/1"}})
    await world.run(60)
    assert world.said()["ModelResolved"] == "False ResolverFailed"
    assert "is not believed" in world.message("ModelResolved")
    assert not world.kube.all(ObjectKind.DEPLOYMENT)
    world.models["mlflow://fraud/1"] = resolution(1)
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"


async def test_an_answer_that_no_status_holds_is_not_taken() -> None:
    """Whoever may write a pod's status may write anything."""
    world = World()
    uri = f"mlflow://fraud/{'1' * 2000}"
    world.models["mlflow://fraud/1"] = Resolution.model_construct(
        **{**resolution(1).model_dump(), "uri": uri, "version": "1" * 2000}
    )
    await world.operator.start()
    world.create({"model": {"uri": "mlflow://fraud/1"}})
    await world.run(60)
    assert world.said()["ModelResolved"] == "False ResolverFailed"
    assert not world.operator.errors


@pytest.mark.parametrize(
    ("model", "runtime", "task"),
    [
        ({}, {}, {"onFinding": "Block", "allowedOperatorDomains": [], "memoryBytes": 2**30}),
        (
            {"verify": {"hazards": {"onFinding": "Report", "allowedOperatorDomains": ["com.example.ops"]}}},
            {"resources": {"limits": {"memory": "64Mi"}}},
            {"onFinding": "Report", "allowedOperatorDomains": ["com.example.ops"], "memoryBytes": 2**26},
        ),
        ({}, {"image": "ours:1", "server": "External"}, {"onFinding": "Report"}),
        ({"verify": {}}, {"image": "ours:1", "server": "External"}, {"onFinding": "Block"}),
    ],
)
def test_a_resolver_is_told_what_is_a_hazard(
    model: dict[str, object], runtime: dict[str, object], task: dict[str, object]
) -> None:
    spec = ModelDeploymentSpec.model_validate(
        {"model": {"uri": "mlflow://fraud/1", **model}, "runtime": runtime}
    )
    (container,) = resolver_pod(OWNER, spec, SETTINGS)["spec"]["containers"]
    told = next(var["value"] for var in container["env"] if var["name"] == MODEL_TASK_ENV)
    assert json.loads(told)["hazards"].items() >= task.items()


def test_a_failed_look_is_repeated_once_its_conditions_change() -> None:
    def asked(verify: dict[str, object] | None) -> str | None:
        model = {"uri": "https://models.example.com/a.onnx", **({"verify": verify} if verify else {})}
        spec = ModelDeploymentSpec.model_validate({"model": model, "runtime": {}})
        return question(spec, ModelDeploymentStatus())

    assert asked(None) != asked({"hazards": {"onFinding": "Report"}})


TRUST = {"name": "trust", "key": "root"}
SIGNATURE = {"signature": {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}}


def test_what_was_verified_for_one_signature_is_not_known_for_another() -> None:
    uri = "https://models.example.com/a.onnx"

    def spec_of(verify: dict[str, object]) -> ModelDeploymentSpec:
        return ModelDeploymentSpec.model_validate({"model": {"uri": uri, "verify": verify}, "runtime": {}})

    other = {"signature": {"publicKeys": {"configMapRef": {"name": "others", "key": "keys.pem"}}}}
    found = Resolution(
        uri=uri, version="1", digest=f"sha256:{'a' * 64}", bytes=1, signedBy=f"sha256:{'b' * 64}"
    )
    spec = spec_of(SIGNATURE)
    pod = finished(resolver_pod(OWNER, spec, SETTINGS), found)
    answer = resolve(spec, ModelDeploymentStatus(), pod, NOW).model
    assert answer is not None
    assert answer.signedBy == found.signedBy
    status = ModelDeploymentStatus(model=answer)
    assert not is_asked(spec, status)
    assert not is_asked(spec_of({}), status)
    assert is_asked(spec_of(other), status)
    unsigned = ModelDeploymentStatus(model=answer.model_copy(update={"verifiedFor": None}))
    assert is_asked(spec, unsigned)


def test_an_answer_without_a_signature_is_none_where_one_is_wanted() -> None:
    uri = "https://models.example.com/a.onnx"
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": uri, "verify": SIGNATURE}, "runtime": {}})
    found = Resolution(uri=uri, version="1", digest=f"sha256:{'a' * 64}", bytes=1)
    state = resolve(spec, ModelDeploymentStatus(), finished(resolver_pod(OWNER, spec, SETTINGS), found), NOW)
    assert state.model is None
    assert state.asking


def test_provenance_is_asked_for_remembered_and_part_of_what_was_verified() -> None:
    uri = "https://models.example.com/a.onnx"
    wanted = {"builder": "https://ci.example.com", "source": "github.com/acme/fraud"}

    def spec_of(provenance: dict[str, str] | None) -> ModelDeploymentSpec:
        verify = {**SIGNATURE, "provenance": provenance}
        return ModelDeploymentSpec.model_validate({"model": {"uri": uri, "verify": verify}, "runtime": {}})

    spec, signed = spec_of(wanted), spec_of(None)
    pod = resolver_pod(OWNER, spec, SETTINGS)
    (container,) = pod["spec"]["containers"]
    assert json.loads(container["env"][0]["value"])["provenance"] == wanted
    bare = Resolution(uri=uri, version="1", digest=f"sha256:{'a' * 64}", bytes=1, signedBy="x")
    answer = resolve(signed, ModelDeploymentStatus(), finished(pod, bare), NOW).model
    assert answer is not None
    # The name of what a signature alone was verified for is that of operators of before.
    assert answer.verifiedFor == content_hash(SIGNATURE["signature"])
    # Neither an answer nor a memory without provenance is enough.
    assert resolve(spec, ModelDeploymentStatus(), finished(pod, bare), NOW).model is None
    assert is_asked(spec, ModelDeploymentStatus(model=answer))
    found = bare.model_copy(update={"provenance": Built(**wanted, commit="c" * 40)})
    answer = resolve(spec, ModelDeploymentStatus(), finished(pod, found), NOW).model
    assert answer is not None
    assert answer.provenance is not None
    assert answer.provenance.model_dump() == {**wanted, "commit": "c" * 40}
    known = ModelDeploymentStatus(model=answer)
    assert not is_asked(spec, known)
    assert is_asked(spec_of({**wanted, "source": "github.com/acme/churn"}), known)
    again = last_look(spec, known, "time 1")
    assert again is not None
    assert again.provenance == found.provenance


def test_the_resolver_gets_the_keys_by_reference() -> None:
    model = {"uri": "https://models.example.com/a.onnx", "verify": SIGNATURE}
    spec = ModelDeploymentSpec.model_validate({"model": model, "runtime": {}})
    (container,) = resolver_pod(OWNER, spec, SETTINGS)["spec"]["containers"]
    given = {var["name"]: var for var in container["env"]}
    assert given[PUBLIC_KEYS_ENV]["valueFrom"] == {"configMapKeyRef": {"name": "signers", "key": "keys.pem"}}


@pytest.mark.parametrize(
    ("signature", "variable", "identity"),
    [
        (
            {
                "certificate": {
                    "authorities": {"configMapRef": TRUST},
                    "identities": [{"dns": "ci.example.com"}],
                }
            },
            AUTHORITIES_ENV,
            {"kind": "dns", "value": "ci.example.com"},
        ),
        (
            {
                "keyless": {
                    "trustRoot": {"configMapRef": TRUST},
                    "identities": [{"issuer": "https://issuer.example.com", "email": "a@example.com"}],
                }
            },
            TRUST_ROOT_ENV,
            {"kind": "email", "value": "a@example.com", "issuer": "https://issuer.example.com"},
        ),
    ],
    ids=["certificate", "keyless"],
)
def test_a_resolver_is_given_what_it_verifies_by_and_who_is_accepted(
    signature: dict[str, object], variable: str, identity: dict[str, str]
) -> None:
    model = {"uri": "https://models.example.com/a.onnx", "verify": {"signature": signature}}
    spec = ModelDeploymentSpec.model_validate({"model": model, "runtime": {}})
    (container,) = resolver_pod(OWNER, spec, SETTINGS)["spec"]["containers"]
    given = {var["name"]: var for var in container["env"]}
    assert given[variable]["valueFrom"] == {"configMapKeyRef": TRUST}
    assert PUBLIC_KEYS_ENV not in given
    task = json.loads(given[MODEL_TASK_ENV]["value"])
    assert task["isSigned"] is True
    assert task["identities"] == [identity]
    assert json.loads(given[MODEL_TASK_ENV]["value"])["isSigned"] is True


def finished(pod: Manifest, found: Resolution) -> Manifest:
    """The pod of a resolver that answered."""
    ended = {
        "finishedAt": "2026-01-01T00:00:00Z",
        "message": TerminationMessage(outcome=Resolved(resolution=found)).model_dump_json(),
    }
    (container,) = pod["spec"]["containers"]
    statuses = [{"name": container["name"], "state": {"terminated": ended}}]
    return {**pod, "status": {"phase": "Succeeded", "containerStatuses": statuses}}
