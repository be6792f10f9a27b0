"""Those of a namespace that ask the very same thing make one resolver pod, and others make their own."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core.observed import ObjectKind
from slipway.engine.errors import ApiError
from tests.unit.engine.test_aliases import resolvers
from tests.unit.fake import Request
from tests.unit.world import NAMESPACE, World, resolution

NAMES = tuple(f"model-{number}" for number in range(6))
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
