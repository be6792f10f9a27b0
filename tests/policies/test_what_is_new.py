"""What a real API server makes of a ModelDeployment that no operator has seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policies.conftest import Installed, manifest, models
from tests.policies.control_plane import JSON, MERGE
from tests.unit.gitops.seen import kstatus

UNSEEN = {"observedGeneration": 0}


def written(found: dict[str, Any]) -> list[str]:
    """Who wrote any of the status."""
    entries = found["metadata"].get("managedFields") or ()
    return [one["manager"] for one in entries if "f:status" in one["fieldsV1"]]


@pytest.mark.parametrize("dry_run", [{}, {"dryRun": "All"}], ids=["stored", "dry-run"])
@pytest.mark.parametrize("way", ["created", "applied"])
def test_it_has_a_status_by_which_tools_wait_for_the_operator(
    installed: Installed, way: str, dry_run: dict[str, str]
) -> None:
    namespace = installed.namespace()
    path, status = models(namespace), {"replicas": 3, "observedGeneration": 9}
    given = {**manifest(), "status": status}
    if way == "created":
        answer = installed.api.ask("POST", path, given, JSON, **dry_run)
    else:
        answer = installed.api.apply(f"{path}/fraud", given, **dry_run)
    assert (answer.code, answer.body.get("status")) == (201, UNSEEN), answer
    assert written(answer.body) == []
    assert kstatus(answer.body) == ["InProgress"]
    if not dry_run:
        [listed] = installed.api.must("GET", path)["items"]
        assert listed["status"] == installed.api.must("GET", f"{path}/fraud")["status"] == UNSEEN


def test_a_change_of_its_spec_stores_the_status_that_says_so(installed: Installed) -> None:
    model = installed.model(installed.namespace())
    assert model.merge("editor", {"spec": {"scaling": {"minReplicas": 2}}}).code == 200
    found = model.get()
    assert (found["metadata"]["generation"], found["status"]) == (2, UNSEEN)
    assert kstatus(found) == ["InProgress"]


def test_what_a_backup_or_the_operator_writes_takes_its_place(installed: Installed) -> None:
    model = installed.model(installed.namespace())
    restored = {**model.get(), "status": {"replicas": 3}}
    answer = installed.api.ask("PUT", f"{model.path}/status", restored)
    assert (answer.code, answer.body["status"]) == (200, {"replicas": 3})
    installed.api.must("PATCH", f"{model.path}/status", {"status": {"observedGeneration": 1}}, MERGE)
    assert model.get()["status"] == {"replicas": 3, "observedGeneration": 1}
