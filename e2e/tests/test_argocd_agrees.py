"""A real Argo CD and the cluster agree: on every field, under commands, and without a look at each status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.cluster.settings import Settings
from e2e.kube import Object
from e2e.tests.argocd_models import WAYS, model, models_application
from e2e.tests.argocd_stage import ArgoCD, argo_cd
from e2e.tests.conditions import wait_for
from e2e.tests.installation import Installation, temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.rollout import LOOKS, QUICK, Rollout
from e2e.tests.schema_changes import Spec, changes, leaves
from e2e.tests.test_figures_rolling import times
from release.argocd import customizations

# As test_argocd.py; Argo CD watches the whole cluster.
pytestmark = [pytest.mark.long, pytest.mark.alone]

#: Evaluations of a canary that are waited for.
EVALUATIONS = 8
IGNORED = "resource.customizations.ignoreResourceUpdates"
#: Has Argo CD leave status out of comparisons and, since 3.0, out of what refreshes.
STATUS = "resource.compareoptions"
#: Fields that change only with one beside them, such as a strategy or the type of a gate.
CHOICES = 18


@pytest.fixture(scope="module")
def argocd(
    installed: Installation, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArgoCD]:
    with argo_cd(installed.kube, settings, tmp_path_factory.mktemp("argocd")) as made:
        yield made


@pytest.fixture(scope="module")
def versions(mlflow: Registry, token: str) -> list[str]:
    """URIs of versions 1 to 5 of one model."""
    name = f"agrees-{token}"
    return [f"mlflow://{name}/{mlflow.register(name, times(factor))}" for factor in range(2, 7)]


def test_evaluations_of_a_canary_refresh_no_application(argocd: ArgoCD, versions: list[str]) -> None:
    # Pain 8: argo-cd#8100, #21506.
    kube, name = argocd.kube, "evaluated"
    [ours], everybodys = (key for key in customizations() if key.startswith(IGNORED)), f"{IGNORED}.all"
    shipped = (kube.get("configmap", "argocd-cm", "argocd") or {})["data"]
    steps = {"steps": [{"setWeight": 50}, {"analysis": {}}]}
    analysis = {"analysis": {**LOOKS, "maxDurationSeconds": 3600}}
    with temporary_namespace(kube, "argo") as namespace:
        repository, rollout = argocd.repository("risk/evaluated"), Rollout(kube, namespace, "fraud")

        def commit(uri: str) -> str:
            made = model(namespace, uri, rollout={**QUICK, "strategy": "Canary", **steps, **analysis})
            return repository.manifest(f"{name}/fraud.yaml", made)

        def evaluated() -> str:
            return str(rollout.status().get("rollout", {}).get("lookedAt", ""))

        def refreshed() -> list[str]:
            """What was logged of refreshes that the cluster asked for during evaluations."""
            argocd.refresh(name)
            since, last = datetime.now(UTC), evaluated()
            for _ in range(EVALUATIONS):
                wait_for(lambda: evaluated() != last, 60, "the canary is not evaluated")  # noqa: B023
                last = evaluated()
            return [
                line["msg"]
                for line in argocd.logged(since)
                if line.get("application") == name and "controller refresh requested" in line["msg"]
            ]

        first = commit(versions[0])
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy", commit=first, within=240)
        second = commit(versions[1])
        argocd.refresh(name)
        argocd.wait_for(name, "Synced", "Progressing", commit=second)
        wait_for(evaluated, 240, "nothing is evaluated")
        try:
            argocd.change_settings({ours: None, everybodys: None, STATUS: "ignoreResourceStatusField: none"})
            without = refreshed()
            argocd.change_settings({ours: shipped[ours]})
            with_ours = refreshed()
        finally:
            argocd.change_settings({ours: shipped[ours], everybodys: shipped[everybodys], STATUS: None})
        as_shipped = refreshed()
        assert len([each for each in without if "level (1)" in each]) >= EVALUATIONS / 2
        assert [each for each in (*with_ours, *as_shipped) if "level (1)" in each] == []
        argocd.delete(name)


def test_every_field_is_in_sync_after_each_change_however_it_is_applied_and_compared(argocd: ArgoCD) -> None:
    # Pain 12: open-bank-oss#6370; pain 1 for all fields.
    found = changes()
    changed = frozenset[str]().union(*(change.paths for change in found))
    assert len(leaves()) - len(changed) <= CHOICES
    commits = [[change.before for change in found], [change.after for change in found]]
    with temporary_namespace(argocd.kube, "argo") as namespace:
        repository = argocd.repository("risk/fields")
        names = {f"fields-{number}": way for number, way in enumerate(WAYS)}
        for specs in commits:
            wanted = {name: manifests(namespace, name, specs) for name in names}
            # In JSON: PyYAML writes the text 1e6 without quotes, and Argo CD reads a number.
            files = {
                f"{name}/{each['metadata']['name']}.json": json.dumps(each)
                for name in names
                for each in wanted[name]
            }
            commit = repository.commit(files)
            for name, way in names.items():
                argocd.apply(models_application(name, repository, namespace, way))
                argocd.refresh(name)
            for name, way in names.items():
                applied = argocd.wait_until_synced(name, commit)
                live = {each["metadata"]["name"]: each for each in argocd.kube.items("mdep", namespace)}
                for each in wanted[name]:
                    assert missing(live[each["metadata"]["name"]], each) == [], way
                argocd.refresh(name, "hard")
                assert argocd.synced(name) == applied, f"{way}: applied once more\n{argocd.explain(name)}"
        for name in names:
            argocd.delete(name)


def manifests(namespace: str, name: str, specs: list[Spec]) -> list[Object]:
    """ModelDeployments of these specs."""
    made = []
    for number, spec in enumerate(specs):
        one = model(namespace, "", f"{name}-{number}")
        made.append({**one, "spec": spec})
    return made


def missing(live: Any, wanted: Any, path: str = "") -> list[str]:
    """Where a live object has not what a manifest has."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return [found for key in wanted for found in missing(live.get(key), wanted[key], f"{path}.{key}")]
    return [] if live == wanted else [f"{path}: {live} is not {wanted}"]


def test_self_heal_takes_no_command_away_and_gives_none_again(argocd: ArgoCD, versions: list[str]) -> None:
    # Pain 15.
    kube, name = argocd.kube, "commanded"
    with temporary_namespace(kube, "argo") as namespace:
        repository, rollout = argocd.repository("risk/commanded"), Rollout(kube, namespace, "fraud")
        mine = {"example.com/owner": "risk"}

        def commit(uri: str) -> str:
            made = model(namespace, uri)
            made["metadata"]["annotations"] = mine
            return repository.manifest(f"{name}/fraud.yaml", made)

        def commands() -> dict[str, str]:
            annotations = rollout.found()["metadata"]["annotations"]
            return {key: value for key, value in annotations.items() if key.startswith("slipway.dev/")}

        def say(command: str, *, click: bool = False) -> None:
            """Give a command; compared in any way, nothing is different from Git, and nothing is applied."""
            applied = argocd.synced(name)
            if click:
                argocd.run_action("admin", name, command, "fraud")
            else:
                rollout.say(command)
            given = commands()
            written = "slipway.dev/pause" if command == "resume" else f"slipway.dev/{command}"
            assert (written in given) is (command != "resume")
            for way in WAYS:
                argocd.apply(models_application(name, repository, namespace, way))
                argocd.refresh(name, "hard")
                assert argocd.synced(name) == applied, f"{command}, {way}\n{argocd.explain(name)}"
            assert commands() == given

        first = commit(versions[0])
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy", commit=first, within=240)
        rollout.wait_until_synced()
        for number, way in enumerate(WAYS, start=1):
            given = commands()
            argocd.apply(models_application(name, repository, namespace, way))
            made = commit(versions[number])
            argocd.refresh(name)
            argocd.wait_for(name, "Synced", "Suspended", commit=made, within=240)
            rollout.wait_for_weight(50)
            # What was said of other rollouts is there still, and says nothing of this one.
            assert commands() == given
            if number == 1:
                say("pause")
                say("resume")
                say("abort")
                rollout.wait_for_rejection()
                say("retry")
                rollout.wait_for_weight(50)
            if number == 2:
                say("pause", click=True)
                say("resume", click=True)
                say("promote", click=True)
            else:
                say("promote-full" if number == 3 else "promote")
            rollout.wait_for_stable(str(number + 1), within=240)

        # A change of what Git has is taken back: self-heal is at work all the while.
        kube.kubectl(
            "annotate", "mdep", "fraud", f"--namespace={namespace}", "--overwrite", "example.com/owner=me"
        )
        wait_for(
            lambda: rollout.found()["metadata"]["annotations"]["example.com/owner"] == "risk",
            60,
            "self-heal does not take back what Git has",
        )
        argocd.delete(name)
