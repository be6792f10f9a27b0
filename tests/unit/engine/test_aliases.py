"""A name that moves is followed: by looking, or when somebody says so."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.api.types import API_VERSION, KIND, ModelDeploymentSpec
from slipway.contract import Resolution
from slipway.core.observed import ObjectKind
from slipway.core.resource import read
from slipway.engine.observers.aliases import Alias, Aliases
from slipway.engine.store import Key, Store
from tests.unit.virtual_time import run
from tests.unit.world import NAME, NAMESPACE, World, resolution

URI = "mlflow://fraud@champion"
SECRET = {"credentials": {"secretRef": {"name": "store"}}}


async def serving(**model: Any) -> World:
    world = World()
    await world.operator.start()
    world.models[URI] = resolution(1)
    world.create({"model": {"uri": URI, **model}})
    await world.run(30)
    assert world.status()["stable"]["version"] == "1"
    return world


def resolvers(world: World) -> int:
    return sum(
        request.verb == "create" and request.kind == ObjectKind.POD and "-resolve-" in request.name
        for request in world.kube.requests
    )


async def test_a_moved_alias_is_noticed_and_its_version_takes_over() -> None:
    world = await serving()
    world.models[URI] = resolution(2)
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    assert world.status()["previous"] != []


async def test_an_alias_at_rest_costs_no_pod_and_no_write() -> None:
    world = await serving()
    await world.run(60)
    before, writes = resolvers(world), world.writes()
    await world.run(3600)
    assert resolvers(world) == before
    assert world.writes() == writes


async def test_refreshing_never_means_never() -> None:
    world = await serving(refreshSeconds=0)
    world.models[URI] = resolution(2)
    await world.run(3600)
    assert world.status()["stable"]["version"] == "1"


async def test_one_that_never_looks_follows_its_own_request_and_not_the_look_of_a_neighbour() -> None:
    world = await serving(refreshSeconds=0)
    world.create({"model": {"uri": URI, "refreshSeconds": 60}}, "neighbour")
    await world.run(30)
    for version in (2, 3):
        world.models[URI] = resolution(version)
        await world.run(300)
        assert world.status("neighbour")["stable"]["version"] == str(version)
        assert world.status()["stable"]["version"] == str(version - 1)
        world.kube.edit(
            (KIND, NAMESPACE, NAME),
            lambda live, version=version: live["status"].update(
                refreshRequestedAt=f"2026-11-24T13:0{version}:00Z"
            ),
            "webhook",
        )
        await world.run(90)
        assert world.status()["stable"]["version"] == str(version)


async def test_with_credentials_a_resolver_pod_looks_once_in_each_interval() -> None:
    world = await serving(refreshSeconds=600, **SECRET)
    before = resolvers(world)
    await world.run(3600)
    assert 5 <= resolvers(world) - before <= 6
    world.models[URI] = resolution(2)
    await world.run(700)
    assert world.status()["stable"]["version"] == "2"


async def test_what_the_alias_meant_serves_on_while_a_look_fails_and_the_status_says_so() -> None:
    world = await serving(refreshSeconds=60, **SECRET)
    del world.models[URI]
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert "looking again failed: there is no mlflow://fraud@champion" in world.message("ModelResolved")
    world.models[URI] = resolution(2)
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"


async def test_looks_that_fail_come_ever_less_often_whether_or_not_the_model_was_known() -> None:
    world = await serving(refreshSeconds=600, **SECRET)
    del world.models[URI]
    await world.run(700)
    assert world.said()["ModelResolved"] == "True RefreshFailed"
    before = resolvers(world)
    await world.run(1800)
    # At most one in each minute, once it has failed for one.
    assert 10 < resolvers(world) - before <= 31


async def test_a_request_by_the_webhook_is_followed_at_once() -> None:
    for model in ({}, SECRET):
        world = await serving(refreshSeconds=86_400, **model)
        world.models[URI] = resolution(2)
        await world.run(60)
        assert world.status()["stable"]["version"] == "1"
        world.kube.edit(
            (KIND, NAMESPACE, NAME),
            lambda live: live["status"].update(refreshRequestedAt="2026-11-24T13:00:00Z"),
            "webhook",
        )
        await world.run(60)
        assert world.status()["stable"]["version"] == "2"


async def test_a_look_that_was_overtaken_starts_no_second_one() -> None:
    world = await serving()
    answers = iter([resolution(2), resolution(3)])
    before = resolvers(world)

    async def ask(_: object) -> str | None:
        return "2"

    world.operator.aliases._ask = ask
    world.models[URI] = Resolution.model_validate(next(answers).model_dump() | {"version": "3"})
    await world.run(70)
    assert resolvers(world) - before == 1


def test_resolver_pods_of_many_that_an_operator_begins_with_do_not_come_in_one_second() -> None:
    """With credentials each look is a pod."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    chance = random.Random(7)
    aliases = Aliases(Store(), None, lambda _: None, lambda: now, spread=chance.random)
    model = {"uri": URI, "refreshSeconds": 600, **SECRET}
    known = {
        "uri": URI,
        "resolvedURI": "mlflow://fraud/1",
        "version": "1",
        "digest": f"sha256:{1:064x}",
        "bytes": 1,
    }
    minutes: Counter[int] = Counter()
    for number in range(600):
        meta = {"name": f"m{number}", "namespace": NAMESPACE, "uid": f"u{number}", "resourceVersion": "1"}
        manifest = {"metadata": meta, "spec": {"model": model}, "status": {"model": known}}
        resource = read({"kind": KIND, "apiVersion": API_VERSION, **manifest})
        assert aliases.refresh_token(resource) is None
        minutes[int((aliases._due[Key(NAMESPACE, f"m{number}")] - now).total_seconds() // 60)] += 1
    assert set(minutes) == set(range(1, 10))
    assert max(minutes.values()) < 110, minutes


@pytest.mark.parametrize(
    ("more", "seconds"), [({}, 900), ({"refreshSeconds": 60}, 60), ({"refreshSeconds": 0}, 0)]
)
async def test_with_credentials_a_look_is_a_pod_and_comes_each_quarter_of_an_hour_unless_asked_for(
    more: dict[str, int], seconds: int
) -> None:
    world = await serving(**SECRET, **more)
    before = resolvers(world)
    await world.run(1790)
    looks = resolvers(world) - before
    assert looks == (0 if seconds == 0 else pytest.approx(1790 // seconds, abs=4))
    assert (looks == 0) == (seconds == 0)


def test_what_a_spec_leaves_out_is_looked_up_each_minute_where_that_takes_no_pod() -> None:
    found = ModelDeploymentSpec.model_validate({"model": {"uri": URI}})
    assert found.model.refresh_interval == 60


def test_an_alias_that_is_never_answered_keeps_no_other_from_being_looked_up() -> None:
    asked: Counter[str] = Counter()

    async def ask(alias: Alias) -> str:
        asked[alias.name] += 1
        if alias.name.startswith("silent"):
            await asyncio.sleep(1e6)
        return "1"

    async def looked_up() -> None:
        loop = asyncio.get_running_loop()
        store = Store()
        for number, name in enumerate([*(f"silent-{number}" for number in range(20)), "fraud"]):
            meta = {"name": name, "namespace": f"team-{number}", "uid": name, "resourceVersion": "1"}
            spec = {"model": {"uri": f"mlflow://{name}@champion", "refreshSeconds": 60}}
            store.put({"kind": KIND, "apiVersion": API_VERSION, "metadata": meta, "spec": spec})
        begin = datetime(2026, 11, 24, 12, tzinfo=UTC)
        aliases = Aliases(store, ask, lambda _: None, lambda: begin + timedelta(seconds=loop.time()))
        watching = asyncio.create_task(aliases.watch())
        await asyncio.sleep(305)
        watching.cancel()

    run(looked_up())
    assert asked.pop("fraud") == 6
    assert set(asked.values()) == {1}


def in_git(version: int) -> Resolution:
    found = resolution(version)
    uri = f"dvc://git/shop/models/fraud.onnx@{version:040x}"
    return found.model_copy(update={"uri": uri, "mark": f"mark-{version}"})


@pytest.mark.parametrize(
    "uri",
    [
        "dvc://git/shop/models/fraud.onnx@main",
        "dvc://git/shop/models?artifact=fraud",
        "dvc://git/shop/models?artifact=fraud&stage=prod",
    ],
)
async def test_a_name_in_git_is_followed_with_and_without_credentials(uri: str) -> None:
    for model in ({}, SECRET):
        world = World()
        await world.operator.start()
        world.models[uri] = in_git(1)
        world.create({"model": {"uri": uri, **model}})
        await world.run(1000)
        assert world.status()["model"]["mark"] == "mark-1"
        world.models[uri] = in_git(2)
        await world.run(1100)
        assert world.status()["stable"]["version"] == "2"
        assert world.status()["model"]["resolvedURI"].endswith(f"@{2:040x}")
        first, *others = world.tasks
        assert "known" not in first
        # A look again is told what the one before found, so that it need not read the model.
        assert others
        assert {each["known"]["mark"] for each in others} <= {"mark-1", "mark-2"}


@pytest.mark.parametrize(
    ("uri", "more", "follows"),
    [
        (f"dvc://git/shop/models/fraud.onnx@{1:040x}", {"refreshSeconds": 60}, False),
        ("dvc://git/shop/models?artifact=fraud&version=1.0.0", {"refreshSeconds": 60}, False),
        ("s3://models/fraud.onnx", {}, False),
        ("s3://models/fraud.onnx", {"refreshSeconds": 0}, False),
        ("s3://models/fraud.onnx", {"refreshSeconds": 60}, True),
        ("s3://models/fraud.onnx?versionId=1", {"refreshSeconds": 60}, False),
        ("gs://models/fraud/", {"refreshSeconds": 60}, True),
        ("gs://models/fraud.onnx#1", {"refreshSeconds": 60}, False),
        ("az://lake/models/fraud.onnx", {"refreshSeconds": 60}, True),
        ("https://host/fraud.onnx", {"refreshSeconds": 60}, False),
        ("oci://hub/fraud:v1", {"refreshSeconds": 60}, True),
        (f"oci://hub/fraud@sha256:{'a' * 64}", {"refreshSeconds": 60}, False),
        ("pvc://claim/fraud.onnx", {"refreshSeconds": 60}, False),
    ],
)
async def test_only_what_can_move_is_looked_up_again(uri: str, more: dict[str, int], follows: bool) -> None:
    world = World()
    await world.operator.start()
    pinned = in_git(1).uri if uri.startswith("dvc:") else uri.replace(":v1", f"@sha256:{'a' * 64}")
    world.models[uri] = resolution(1).model_copy(update={"uri": pinned})
    world.create({"model": {"uri": uri, **more, **SECRET}})
    await world.run(1800)
    assert world.said()["ModelResolved"].startswith("True"), world.message("ModelResolved")
    assert (len(world.tasks) > 1) == follows


async def test_a_look_that_finds_the_same_writes_nothing() -> None:
    uri = "dvc://git/shop/models/fraud.onnx@main"
    world = World()
    await world.operator.start()
    world.models[uri] = in_git(1)
    world.create({"model": {"uri": uri, "refreshSeconds": 60}})
    await world.run(100)
    before, revision = len(world.tasks), world.status()["stable"]["revision"]
    await world.run(1000)
    assert len(world.tasks) - before >= 10
    assert world.status()["stable"]["revision"] == revision
    assert world.status()["previous"] == []
