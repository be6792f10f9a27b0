"""spec.runtime.pod and the chart's modelPods in a cluster: pods are replaced, and nothing else happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from slipway.api.pods import PodOptions
from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.errors import ApiError
from tests.unit.engine.test_upgrades import NEW, PLAIN, Watcher, canary, fleet, revisions, serving, upgrade
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World

TEAM = {"labels": {"team": "risk"}}


def having(spec: dict[str, Any], pod: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "runtime": {**spec.get("runtime", {}), "pod": pod}}


def templates(world: World, name: str | None = NAME) -> list[Manifest]:
    """Pod templates of a model's Deployments, or of the namespace's routers."""
    component = "model-server" if name is not None else "router"
    return [
        found["spec"]["template"]
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if found["metadata"]["labels"][naming.COMPONENT_LABEL] == component
        and (name is None or found["metadata"]["labels"][naming.MODEL_LABEL] == name)
    ]


def teams(world: World, name: str = NAME) -> set[str | None]:
    """The label ``team`` of each serving pod of a model."""
    return {
        pod["metadata"]["labels"].get("team")
        for pod in world.kube.all(ObjectKind.POD)
        if naming.pod_selector(name).items() <= pod["metadata"]["labels"].items()
    }


def labelled(names: Sequence[str], world: World) -> set[str]:
    return {name for name in names if teams(world, name) == {"risk"}}


async def test_a_changed_label_replaces_pods_and_begins_no_canary() -> None:
    world = await serving(canary(1))
    before = world.status()
    watcher = Watcher(world)
    world.create(having(canary(1), TEAM))
    seen: list[dict[str, str]] = []
    world.kube.listeners.append(
        lambda _, live: seen.append(world.said()) if live["kind"] == KIND and "status" in live else None
    )
    await world.run(60)
    assert teams(world) == {"risk"}
    status = world.status()
    assert not {"rollout", "canary", "upgrade", "rejected"} & {
        name for name, value in status.items() if value
    }
    assert status["stable"] == before["stable"]
    assert revisions(world) == {before["stable"]["revision"]}
    assert watcher.least_ready == 2
    # A commit to the resource began it: who waits for that commit sees it go on, and end.
    assert "True Upgrading" in {said.get("Reconciling") for said in seen}
    assert not {"Reconciling", "Stalled"} & world.said().keys()
    assert {said["Ready"] for said in seen} == {"True Serving"}
    writes = world.writes()
    await world.restart()
    await world.run(60)
    assert world.writes() == writes


async def test_a_canary_under_way_goes_on_through_it_with_both_revisions() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    world.create(having(canary(2), TEAM))
    await world.run(60)
    assert teams(world) == {"risk"}
    assert len(templates(world)) == 2
    now = world.status()["rollout"]
    assert [now[name] for name in ("id", "revision", "weight", "phase")] == [
        rollout[name] for name in ("id", "revision", "weight", "phase")
    ]


async def test_what_is_said_no_more_goes_and_a_secret_to_pull_with_comes() -> None:
    world = await serving(having(PLAIN, TEAM))
    assert teams(world) == {"risk"}
    world.create(having(PLAIN, {"imagePullSecrets": [{"name": "pull"}]}))
    await world.run(60)
    assert teams(world) == {None}
    (template,) = templates(world)
    assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    account = world.kube.find(ObjectKind.SERVICE_ACCOUNT.value, NAMESPACE, naming.service_account(NAME))
    assert account["imagePullSecrets"] == [{"name": "pull"}]


def unpulled(pod: Manifest) -> dict[str, Any] | None:
    """Pods without a Secret to pull with do not start."""
    if pod["spec"].get("imagePullSecrets"):
        return None
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "401"}}
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "server", "image": "registry.example.com/a:1", "state": waiting}],
    }


async def test_pods_that_could_not_be_pulled_are_made_again_once_a_secret_is_named() -> None:
    """A ServiceAccount's Secrets reach new pods alone: by it those that wait would wait for ever."""
    world = World()
    world.pod_status = unpulled
    await world.operator.start()
    world.create(PLAIN)
    await world.run(60)
    assert world.said()["Ready"] == "False ImagePullFailed"
    assert "spec.runtime.pod.imagePullSecrets" in world.message()
    world.create(having(PLAIN, {"imagePullSecrets": [{"name": "pull"}]}))
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"


NAMES = tuple(f"model-{number:02}" for number in range(12))


async def test_a_default_of_the_installation_reaches_models_a_few_at_a_time() -> None:
    world = await fleet()
    watcher = Watcher(world)
    pods = PodOptions.model_validate(TEAM)
    world.router_settings = replace(world.router_settings, pods=pods)
    await upgrade(world, replace(SETTINGS, pods=pods), seconds=300)
    assert labelled(NAMES, world) == set(NAMES)
    assert watcher.most == 3
    assert watcher.least_ready == 2


def without_start(pod: Manifest) -> dict[str, Any] | None:
    """Pods of the class that nobody has, or of the newest image, do not start."""
    image = pod["spec"]["containers"][0]["image"]
    if pod["spec"].get("runtimeClassName") != "nowhere" and image != NEW.server_image:
        return None
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "server", "image": image, "state": waiting}],
        "conditions": [],
    }


async def test_what_a_spec_asks_for_waits_for_no_upgrade_that_is_stuck() -> None:
    world = await fleet(3, names_=NAMES[:3])
    pinned, other = {**PLAIN, "runtime": {"image": "registry.example.com/server:2"}}, NAMES[3]
    world.create(pinned, other)
    await world.run(30)
    world.pod_status = without_start
    await upgrade(world, seconds=120)
    assert world.operator.upgrades.is_halted
    world.create(having(pinned, TEAM), other)
    await world.run(60)
    assert teams(world, other) == {"risk"}
    assert world.operator.upgrades.is_halted


async def test_a_spec_whose_pods_do_not_start_is_said_to_be_stuck_and_keeps_no_turn_from_others() -> None:
    names = NAMES[:3]
    world = await fleet(1, names_=names)
    world.pod_status = without_start
    world.create(having(PLAIN, {"runtimeClassName": "nowhere"}), names[0])
    await world.run(120)
    said, status = world.said(names[0]), world.status(names[0])
    assert (said["Ready"], said["Stalled"]) == ("True Serving", "True UpgradeStuck")
    assert status["upgrade"]["cause"] == "Spec"
    assert "ImagePullFailed" in status["upgrade"]["message"]
    assert world.told().count("Warning UpgradeStuck") == 1
    for _ in range(2):
        # Nor does the next operator take it for a turn.
        assert not world.operator.upgrades.is_halted
        assert world.operator.upgrades.phases == {}
        await world.restart()
        await world.run(10)
    pods = PodOptions.model_validate(TEAM)
    await upgrade(world, replace(SETTINGS, pods=pods), seconds=120)
    assert labelled(names[1:], world) == set(names[1:])
    # Taken back, the old template is wanted again but for what the installation says now.
    world.create(PLAIN, names[0])
    await world.run(120)
    assert teams(world, names[0]) == {"risk"}
    assert not {"Reconciling", "Stalled"} & world.said(names[0]).keys()
    assert not any("upgrade" in world.status(name) for name in names)


async def test_a_change_of_the_installation_is_not_carried_along_by_one_of_the_spec() -> None:
    names = NAMES[:3]
    world = await fleet(1, names_=names)
    watcher = Watcher(world)
    for name in names:
        world.create(having(PLAIN, TEAM), name)
    await upgrade(world, replace(SETTINGS, mlflow_tracking_uri="http://elsewhere:5000"), seconds=300)
    assert labelled(names, world) == set(names)
    assert watcher.most == 1
    assert watcher.least_ready == 2


DEDICATED: dict[str, Any] = {**canary(1), "traffic": {"router": "Dedicated"}}


@pytest.mark.parametrize("spec", [canary(1), DEDICATED], ids=["shared", "dedicated"])
async def test_routers_of_its_own_have_what_the_spec_says_and_shared_ones_do_not(
    spec: dict[str, Any],
) -> None:
    world = await serving(spec)
    (before,) = templates(world, None)
    world.create(having(spec, {**TEAM, "serviceAccountName": "reader", "runtimeClassName": "nvidia"}))
    await world.run(60)
    (after,) = templates(world, None)
    if spec is DEDICATED:
        assert after["metadata"]["labels"] == {**before["metadata"]["labels"], "team": "risk"}
        assert after["spec"] == before["spec"]
    else:
        assert after == before
    assert world.said()["TrafficSynced"] == "True Routed"


async def test_routers_that_a_spec_keeps_from_starting_keep_no_turn_from_others() -> None:
    world = await serving(DEDICATED)
    world.pods_refused = 'pods "x" is forbidden: no PriorityClass with name nowhere was found'
    world.refuses = lambda live: "priorityClassName" in live["spec"]["template"]["spec"]
    world.create(having(DEDICATED, {"priorityClassName": "nowhere"}))
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert "create it, or fix priorityClassName in spec.runtime.pod" in world.status()["upgrade"]["message"]
    assert world.operator.upgrades.phases == {}
    world.create(DEDICATED)
    await world.run(60)
    assert "priorityClassName" not in templates(world, None)[0]["spec"]
    assert "upgrade" not in world.status()


async def test_routers_stay_as_they_are_while_their_spec_cannot_be_read() -> None:
    world = await serving(having(DEDICATED, TEAM))
    before = templates(world, None)

    def break_it(live: dict[str, Any]) -> None:
        live["spec"] = {**live["spec"], "scaling": {"minReplicas": "many"}}

    world.kube.edit((KIND, NAMESPACE, NAME), break_it)
    await world.run(60)
    assert world.said()["Ready"] == "False InvalidResource"
    assert templates(world, None) == before


WORDS = {
    'pods "x" is forbidden: no PriorityClass with name high was found': "fix priorityClassName",
    'pods "x" is forbidden: error looking up service account payments/reader: serviceaccount "reader" not '
    "found": "fix serviceAccountName",
    'admission webhook "policy" denied the request: the label team is required': "label or annotation",
    'Pod "x" is invalid: spec.containers[0].resources.requests: Invalid value: "5m": must be less than or '
    "equal to cpu limit of 4m": "downloads.resources",
}


@pytest.mark.parametrize("words", WORDS)
async def test_what_admission_says_of_a_resolver_comes_with_what_helps(words: str) -> None:
    world = World()

    def admission(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == ObjectKind.POD and "-resolve-" in manifest["metadata"]["name"]:
            raise ApiError(422 if "invalid" in words else 403, "Forbidden", words)
        return manifest

    world.kube.admission = admission
    await world.operator.start()
    world.create(PLAIN)
    await world.settle(retries=1)
    assert world.said()["ModelResolved"] == "False PodRefused"
    assert words in world.message("ModelResolved")
    assert WORDS[words] in world.message("ModelResolved")
