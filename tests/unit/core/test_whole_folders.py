"""A server of one's own asks for whole folders; what was resolved without stays what it serves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.api.rollout_status import Rejection
from slipway.api.status import ModelDeploymentStatus, ModelStatus, RevisionStatus, ServerStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import MODEL_TASK_ENV
from slipway.core.objects.model_files import fetch_container
from slipway.core.objects.resolver import resolver_pod
from slipway.core.observed import observe
from slipway.core.resolution import is_asked
from slipway.core.resource import read
from slipway.core.revision import Revision, revision_from, revision_of
from slipway.core.rollout.history import revision_from_history
from slipway.core.rollout.restored import with_stable_record
from tests.unit.core.tables import OWNER, SETTINGS, digest, model

EXTERNAL: dict[str, Any] = {"server": "External", "image": "registry.example.com/team/server:1"}
URI = "mlflow://fraud/1"


def spec_of(runtime: dict[str, Any]) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": URI}, "runtime": runtime})


def known(folder: bool | None) -> ModelStatus:
    return model(1).model_copy(update={"uri": URI, "folder": folder})


@pytest.mark.parametrize("folder", [None, True])
def test_a_restored_stable_revision_is_known_by_its_files(folder: bool | None) -> None:
    revision = revision_of(spec_of(EXTERNAL), known(folder))
    stable = RevisionStatus(
        revision=revision.name,
        version=revision.model.version,
        digest=revision.model.digest,
        resolvedURI=revision.model.resolvedURI,
        bytes=revision.model.bytes,
    )
    manifest = {
        "metadata": {"name": "fraud", "namespace": "payments", "uid": "1", "generation": 1},
        "spec": {"model": {"uri": URI}, "runtime": EXTERNAL},
        "status": {"stable": stable.model_dump(mode="json", exclude_none=True)},
    }
    resource = read(manifest)
    found = with_stable_record(resource, spec_of(EXTERNAL), observe([]))
    again = revision_from_history(revision.name, found)
    assert again is not None
    assert again.model.folder is folder


def task_of(container: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        next(var["value"] for var in container["env"] if var["name"] == MODEL_TASK_ENV)
    )
    return found


@pytest.mark.parametrize(("runtime", "is_told"), [({}, False), (EXTERNAL, True)])
def test_only_a_server_of_ones_own_has_the_resolver_told_of_folders(
    runtime: dict[str, Any], is_told: bool
) -> None:
    (container,) = resolver_pod(OWNER, spec_of(runtime), SETTINGS)["spec"]["containers"]
    # An image of before refuses a task with a field that it does not know.
    assert ("folder" in task_of(container)) is is_told


@pytest.mark.parametrize(
    ("runtime", "folder", "is_again"),
    [
        ({}, None, False),
        ({}, False, False),
        ({}, True, True),
        (EXTERNAL, None, True),
        (EXTERNAL, False, False),
        (EXTERNAL, True, False),
    ],
)
def test_a_change_of_the_server_resolves_again_what_the_other_cannot_serve(
    runtime: dict[str, Any], folder: bool | None, is_again: bool
) -> None:
    assert is_asked(spec_of(runtime), ModelDeploymentStatus(model=known(folder))) is is_again


@pytest.mark.parametrize("role", ["stable", "canary"])
def test_an_upgrade_of_the_operator_brings_no_other_files_to_what_serves(role: str) -> None:
    server = ServerStatus(httpPort=8000, readyPath="/healthz")
    serves = RevisionStatus(revision="a", version="1", digest=digest(1), server=server)
    status = ModelDeploymentStatus.model_validate({"model": known(None), role: serves})
    assert not is_asked(spec_of(EXTERNAL), status)


def rejection(revision: Revision) -> Rejection:
    return Rejection(
        revision=revision.name,
        digest=revision.model.digest,
        identity=revision.judged,
        id=f"{revision.name}.1",
        rejectedAt="2026-11-24T12:00:00Z",
        message="gate errors: 9 of 10 failed",
    )


@pytest.mark.parametrize(
    ("spec", "is_again"),
    [
        (EXTERNAL, False),
        # What else was rejected of these files is not what is asked for.
        ({}, True),
        ({**EXTERNAL, "image": "registry.example.com/team/server:2"}, True),
    ],
)
def test_an_upgrade_of_the_operator_does_not_try_a_rejected_model_again_as_a_folder(
    spec: dict[str, Any], is_again: bool
) -> None:
    rejected = rejection(revision_of(spec_of(spec), known(None)))
    stable = RevisionStatus(revision="a", version="1", digest=digest(2))
    status = ModelDeploymentStatus(model=known(None), stable=stable, rejected=(rejected,))
    assert is_asked(spec_of(EXTERNAL), status) is is_again


def test_a_folder_is_part_of_a_revision_and_of_its_memory() -> None:
    spec = spec_of(EXTERNAL)
    without, with_ = (revision_of(spec, known(folder)) for folder in (None, True))
    assert without.name != with_.name
    assert revision_of(spec, known(False)).name == without.name
    for revision in (with_, revision_from(with_.content())):
        assert task_of(fetch_container(revision, SETTINGS))["folder"] is True
    for revision in (without, revision_from(without.content())):
        assert "folder" not in task_of(fetch_container(revision, SETTINGS))
