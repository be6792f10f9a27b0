"""Two installations that watch the same namespaces: one looks after each, and the other says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core.observed import ObjectKind
from slipway.engine.controller import claims
from slipway.engine.controller.apply import CLAIM_MANAGER, STATUS_MANAGER
from slipway.engine.errors import ApiError
from slipway.engine.store import Key
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import Request
from tests.unit.world import LEASE, NAME, NAMESPACE, SETTINGS, Operator, World

OTHER = "blue/slipway-operator"
#: The other installation's images differ: what it writes is not what the first one writes.
OTHERS = replace(SETTINGS, server_image="slipway.dev/server:other")
PLACE = (KIND, NAMESPACE, NAME)


@pytest.fixture
async def world() -> World:
    """Two installations; nobody has made a ModelDeployment yet."""
    world = World()
    await world.operator.start()
    await world.install(OTHER, OTHERS)
    return world


def other_of(world: World) -> Operator:
    return world.others[0]


def owner(world: World, name: str = NAME) -> str | None:
    found = world.kube.find(KIND, NAMESPACE, name).get("status", {}).get("operator")
    return str(found) if found else None


def revisions(world: World) -> int:
    return len(world.kube.all(ObjectKind.CONTROLLER_REVISION))


async def at_rest(world: World, seconds: float = 240) -> None:
    """Assert that nothing is written for so long."""
    writes = world.writes()
    await world.run(seconds)
    assert world.writes() == writes, [str(found) for found in world.kube.requests if found.is_write][-9:]


async def test_two_installations_make_one_revision_and_come_to_rest(world: World) -> None:
    world.create(spec(1))
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    assert revisions(world) == 1
    await at_rest(world)


async def test_two_installations_roll_out_as_one_does(world: World) -> None:
    world.routers.requests_per_second = 200
    world.create(spec(1))
    await world.run(60)
    claimed = owner(world)
    world.create(spec(2))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert world.routers.weights == [0, 10, 50, 100, 0]
    assert revisions(world) == 2
    assert owner(world) == claimed
    await at_rest(world)


async def test_a_namespace_and_so_its_routers_belong_to_one_installation(world: World) -> None:
    for number in range(6):
        world.create(spec(1), name=f"model-{number}")
        # Whichever comes first: the claim of another may be seen late.
        first, second = world.operators
        await first.look(Key(NAMESPACE, f"model-{number}"))
        await second.look(Key(NAMESPACE, f"model-{number}"))
    await world.run(120)
    assert len({owner(world, f"model-{number}") for number in range(6)}) == 1
    await at_rest(world)


async def test_who_claims_at_the_same_moment_is_refused_and_leaves_it_alone(world: World) -> None:
    world.create(spec(1))
    raced = False

    def race(request: Request) -> None:
        nonlocal raced
        if request.verb == "apply_status" and not raced:
            raced = True
            # The other one read the same state, and its request arrives first.
            world.kube._merge(PLACE, {"status": {"operator": OTHER}}, CLAIM_MANAGER)

    world.kube.before = race
    await world.operator.look(Key(NAMESPACE, NAME))
    assert [error.code for error in world.operator.errors] == [409]
    await world.run(60)
    assert owner(world) == OTHER
    assert world.said()["Ready"] == "True Serving"
    await at_rest(world)


async def test_who_is_told_of_another_claim_before_the_answer_to_its_own_writes_nothing(world: World) -> None:
    world.create(spec(1))

    def race(request: Request) -> None:
        if request.verb == "apply_status" and owner(world) == LEASE:
            world.kube._merge(PLACE, {"status": {"operator": OTHER}}, CLAIM_MANAGER)
            world.operator.store.put(world.kube.find(*PLACE))

    world.kube.after = race
    await world.operator.look(Key(NAMESPACE, NAME))
    assert owner(world) == OTHER
    assert [str(found) for found in world.kube.requests if found.is_write] == [f"apply_status {KIND} {NAME}"]


async def test_nothing_is_written_for_a_resource_before_it_is_claimed(world: World) -> None:
    world.create(spec(1))
    await world.run(60)
    writes = [str(found) for found in world.kube.requests if found.is_write]
    assert writes[0] == f"apply_status {KIND} {NAME}"
    managers = world.kube.managers(PLACE)
    assert managers[CLAIM_MANAGER] == {("status", "operator")}
    assert ("status", "operator") not in managers[STATUS_MANAGER]


async def test_a_namespace_split_between_two_falls_to_the_one_that_claimed_its_oldest(world: World) -> None:
    for name, by in (("a", OTHER), ("b", LEASE)):
        world.create(spec(1), name=name)
        # As if neither had seen the other's claim when it made its own.
        world.kube._merge((KIND, NAMESPACE, name), {"status": {"operator": by}}, CLAIM_MANAGER)
    await world.run(120)
    assert {owner(world, name) for name in "ab"} == {OTHER}
    assert world.said("b")["Ready"] == "True Serving"
    await at_rest(world)


async def test_the_other_says_once_that_it_leaves_them_alone_and_to_whom(world: World) -> None:
    for name in ("a", "b", "c"):
        world.create(spec(1), name=name)
    await world.run(300)
    (said,) = [event for event in world.kube.events if event["reason"] == "ClaimedElsewhere"]
    mine = owner(world, "a")
    theirs = LEASE if mine == OTHER else OTHER
    assert f"the operator with the Lease {mine} looks after the ModelDeployments of payments" in said["note"]
    assert f"the one with the Lease {theirs} leaves them alone" in said["note"]
    assert "once that Lease was gone or not renewed for 5 min" in said["note"]
    loser = next(found for found in world.operators if found.claims._own != mine)
    assert loser.claims.elsewhere == 3


def _released(world: World, lease: str) -> None:
    world.leases[lease] = "7"


def _deleted(world: World, lease: str) -> None:
    world.leases.pop(lease, None)


@pytest.mark.parametrize("lease_is", [_released, _deleted])
async def test_what_is_uninstalled_is_taken_over_after_five_minutes_and_no_earlier(
    world: World, lease_is: Callable[[World, str], None]
) -> None:
    world.create(spec(1))
    await world.run(60)
    if owner(world) == LEASE:
        # The test uninstalls the second one.
        world.kube._merge(PLACE, {"status": {"operator": OTHER}}, CLAIM_MANAGER)
        await world.run(30)
    assert owner(world) == OTHER
    world.uninstall(other_of(world), OTHER)
    lease_is(world, OTHER)
    await world.run(280)
    assert owner(world) == OTHER
    await world.run(60)
    assert owner(world) == LEASE
    world.routers.requests_per_second = 200
    world.create(spec(3))
    await world.run(1800)
    assert world.status()["stable"]["version"] == "3"
    image = {
        item["spec"]["template"]["spec"]["containers"][0]["image"]
        for item in world.kube.all(ObjectKind.DEPLOYMENT)
        if "revision" in str(item["metadata"]["labels"])
    }
    assert image == {SETTINGS.server_image}
    await at_rest(world)


async def _left_to_other() -> World:
    """The second installation looks after it, and is then away."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.kube._merge(PLACE, {"status": {"operator": OTHER}}, CLAIM_MANAGER)
    world.leases[OTHER] = "7"
    return world


async def test_one_that_comes_back_in_time_keeps_what_it_had() -> None:
    world = await _left_to_other()
    await world.run(200)
    world.leases[OTHER] = "8"
    await world.run(200)
    assert owner(world) == OTHER
    world.alive.add(OTHER)
    await world.run(1200)
    assert owner(world) == OTHER


async def test_one_that_comes_back_too_late_leaves_alone_what_was_taken_over() -> None:
    world = await _left_to_other()
    await world.run(400)
    assert owner(world) == LEASE
    await world.install(OTHER, OTHERS)
    await world.run(120)
    assert owner(world) == LEASE
    assert revisions(world) == 1
    await at_rest(world)


@pytest.mark.parametrize("code", [0, 403, 500])
async def test_a_lease_that_cannot_be_read_is_no_lease_that_is_gone(code: int) -> None:
    world = await _left_to_other()
    world.lease_fault = ApiError(code, "Sorry", "no")
    await world.run(3000)
    assert owner(world) == OTHER
    (said,) = [event for event in world.kube.events if event["reason"] == "ClaimedElsewhere"]
    assert ("kubectl patch modeldeployment NAME --subresource=status" in said["note"]) == (code == 403)
    assert len(said["note"]) < 1024
    # As an API server that was away: its time does not count for the lease.
    world.lease_fault = None
    await world.run(200)
    assert owner(world) == OTHER
    await world.run(200)
    assert owner(world) == LEASE


async def test_a_claim_that_a_person_clears_hands_over() -> None:
    world = await _left_to_other()
    world.alive.add(OTHER)
    world.create(spec(1), name="second")
    world.kube._merge((KIND, NAMESPACE, "second"), {"status": {"operator": OTHER}}, CLAIM_MANAGER)
    await world.run(900)
    assert {owner(world), owner(world, "second")} == {OTHER}

    def clear(live: dict[str, Any]) -> None:
        del live["status"]["operator"]

    world.kube.edit(PLACE, clear)
    await world.run(60)
    assert owner(world) is None, "its namespace is the other one's still"
    world.kube.edit((KIND, NAMESPACE, "second"), clear)
    await world.run(60)
    assert {owner(world), owner(world, "second")} == {LEASE}
    assert world.said()["Ready"] == "True Serving"


async def test_todays_resources_are_claimed_without_a_restart_of_anything() -> None:
    world = World()
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    # As an operator that knew no claims left it.
    world.kube.edit(PLACE, lambda live: live["status"].pop("operator"))
    status = world.status()
    pods = sorted(place for place in world.kube.places() if place[0] == ObjectKind.POD)
    writes = world.writes()
    await world.restart()
    await world.run(300)
    assert owner(world) == LEASE
    assert world.status() == {**status, "operator": LEASE}
    assert sorted(place for place in world.kube.places() if place[0] == ObjectKind.POD) == pods
    assert world.writes() == writes + 1


async def test_a_status_of_an_operator_that_knows_no_claims_leaves_the_claim(world: World) -> None:
    world.create(spec(1))
    await world.run(60)
    claimed = owner(world)
    older = {name: value for name, value in world.status().items() if name != "operator"}
    world.kube._merge(PLACE, {"status": {**older, "replicas": 7}}, STATUS_MANAGER)
    assert owner(world) == claimed


async def test_two_replicas_of_one_installation_have_one_claim() -> None:
    world = World()
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    writes = world.writes()
    await world.restart()
    await world.run(300)
    assert world.writes() == writes
    assert not [event for event in world.kube.events if event["reason"] == "ClaimedElsewhere"]


async def test_a_crd_that_knows_no_claims_holds_nothing_up() -> None:
    world = World()
    await world.operator.start()

    def refuse(request: Request) -> None:
        # What server-side apply says of a field that the CRD lacks.
        if request.verb == "apply_status" and request.number == first:
            message = ".status.operator: field not declared in schema"
            raise ApiError(500, "", f"failed to create typed patch object (payments/fraud): {message}")

    world.create(spec(1))
    first = len(world.kube.requests) + 1
    world.kube.before = refuse
    await world.operator.look(Key(NAMESPACE, NAME))
    assert world.operator.errors == []
    assert world.kube.all(ObjectKind.POD), "the model is resolved"


async def test_one_that_is_being_deleted_is_not_claimed() -> None:
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.kube.edit(PLACE, lambda live: live["metadata"].update(deletionTimestamp="now"))
    await world.run(60)
    assert world.writes() == 0


async def test_leases_are_read_seldom_and_only_where_another_one_claims_something(world: World) -> None:
    asked: list[tuple[str, str]] = []
    times: Counter[str] = Counter()
    for found in world.operators:
        read = found.claims._read_lease

        async def count(place: str, read: Any = read, own: str = found.claims._own) -> str | None:
            asked.append((own, place))
            times[own] += 1
            answer: str | None = await read(place)
            return answer

        found.claims._read_lease = count
    for number in range(20):
        world.create(name=f"model-{number}")
    await world.run(100)
    mine = owner(world, "model-0")
    assert mine is not None
    assert times[mine] == 0
    # One lease a round, however much it claims.
    assert set(asked) == {(LEASE if mine == OTHER else OTHER, mine)}


def test_a_gap_is_longer_than_a_round_and_gone_is_longer_than_any_restart_of_an_operator() -> None:
    periods = [claims.ROUND, claims.GAP, claims.GONE]
    assert all(before * 3 <= after for before, after in pairwise(periods))
    assert timedelta(seconds=claims.GONE) >= timedelta(minutes=5)
