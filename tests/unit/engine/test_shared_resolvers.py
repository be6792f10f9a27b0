"""Those of a namespace that ask the very same thing make one resolver pod, and others make their own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.contract import Failed, Failure, ModelFault, TerminationMessage
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.errors import ApiError
from tests.unit.engine.test_aliases import resolvers
from tests.unit.fake import Request, stamp
from tests.unit.world import NAMESPACE, World, resolution

NAMES = tuple(f"model-{number}" for number in range(6))
URI = "mlflow://fraud/1"
ALIAS = "mlflow://fraud@champion"


async def begun(**models: dict[str, Any]) -> World:
    world = World()
    await world.operator.start()
    for name, model in models.items():
        world.create({"model": model}, name)
    return world


def versions(world: World, names: tuple[str, ...] = NAMES) -> set[str]:
    return {(world.status(name).get("stable") or {}).get("version", "") for name in names}


async def test_many_of_one_model_make_one_resolver() -> None:
    world = await begun(**{name: {"uri": "mlflow://fraud/1"} for name in NAMES})
    await world.run(30)
    assert versions(world) == {"1"}
    assert resolvers(world) == 1


async def test_an_answer_that_is_there_before_its_pod_has_ended_is_all_the_same_everybodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kubelet may tell that the container has ended, and only then that the pod has."""
    world, told = await begun(), set[str]()
    outcome = world._outcome

    def in_two_steps(pod: dict[str, Any]) -> dict[str, Any]:
        first = pod["metadata"]["uid"] not in told
        told.add(pod["metadata"]["uid"])
        return {**outcome(pod), **({"phase": "Running"} if first else {})}

    monkeypatch.setattr(world, "_outcome", in_two_steps)
    for name in NAMES:
        world.create({"model": {"uri": "mlflow://fraud/1"}}, name)
    await world.run(30)
    assert versions(world) == {"1"}
    assert resolvers(world) == 1


async def test_a_moved_alias_makes_one_resolver_for_all_who_follow_it() -> None:
    world = World()
    world.models[ALIAS] = resolution(1)
    await world.operator.start()
    for name in NAMES:
        world.create({"model": {"uri": ALIAS}}, name)
    await world.run(90)
    for version in (2, 3):
        world.models[ALIAS] = resolution(version)
        await world.run(300)
        assert versions(world) == {str(version)}
        assert resolvers(world) == version


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"uri": "mlflow://fraud/1"}, {"uri": "mlflow://fraud/1", "digest": resolution(1).digest}),
        (
            {"uri": "mlflow://fraud/1", "credentials": {"secretRef": {"name": "mine"}}},
            {"uri": "mlflow://fraud/1"},
        ),
        (
            {"uri": "mlflow://fraud/1", "credentials": {"secretRef": {"name": "mine"}}},
            {"uri": "mlflow://fraud/1", "credentials": {"secretRef": {"name": "yours"}}},
        ),
        ({"uri": "s3://models/a.onnx"}, {"uri": "s3://models/a.onnx"}),
    ],
    ids=["another digest", "a Secret and none", "another Secret", "each by the rights of its own pod"],
)
async def test_who_asks_otherwise_or_with_other_rights_asks_itself(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    world = await begun()
    world.models["s3://models/a.onnx"] = resolution(1)
    world.create({"model": first}, NAMES[0])
    world.create({"model": second}, NAMES[1])
    await world.run(30)
    assert versions(world, NAMES[:2]) == {"1"}
    assert resolvers(world) == 2


async def test_no_answer_crosses_a_namespace() -> None:
    world = await begun(first={"uri": "mlflow://fraud/1"})
    world.create({"model": {"uri": "mlflow://fraud/1"}}, "first", "elsewhere")
    await world.run(30)
    assert resolvers(world) == 2


async def test_a_failure_is_told_to_all_and_so_is_what_is_found_later() -> None:
    world = await begun(**{name: {"uri": "mlflow://fraud/77"} for name in NAMES})
    await world.run(25)
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False ModelNotFound"}
    assert resolvers(world) <= 3
    world.models["mlflow://fraud/77"] = resolution(77)
    await world.run(120)
    assert versions(world) == {"77"}


async def test_an_answer_that_is_old_is_not_taken() -> None:
    world = await begun(first={"uri": "mlflow://fraud/1"})
    await world.run(90)
    world.create({"model": {"uri": "mlflow://fraud/1"}}, "second")
    await world.run(30)
    assert resolvers(world) == 2


async def test_when_the_one_that_asks_for_all_is_deleted_another_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with monkeypatch.context() as slow:
        slow.setattr(world, "_resolve", lambda: False)
        await world.operator.start()
        for name in NAMES:
            world.create({"model": {"uri": "mlflow://fraud/1"}}, name)
        await world.run(20)
        (pod,) = world.kube.all(ObjectKind.POD)
    asking = pod["metadata"]["ownerReferences"][0]["name"]
    world.kube.drop((KIND, NAMESPACE, asking))
    others = tuple(name for name in NAMES if name != asking)
    await world.run(60)
    assert versions(world, others) == {"1"}


async def test_one_whose_pod_is_refused_keeps_nobody_waiting() -> None:
    world = await begun()

    def refuse(request: Request) -> None:
        if request.verb == "create" and request.name.startswith("model-0-resolve-"):
            raise ApiError(403, "Forbidden", "exceeded quota: pods")

    world.kube.before = refuse
    for name in NAMES:
        world.create({"model": {"uri": "mlflow://fraud/1"}}, name)
    await world.run(90)
    assert versions(world, NAMES[1:]) == {"1"}


async def test_nothing_is_remembered_of_those_that_have_their_answer() -> None:
    world = await begun(**{name: {"uri": "mlflow://fraud/1"} for name in NAMES})
    await world.run(120)
    world.create({"model": {"uri": "mlflow://fraud/2"}}, "another")
    await world.run(120)
    world.kube.drop((KIND, NAMESPACE, "another"))
    await world.run(120)
    world.create({"model": {"uri": "mlflow://fraud/3"}}, "last")
    await world.run(30)
    found = vars(vars(world.operator.reconciler)["_resolvers"])
    assert found["_asking"] == {}
    assert len(found["_questions"]) == 1, "whose answer is fresh"


async def test_looks_with_a_secret_that_are_due_together_are_one() -> None:
    secret = {"credentials": {"secretRef": {"name": "store"}}, "refreshSeconds": 600}
    world = World()
    world.models[ALIAS] = resolution(1)
    await world.operator.start()
    for name in NAMES:
        world.create({"model": {"uri": ALIAS, **secret}}, name)
    await world.run(590)
    before = resolvers(world)
    world.models[ALIAS] = resolution(2)
    await world.run(900)
    assert versions(world) == {"2"}
    assert 1 <= resolvers(world) - before <= 3


class Uneven(World):
    """A cluster in which pods that are alike fare differently.

    Attributes:
        cut_off: whose pods reach no store, and say so after 20 seconds.
        homeless: whose pods have no room.
        fewest, most: pods that wait for a store's answer at the same time.
    """

    def __init__(self, cut_off: Iterable[str] = (), homeless: Iterable[str] = ()) -> None:
        super().__init__()
        self.cut_off, self.homeless = set(cut_off), set(homeless)
        self.most = 0
        self._since: dict[str, datetime] = {}

    def owner(self, pod: Manifest) -> str:
        return str(pod["metadata"]["ownerReferences"][0]["name"])

    def _resolver_status(self, pod: Manifest) -> dict[str, Any] | None:
        owner, uid = self.owner(pod), pod["metadata"]["uid"]
        if owner in self.homeless:
            no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
            return {"phase": "Pending", "conditions": [no_room]}
        is_running = pod.get("status", {}).get("phase") == "Running"
        if not is_running or owner not in self.cut_off:
            return super()._resolver_status(pod)
        since = self._since.setdefault(uid, self.now)
        if self.now - since < timedelta(seconds=20):
            waiting = [one for one in self.kube.all(ObjectKind.POD) if one["metadata"]["uid"] in self._since]
            phases = [one["status"]["phase"] for one in waiting if "status" in one]
            self.most = max(self.most, phases.count("Running"))
            return None
        failure = Failure(reason=ModelFault.REGISTRY_UNREACHABLE, message="no answer in time")
        words = TerminationMessage(outcome=Failed(failure=failure)).model_dump_json()
        ended = {"exitCode": 1, "finishedAt": stamp(self.now), "message": words}
        states = [{"name": "resolve", "image": "x", "state": {"terminated": ended}}]
        return {"phase": "Failed", "containerStatuses": states}


async def uneven(*names: str, **holes: Iterable[str]) -> Uneven:
    world = Uneven(**holes)
    await world.operator.start()
    for name in names:
        world.create({"model": {"uri": URI}}, name)
    return world


async def test_one_whose_own_pod_reaches_no_store_holds_up_nobody_and_has_their_answer() -> None:
    """By a NetworkPolicy of its name, say."""
    world = await uneven(*NAMES, cut_off=NAMES[:1])
    await world.run(35)
    assert versions(world) == {"1"}
    assert resolvers(world) == 2


async def test_nor_does_it_hold_up_those_that_ask_while_it_waits_for_another_try() -> None:
    world = await uneven(NAMES[0], cut_off=NAMES[:1])
    for name in NAMES[1:]:
        world.create({"model": {"uri": "mlflow://fraud/2"}}, name)
    await world.run(28)
    assert world.said(NAMES[0])["ModelResolved"] == "False RegistryUnreachable"
    for name in NAMES[1:]:
        world.create({"model": {"uri": URI}}, name)
    await world.run(3)
    assert versions(world) == {"1"}


async def test_nor_while_it_tries_again() -> None:
    world = await uneven(NAMES[0], cut_off=NAMES[:1])
    await world.run(35)
    assert [pod["status"]["phase"] for pod in world.kube.all(ObjectKind.POD)] == ["Running"]
    for name in NAMES[1:]:
        world.create({"model": {"uri": URI}}, name)
    await world.run(3)
    assert versions(world) == {"1"}


async def test_one_whose_pod_has_no_room_is_waited_for_a_while_and_says_so_for_all() -> None:
    world = await uneven(*NAMES, homeless=NAMES[:1])
    await world.run(5)
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False Unschedulable"}
    await world.run(45)
    assert versions(world) == {"1"}
    assert resolvers(world) == 2


async def test_where_no_pod_has_room_few_wait_for_it() -> None:
    world = await uneven(*NAMES, homeless=NAMES)
    await world.run(300)
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False Unschedulable"}
    assert resolvers(world) <= 4
    world.homeless = {NAMES[0]}
    await world.run(30)
    assert versions(world) == {"1"}


async def test_a_store_that_nobody_reaches_is_told_to_all_and_asked_by_one_at_a_time() -> None:
    world = await uneven(*NAMES, cut_off=NAMES)
    await world.run(25)
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False RegistryUnreachable"}
    await world.run(600)
    assert world.most == 1
    # Each once, then one for all about every 80 seconds.
    assert resolvers(world) <= len(NAMES) + 10
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False RegistryUnreachable"}
    # Whoever is cut off still has its turns, and no two of them in a row.
    world.cut_off = set(NAMES[:3])
    await world.run(400)
    assert versions(world) == {"1"}


async def test_one_that_cannot_be_read_any_more_asks_for_nobody() -> None:
    world = await begun(**{name: {"uri": "mlflow://fraud/77"} for name in NAMES})
    await world.run(3)
    world.kube.edit((KIND, NAMESPACE, NAMES[0]), lambda live: live.update(spec={"model": {"uri": 7}}))
    world.models["mlflow://fraud/77"] = resolution(77)
    await world.run(80)
    assert versions(world, NAMES[1:]) == {"77"}


async def test_what_a_store_said_before_one_asked_is_no_answer_to_it() -> None:
    """Who uploads a model and then asks for it waits for nobody's next try."""
    world = await begun(**{NAMES[0]: {"uri": "mlflow://fraud/77"}})
    await world.run(205)
    world.models["mlflow://fraud/77"] = resolution(77)
    for name in NAMES[1:]:
        world.create({"model": {"uri": "mlflow://fraud/77"}}, name)
    await world.run(2)
    assert versions(world) == {"77"}


async def test_a_refusal_of_everybodys_pod_is_told_to_all_at_once() -> None:
    world = await begun()

    def refuse(request: Request) -> None:
        if request.verb == "create" and "-resolve-" in request.name:
            raise ApiError(403, "Forbidden", "exceeded quota: pods")

    world.kube.before = refuse
    for name in NAMES:
        world.create({"model": {"uri": URI}}, name)
    await world.run(2)
    assert {world.said(name)["ModelResolved"] for name in NAMES} == {"False QuotaExceeded"}
    world.kube.before = lambda _: None
    await world.run(90)
    assert versions(world) == {"1"}


async def test_those_under_other_rights_ask_while_one_of_the_same_uri_fails() -> None:
    world = await uneven(cut_off=NAMES[:1])
    rights: list[dict[str, Any]] = [
        {},
        {"credentials": {"secretRef": {"name": "mine"}}},
        {"credentials": {"serviceAccountName": "reader"}},
    ]
    for name, own in zip(NAMES[:3], rights, strict=True):
        world.create({"model": {"uri": URI, **own}}, name)
    await world.run(3)
    assert versions(world, NAMES[1:3]) == {"1"}
    assert resolvers(world) == 3
