"""Events: told once, counted after that, and never without end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.api.reasons import Reason
from slipway.core.status.events import Event
from slipway.engine.controller.events import BURST, Events
from slipway.engine.errors import ApiError
from tests.unit.fake import FakeKube, Request

READY = Event(normal=True, reason=Reason.AVAILABLE, message="revision a has its pods ready")
FAILING = Event(normal=False, reason=Reason.PROBE_FAILING, message="a pod is not ready")


class Bench:
    """Events of one object, and a clock."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 29, tzinfo=UTC)
        self.kube = FakeKube(lambda: self.now)
        self.events = Events(self.kube, "operator-0")

    async def tell(self, *notices: Event, uid: str = "u", seconds: float = 1.0) -> None:
        meta = {"name": "fraud", "namespace": "payments", "uid": uid}
        await self.events.record({"metadata": meta}, notices, self.now)
        self.now += timedelta(seconds=seconds)

    def written(self) -> list[tuple[str, Any]]:
        return [(event["reason"], event.get("series", {}).get("count", 1)) for event in self.kube.events]


async def test_a_pod_that_flaps_all_day_is_two_events_that_are_counted() -> None:
    bench = Bench()
    for _ in range(24 * 60):
        await bench.tell(FAILING, READY, seconds=60)
    assert bench.written() == [("ProbeFailing", 1440), ("Available", 1440)]


async def test_an_event_that_repeats_within_moments_is_not_a_write_each_time() -> None:
    bench = Bench()
    for _ in range(600):
        await bench.tell(FAILING, READY, seconds=0.1)
    assert len(bench.kube.requests) <= 2 + 2 * 2
    await bench.tell(FAILING, seconds=60)
    await bench.tell(FAILING)
    assert bench.written()[0] == ("ProbeFailing", 602), "none is lost"


async def test_an_object_has_no_end_of_events_of_no_kind() -> None:
    bench = Bench()
    for number in range(10_000):
        notice = Event(normal=False, reason=Reason.PROBE_FAILING, message=f"pod {number} is not ready")
        await bench.tell(notice, seconds=0.36)
    assert BURST <= len(bench.kube.events) <= BURST + 3600 / 300 + 1


async def test_one_that_talks_too_much_silences_no_other() -> None:
    bench = Bench()
    for number in range(100):
        await bench.tell(Event(normal=False, reason=Reason.PROBE_FAILING, message=str(number)))
    before = len(bench.kube.events)
    meta = {"name": "churn", "namespace": "payments", "uid": "v"}
    await bench.events.record({"metadata": meta}, [READY], bench.now)
    assert len(bench.kube.events) == before + 1


async def test_an_event_that_the_api_server_has_forgotten_is_written_again() -> None:
    bench = Bench()
    await bench.tell(FAILING, seconds=60)
    bench.kube.events.clear()
    await bench.tell(FAILING, seconds=60)
    assert [event["reason"] for event in bench.kube.events] == ["ProbeFailing"]


async def test_what_happens_again_after_a_long_time_is_another_event() -> None:
    bench = Bench()
    await bench.tell(FAILING, seconds=7200)
    await bench.tell(FAILING)
    assert bench.written() == [("ProbeFailing", 1), ("ProbeFailing", 1)]
    assert len({event["metadata"]["name"] for event in bench.kube.events}) == 2


async def test_another_object_of_the_same_name_has_events_of_its_own() -> None:
    bench = Bench()
    await bench.tell(FAILING)
    await bench.tell(FAILING, uid="other")
    assert [event["regarding"]["uid"] for event in bench.kube.events] == ["u", "other"]


async def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    bench = Bench()

    def sorry(_: Request) -> None:
        raise ApiError(503, "Sorry", "later")

    bench.kube.before = sorry
    await bench.tell(FAILING, READY)
    assert len(bench.kube.requests) == 2, "the next is tried all the same"
