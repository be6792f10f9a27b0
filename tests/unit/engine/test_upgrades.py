"""A change of the installation alone: no canary, nobody is asked, and nothing rejected comes back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from slipway.api.types import KIND
from slipway.contract import MLFLOW_TRACKING_URI_ENV
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.core.rollout.commands import annotation
from slipway.core.rollout.machine import Command
from slipway.engine.controller.upgrades import Upgrades
from slipway.engine.store import Key, Store
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, SETTINGS, Killed, World

NEW = replace(SETTINGS, server_image="slipway.dev/server:0.2.0")


def canary(version: int, *steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": list(steps) or [{"setWeight": 50}, {"pause": {"untilApproved": True}}],
        },
    }


async def serving(spec: dict[str, Any]) -> World:
    world = World()
    await world.operator.start()
    world.create(spec)
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


async def upgrade(world: World, settings: Any = NEW, seconds: float = 60) -> None:
    world.settings = settings
    await world.restart()
    await world.run(seconds)


def revisions(world: World) -> set[str]:
    """Revisions that have a Deployment."""
    return {
        found["metadata"]["labels"][naming.REVISION_LABEL]
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if naming.REVISION_LABEL in found["metadata"]["labels"]
    }


def images(world: World, name: str = NAME) -> set[str]:
    """Images of the model servers that run."""
    return {
        container["image"]
        for pod in world.kube.all(ObjectKind.POD)
        if pod["metadata"]["labels"].get(naming.MODEL_LABEL) == name
        for container in pod["spec"]["containers"]
        if container["name"] == naming.SERVER_CONTAINER
    }


def forget_identity(world: World, **fields: Any) -> None:
    """Status as an operator of before wrote it."""

    def change(live: dict[str, Any]) -> None:
        for rejection in live["status"]["rejected"]:
            del rejection["identity"]
            rejection.update(fields)

    world.kube.edit((KIND, NAMESPACE, NAME), change)


async def test_what_was_rejected_stays_out_when_the_chart_is_upgraded() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"]) == ("Paused", 50)
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    status = world.status()
    assert [found["revision"] for found in status["rejected"]] == [rollout["revision"]]
    for settings in (NEW, replace(NEW, mlflow_tracking_uri="http://elsewhere:5000")):
        await upgrade(world, settings)
        now = world.status()
        assert "rollout" not in now
        assert "canary" not in now
        assert now["stable"]["revision"] == status["stable"]["revision"]
        assert now["rejected"] == status["rejected"]
        assert world.said()["RevisionReady"] == "False Rejected"
        assert world.said()["Ready"] == "True Serving"
    world.annotate(annotation(Command.RETRY), rollout["id"])
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 50


async def test_a_rejection_of_an_earlier_operator_outlives_the_upgrade_and_its_record() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    forget_identity(world, content="0123456789")
    world.kube.take((ObjectKind.CONTROLLER_REVISION.value, NAMESPACE, f"{NAME}-{rollout['revision']}"))
    # So that its name does not tell either.
    world.create({**canary(2), "runtime": {"threads": 2}})
    await upgrade(world)
    assert "rollout" not in world.status()
    message = world.message("RevisionReady")
    assert "what ran them is not known any more" in message
    assert "kubectl slipway retry" in message


async def test_a_healthy_canary_model_makes_no_canary_and_asks_nobody() -> None:
    world = await serving(canary(1))
    before = world.status()
    world.routers.requests_per_second = 0
    await upgrade(world, seconds=120)
    status = world.status()
    assert "rollout" not in status
    assert "canary" not in status
    assert status["stable"] == before["stable"]
    assert revisions(world) == {before["stable"]["revision"]}
    assert images(world) == {NEW.server_image}
    assert world.said()["Ready"] == "True Serving"


NAMES = tuple(f"model-{number:02}" for number in range(12))
PLAIN: dict[str, Any] = {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 2}}


async def fleet(most: int = 3, spec: dict[str, Any] = PLAIN, names_: Sequence[str] = NAMES) -> World:
    """Twelve models, and three turns at a time."""
    world = World()
    world.most_upgrades = most
    await world.restart()
    for name in names_:
        world.create(spec, name)
    await world.run(30)
    assert {world.said(name)["Ready"] for name in names_} == {"True Serving"}
    return world


def phases(world: World) -> dict[str, str]:
    found = {name: world.status(name).get("upgrade", {}).get("phase") for name in NAMES}
    return {name: phase for name, phase in found.items() if phase is not None}


def replaced(world: World) -> set[str]:
    """Models with a Deployment of the newest image."""
    return {
        found["metadata"]["labels"][naming.MODEL_LABEL]
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if found["spec"]["template"]["spec"]["containers"][0]["image"] == NEW.server_image
    }


class Watcher:
    """Notes how many models have pods of two templates, and whether one lost a ready pod, at every change."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.most = 0
        self.order: list[str] = []
        self.least_ready = 99
        world.kube.listeners.append(self.see)

    def see(self, _type: str, manifest: Any) -> None:
        if manifest["kind"] != ObjectKind.DEPLOYMENT or "status" not in manifest:
            return
        status = manifest["status"]
        self.least_ready = min(self.least_ready, status["readyReplicas"])
        name = manifest["metadata"]["labels"][naming.MODEL_LABEL]
        if manifest["metadata"]["generation"] > 1 and name not in self.order and name in replaced(self.world):
            self.order.append(name)
        mixed = [
            found
            for found in self.world.kube.all(ObjectKind.DEPLOYMENT)
            if found["status"]["updatedReplicas"] < found["status"]["replicas"]
            or found["status"]["observedGeneration"] < found["metadata"]["generation"]
        ]
        self.most = max(self.most, len(mixed))


async def test_a_few_models_at_a_time_get_new_pods_and_none_loses_one_meanwhile() -> None:
    world = await fleet()
    watcher = Watcher(world)
    before = {name: world.status(name)["stable"]["revision"] for name in NAMES}
    await upgrade(world, seconds=300)
    assert watcher.most == 3
    assert watcher.least_ready == 2
    assert replaced(world) == set(NAMES)
    assert phases(world) == {}
    assert {name: world.status(name)["stable"]["revision"] for name in NAMES} == before
    assert {world.said(name)["RolloutComplete"] for name in NAMES} == {"True RolledOut"}
    writes = world.writes()
    await world.restart()
    await world.run(60)
    assert world.writes() == writes


def of_new_image(pod: Any) -> bool:
    return bool(pod["spec"]["containers"][0]["image"] == NEW.server_image)


def failing(pod: Any) -> dict[str, Any] | None:
    """Pods of the new image do not start."""
    if not of_new_image(pod):
        return None
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    state = {"name": "server", "image": NEW.server_image, "state": waiting}
    return {"phase": "Pending", "containerStatuses": [state], "conditions": []}


async def test_an_upgrade_whose_pods_do_not_start_stops_after_the_first_turns_and_nobody_notices() -> None:
    world = await fleet()
    world.pod_status = failing
    await upgrade(world, seconds=120)
    found = phases(world)
    assert sorted(found.values()) == ["Stuck"] * 3 + ["Waiting"] * 9
    assert len(replaced(world)) == 3
    assert {world.said(name)["Ready"] for name in NAMES} == {"True Serving"}
    assert {world.said(name)["RevisionReady"] for name in NAMES} == {"True Available"}
    assert not any({"Reconciling", "Stalled"} & world.said(name).keys() for name in NAMES)
    stuck = next(name for name, phase in found.items() if phase == "Stuck")
    assert "ImagePullFailed" in world.status(stuck)["upgrade"]["message"]
    waits = next(name for name, phase in found.items() if phase == "Waiting")
    assert "every upgrade that is under way is stuck" in world.status(waits)["upgrade"]["message"]
    assert world.operator.upgrades.is_halted
    assert world.told().count("Warning UpgradeStuck") == 3
    # Nothing is written until somebody does something about it, by another leader neither.
    writes = world.writes()
    await world.restart()
    await world.run(60)
    assert (world.writes(), phases(world)) == (writes, found)
    # A better image reaches those that are stuck first, and then all others.
    world.pod_status = lambda _: None
    await upgrade(world, replace(NEW, server_image="slipway.dev/server:0.2.1"), seconds=300)
    assert phases(world) == {}
    assert images(world, NAMES[11]) == {"slipway.dev/server:0.2.1"}


async def test_an_upgrade_whose_pods_start_slowly_one_after_the_other_is_not_stuck() -> None:
    world = await serving({**PLAIN, "scaling": {"minReplicas": 3}})
    started: set[str] = set()

    def slow(pod: Any) -> dict[str, Any] | None:
        if not of_new_image(pod) or pod["metadata"]["name"] in started:
            return None
        state = {"name": "server", "image": NEW.server_image, "ready": False, "state": {"running": {}}}
        return {"phase": "Running", "containerStatuses": [state], "conditions": []}

    world.pod_status = slow
    await upgrade(world, seconds=5)
    for count in (1, 2, 3):
        # Longer than an upgrade without any progress may take, all three together.
        await world.run(500)
        told = world.status()["upgrade"]
        assert (told["phase"], told["updatedReplicas"]) == ("Upgrading", count)
        started |= {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if of_new_image(pod)}
    await world.run(30)
    assert "upgrade" not in world.status()


async def test_a_downgrade_in_the_middle_takes_back_what_was_begun_and_leaves_the_rest_alone() -> None:
    world = await fleet()
    world.pod_status = failing
    await upgrade(world, seconds=120)
    begun = replaced(world)
    generations = {
        found["metadata"]["name"]: found["metadata"]["generation"]
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
    }
    await upgrade(world, SETTINGS, seconds=120)
    assert phases(world) == {}
    assert replaced(world) == set()
    touched = {
        found["metadata"]["labels"][naming.MODEL_LABEL]
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if found["metadata"]["generation"] != generations[found["metadata"]["name"]]
    }
    assert touched == begun


async def test_killed_at_any_request_the_next_operator_gives_out_no_more_turns() -> None:
    probe = await fleet(2, names_=NAMES[:3])
    start = len(probe.kube.requests)
    await upgrade(probe, seconds=60)
    for number in range(start + 1, min(len(probe.kube.requests), start + 60), 7):
        world = await fleet(2, names_=NAMES[:3])
        watcher = Watcher(world)
        world.settings = NEW

        def kill(request: Request, at: int = number) -> None:
            if request.number == at:
                raise Killed

        world.kube.after = kill
        with suppress(Killed):
            await world.restart()
            await world.run(60)
        world.kube.after = None
        await world.restart()
        await world.run(90)
        assert watcher.most <= 2, f"killed after request {number}"
        assert watcher.least_ready == 2
        assert replaced(world) == set(NAMES[:3])
        assert not any("upgrade" in world.status(name) for name in NAMES[:3])


async def test_a_pinned_image_is_left_alone_and_another_mlflow_reaches_it_in_its_turn() -> None:
    pinned = {**PLAIN, "runtime": {"image": "registry.example.com/server:2"}}
    world = await fleet(spec=pinned)
    writes = world.writes()
    await upgrade(world)
    assert world.writes() == writes
    watcher = Watcher(world)
    elsewhere = replace(SETTINGS, mlflow_tracking_uri="http://elsewhere:5000")
    await upgrade(world, elsewhere, seconds=300)
    assert watcher.most == 3
    for found in world.kube.all(ObjectKind.DEPLOYMENT):
        spec = found["spec"]["template"]["spec"]
        assert spec["containers"][0]["image"] == "registry.example.com/server:2"
        assert spec["initContainers"][0]["image"] == SETTINGS.server_image
        env = {each["name"]: each["value"] for each in spec["initContainers"][0]["env"]}
        assert env[MLFLOW_TRACKING_URI_ENV] == "http://elsewhere:5000"


async def test_a_deleted_model_gives_its_turn_to_the_next() -> None:
    world = await fleet()
    world.pod_status = failing
    await upgrade(world, seconds=120)
    for name in [name for name, phase in phases(world).items() if phase == "Stuck"]:
        world.kube.take((KIND, NAMESPACE, name))
    await world.run(120)
    left = [name for name in NAMES if world.kube.has(KIND, NAMESPACE, name)]
    assert len(left) == 9
    assert sorted(world.status(name)["upgrade"]["phase"] for name in left) == ["Stuck"] * 3 + ["Waiting"] * 6


async def test_drift_of_what_waits_is_taken_back_to_what_was_applied_last() -> None:
    world = await fleet()
    world.pod_status = failing
    await upgrade(world, seconds=120)
    name = next(name for name, phase in phases(world).items() if phase == "Waiting")
    place = next(
        (ObjectKind.DEPLOYMENT.value, NAMESPACE, found["metadata"]["name"])
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if found["metadata"]["labels"][naming.MODEL_LABEL] == name
    )

    def drift(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1

    before = world.kube.find(*place)["spec"]["template"]
    world.kube.edit(place, drift)
    await world.run(30)
    assert world.kube.find(*place)["spec"]["template"] == before
    assert phases(world)[name] == "Waiting"


async def test_a_model_that_never_served_waits_for_nobody() -> None:
    world = await fleet()
    world.pod_status = lambda pod: {"phase": "Pending", "conditions": []} if not of_new_image(pod) else None
    world.create(PLAIN, "late")
    await world.run(30)
    assert world.said("late")["Ready"].startswith("False")
    world.pod_status = failing
    await upgrade(world, seconds=120)
    assert world.operator.upgrades.is_halted
    world.pod_status = lambda pod: None if "late" in pod["metadata"]["name"] else failing(pod)
    await world.run(60)
    assert world.said("late")["Ready"] == "True Serving"
    assert images(world, "late") == {NEW.server_image}


async def test_a_canary_goes_on_through_an_upgrade_that_is_stuck_and_is_not_rejected_for_it() -> None:
    world = await serving(canary(1))
    world.create({**canary(2), "rollout": {**canary(2)["rollout"], "progressDeadlineSeconds": 60}})
    await world.run(60)
    before = world.status()
    assert (before["rollout"]["phase"], before["rollout"]["weight"]) == ("Paused", 50)
    await world.run(90)
    world.pod_status = failing
    await upgrade(world, seconds=200)
    status = world.status()
    assert status["upgrade"]["phase"] == "Stuck"
    assert status["rollout"]["id"] == before["rollout"]["id"]
    assert (status["rollout"]["phase"], status["rollout"]["weight"]) == ("Paused", 50)
    assert "rejected" not in status or status["rejected"] == []
    # The canary's old pods die, and its new ones cannot start: stable has all, and that is still no verdict.
    world.pod_status = lambda pod: (
        failing(pod)
        or (
            {"phase": "Running", "conditions": []}
            if status["canary"]["revision"] in pod["metadata"]["name"]
            else None
        )
    )
    await world.run(150)
    status = world.status()
    assert status["rejected"] == []
    assert (status["rollout"]["id"], status["rollout"]["weight"]) == (before["rollout"]["id"], 0)
    world.pod_status = lambda _: None
    await world.run(120)
    status = world.status()
    assert "upgrade" not in status
    assert (status["rollout"]["id"], status["rollout"]["weight"]) == (before["rollout"]["id"], 50)
    assert images(world) == {NEW.server_image}


async def test_what_fails_while_pods_are_replaced_is_no_evidence() -> None:
    world = await serving(canary(1, {"setWeight": 50}, {"analysis": {}}, {"pause": {}}))
    world.create(canary(2, {"setWeight": 50}, {"analysis": {}}, {"pause": {}}))
    await world.run(20)
    before = world.status()["rollout"]
    world.pod_status = failing
    world.routers.error_rate = lambda revision: 0.5 if revision == before["revision"] else 0.0
    await upgrade(world, seconds=200)
    status = world.status()
    assert status["upgrade"]["phase"] == "Stuck"
    assert status["rejected"] == []
    assert status["rollout"]["id"] == before["id"]
    # It is, once both have their new pods.
    world.pod_status = lambda _: None
    await world.run(200)
    (rejection,) = world.status()["rejected"]
    assert "gate" in rejection["message"]


async def test_routers_get_a_new_envoy_in_turns_too() -> None:
    world = await serving(canary(1))
    world.most_upgrades = 1
    world.router_settings = replace(world.router_settings, image="slipway.dev/router:0.2.0")
    before = world.writes()
    await upgrade(world, SETTINGS, seconds=120)
    assert world.writes() > before
    assert images_of_routers(world) == {"slipway.dev/router:0.2.0"}
    assert world.said()["Ready"] == "True Serving"
    assert world.operator.upgrades.phases == {}


def images_of_routers(world: World) -> set[str]:
    return {
        pod["spec"]["containers"][0]["image"]
        for pod in world.kube.all(ObjectKind.POD)
        if pod["metadata"]["labels"].get(naming.COMPONENT_LABEL) == "router"
    }


async def test_while_routers_wait_they_go_on_to_be_owned_by_every_model_that_needs_them() -> None:
    world = await serving(canary(1))
    world.most_upgrades = 1
    world.pod_status = failing
    await upgrade(world, seconds=120)
    assert world.operator.upgrades.is_halted
    world.router_settings = replace(world.router_settings, image="slipway.dev/router:0.2.0")
    await upgrade(world, seconds=60)
    world.pod_status = lambda pod: None if "second" in pod["metadata"]["name"] else failing(pod)
    world.create(canary(1), "second")
    await world.run(60)
    (routers,) = [
        found
        for found in world.kube.all(ObjectKind.DEPLOYMENT)
        if found["metadata"]["labels"][naming.COMPONENT_LABEL] == "router"
    ]
    assert {owner["name"] for owner in routers["metadata"]["ownerReferences"]} == {NAME, "second"}
    assert images_of_routers(world) == {"slipway.dev/router:dev"}


async def test_one_namespace_whose_upgrades_are_stuck_leaves_turns_to_the_others() -> None:
    store, woken = Store(), set[Key]()
    for namespace in ("full", "other"):
        for number in range(8):
            meta = {"name": f"m{number}", "namespace": namespace, "uid": f"{namespace}{number}"}
            store.put({"kind": KIND, "metadata": {**meta, "resourceVersion": "1"}})
    upgrades = Upgrades(store, 5, woken.add)
    for namespace in ("full", "other"):
        upgrades.note(Key(namespace, "", routers=True), None)
    full = [Key("full", f"m{number}") for number in range(8)]
    for key in full:
        upgrades.note(key, "Stuck" if upgrades.may_begin(key) else "Waiting")
    assert list(upgrades.phases.values()).count("Stuck") == 3
    other = [Key("other", f"m{number}") for number in range(8)]
    done = 0
    for key in other:
        if upgrades.may_begin(key):
            upgrades.note(key, "Upgrading")
            upgrades.note(key, None)
            done += 1
    assert done == 8
    # Nobody else wants one any more: the rest is theirs too.
    assert woken >= {key for key in full if upgrades.phases[key] == "Waiting" and upgrades.may_begin(key)}
    assert sum(upgrades.may_begin(key) for key in full if upgrades.phases[key] == "Waiting") == 2


async def test_a_model_that_serves_nothing_has_the_next_turn() -> None:
    upgrades = Upgrades(Store(), 1, lambda _: None)
    first, second, down = (Key("a", name) for name in ("first", "second", "down"))
    upgrades.note(first, "Upgrading")
    upgrades.note(second, "Waiting")
    upgrades.note(down, "Waiting", serves=False)
    upgrades.note(first, None)
    assert not upgrades.may_begin(second)
    assert upgrades.may_begin(down)
