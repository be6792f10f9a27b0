"""What has to be observed for a rollout follows from what is known of it, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.core.allowed import Allowed
from slipway.core.observed import AnswerAgreement, ArmCount, ObservedTraffic, ServedCount
from slipway.core.resource import Resource, read
from slipway.core.rollout.interest import Interests, interests
from slipway.core.rollout.reading import PodCounts, Reading, Readings, with_readings
from slipway.core.traffic.polling import poll_seconds

ADDRESS = "http://prometheus.monitoring:9090"
ALLOWED = Allowed(frozenset({ADDRESS}), ())
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
TRAFFIC = ObservedTraffic(
    routers=1, synced_routers=1, weights=frozenset({10}), receiving=frozenset({"a", "b"})
)
LIVES = {"router-0": "uid/0"}
ERRORS = {"name": "errors", "type": "ErrorRate"}
CONTRACT = {"name": "contract", "type": "Violations"}
ALIKE = {"name": "alike", "type": "ShadowAgreement", "tolerance": "2%"}
PROMETHEUS = {"prometheus": {"address": ADDRESS}}
GATEWAY = {
    "provider": "GatewayAPI",
    "gatewayAPI": {
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
        "hostnames": ["fraud.example.com"],
    },
}


def resource(*gates: dict[str, Any], rollout: bool = True, mirror: int = 0, **fields: Any) -> Resource:
    revision = {"version": "1", "digest": f"sha256:{'0' * 64}", "replicas": 1, "readyReplicas": 1}
    state = {
        "phase": "Progressing",
        "revision": "b",
        "id": "b.1",
        "startedAt": "2026-11-24T11:00:00Z",
        "stepStartedAt": "2026-11-24T11:00:00Z",
        "lookedAt": fields.pop("looked", "2026-11-24T11:59:50Z"),
        "mirrorPercent": mirror,
    }
    analysis = {
        **({"gates": list(gates)} if gates else {}),
        "intervalSeconds": 30,
        **fields.pop("analysis", {}),
    }
    spec = {
        "model": {"uri": "mlflow://fraud/2"},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setWeight": 10}, {"analysis": {}}],
            "analysis": analysis,
        },
        **fields,
    }
    status: dict[str, Any] = {"stable": {"revision": "a", **revision}}
    if rollout:
        status |= {"canary": {"revision": "b", **revision}, "rollout": state}
    metadata = {"name": "fraud", "namespace": "payments", "uid": "1"}
    found = read({"metadata": metadata, "spec": spec, "status": status})
    assert found.status.stable is not None, "the status has to be one that can be read"
    return found


def kinds(found: Interests) -> set[str]:
    return {name for name in ("arms", "pods", "answers", "prometheus") if getattr(found, name) is not None}


MOVING = replace(TRAFFIC, weights=frozenset({10, 50}))


@pytest.mark.parametrize(
    ("found", "traffic", "wanted"),
    [
        (resource(ERRORS), TRAFFIC, {"arms"}),
        (resource(ERRORS), None, set()),
        (resource(ERRORS, rollout=False), TRAFFIC, set()),
        (resource(ERRORS), MOVING, set()),
        (resource(CONTRACT), TRAFFIC, {"arms", "pods"}),
        (resource(CONTRACT), MOVING, set()),
        (resource({"name": "shift", "type": "PredictionShift"}), TRAFFIC, {"arms", "pods"}),
        (resource(ERRORS, traffic=GATEWAY), TRAFFIC, {"arms", "pods"}),
        (resource(ALIKE), TRAFFIC, {"arms"}),
        (resource(ALIKE, mirror=100), TRAFFIC, {"arms", "answers"}),
        (resource(ALIKE, mirror=100), MOVING, {"answers"}),
        (resource(ERRORS, analysis=PROMETHEUS), TRAFFIC, {"arms", "prometheus"}),
        (resource(ERRORS, analysis=PROMETHEUS), replace(TRAFFIC, approximate=True), {"arms"}),
        (
            resource(CONTRACT, ALIKE, mirror=10, analysis=PROMETHEUS),
            TRAFFIC,
            {"arms", "pods", "answers", "prometheus"},
        ),
    ],
)
def test_only_what_a_gate_asks_for_is_observed(
    found: Resource, traffic: ObservedTraffic | None, wanted: set[str]
) -> None:
    assert kinds(interests(found, traffic, LIVES, ALLOWED)) == wanted


def test_without_a_router_there_is_nothing_that_a_prometheus_could_have_scraped() -> None:
    assert kinds(interests(resource(ERRORS, analysis=PROMETHEUS), TRAFFIC, {}, ALLOWED)) == {"arms"}


def test_a_prometheus_that_is_not_allowed_is_an_interest_with_a_fault() -> None:
    found = interests(resource(ERRORS, analysis=PROMETHEUS), TRAFFIC, LIVES, Allowed()).prometheus
    assert found is not None
    assert found.fault is not None


def test_the_next_look_is_due_an_interval_after_the_last_and_begins_again_by_split() -> None:
    found = interests(resource(CONTRACT), TRAFFIC, LIVES, ALLOWED)
    assert found.pods is not None
    assert found.pods.due == NOW + timedelta(seconds=20)
    assert found.pods.revisions == ("b", "a")
    half = interests(resource(CONTRACT), replace(TRAFFIC, weights=frozenset({50})), LIVES, ALLOWED).pods
    later = interests(resource(CONTRACT, looked="2026-11-24T12:00:00Z"), TRAFFIC, LIVES, ALLOWED).pods
    assert half is not None
    assert later is not None
    assert half.subject != found.pods.subject == later.subject
    assert later.look != found.pods.look


def test_pods_remember_answers_for_two_intervals_and_gates_say_how_alike() -> None:
    asked = interests(resource(ALIKE, mirror=100), TRAFFIC, LIVES, ALLOWED).answers
    assert asked is not None
    assert asked.memory_seconds == 120
    assert asked.tolerances == (("alike", 0.02),)


COUNTED = replace(TRAFFIC, canary=ArmCount(1), stable=ArmCount(9))
SERVED = PodCounts((ServedCount(1), ServedCount(9)), (ArmCount(1), ArmCount(9)))
LATE = NOW + timedelta(seconds=20)


def seen(found: Resource, at: datetime, **value: Any) -> Readings:
    asked = interests(found, TRAFFIC, LIVES, ALLOWED).pods
    assert asked is not None
    return Readings(pods=Reading(asked, at, **value))


@pytest.mark.parametrize(
    ("readings", "is_looked", "served"),
    [
        # Nobody has looked yet.
        (Readings(), False, None),
        # The look before it was due is none.
        (seen(resource(CONTRACT), NOW, value=SERVED), False, None),
        (seen(resource(CONTRACT), LATE, value=SERVED), True, SERVED.served[0]),
        # Pods that do not answer hold up nothing.
        (seen(resource(CONTRACT), LATE, error="silent"), True, None),
        # What was read for another look, or another split, is none of this one's.
        (seen(resource(CONTRACT, looked="2026-11-24T11:59:20Z"), LATE, value=SERVED), False, None),
    ],
)
def test_a_look_waits_until_pods_were_read_for_it(
    readings: Readings, is_looked: bool, served: ServedCount | None
) -> None:
    found = resource(CONTRACT)
    asked = interests(found, COUNTED, LIVES, ALLOWED)
    traffic = with_readings(found, COUNTED, asked, readings, ALLOWED, LATE)
    assert traffic is not None
    assert (traffic.canary is not None) is is_looked
    assert traffic.canary_served == served


def test_before_a_look_is_due_nothing_is_waited_for() -> None:
    found = resource(CONTRACT)
    asked = interests(found, COUNTED, LIVES, ALLOWED)
    assert with_readings(found, COUNTED, asked, Readings(), ALLOWED, NOW) == COUNTED


def test_behind_a_gateway_the_pods_are_all_that_counts() -> None:
    found = resource(ERRORS, traffic=GATEWAY)
    asked = interests(found, TRAFFIC, LIVES, ALLOWED)
    traffic = with_readings(found, TRAFFIC, asked, seen(found, LATE, value=SERVED), ALLOWED, LATE)
    assert traffic is not None
    assert (traffic.canary, traffic.stable) == SERVED.arms


def test_a_prometheus_counts_in_the_place_of_routers_and_its_silence_is_told() -> None:
    found = resource(ERRORS, analysis=PROMETHEUS)
    asked = interests(found, COUNTED, LIVES, ALLOWED)
    wanted = asked.prometheus
    assert wanted is not None

    def told(at: datetime, **value: Any) -> ObservedTraffic:
        readings = Readings(prometheus=Reading(wanted, at, **value))
        traffic = with_readings(found, COUNTED, asked, readings, ALLOWED, LATE)
        assert traffic is not None
        return traffic

    assert told(LATE, value=(ArmCount(3), ArmCount(7))).canary == ArmCount(3)
    assert told(NOW, value=(ArmCount(3), ArmCount(7))).canary is None
    assert told(LATE, error="it is down").evidence_error == "it is down"
    assert told(NOW, error="it is down").evidence_error is None


def test_answers_are_waited_for_too() -> None:
    found = resource(ALIKE, mirror=100)
    asked = interests(found, COUNTED, LIVES, ALLOWED)
    assert asked.answers is not None
    agreement = AnswerAgreement(5, {"alike": 1})
    waits = with_readings(found, COUNTED, asked, Readings(), ALLOWED, LATE)
    readings = Readings(answers=Reading(asked.answers, LATE, agreement))
    looked = with_readings(found, COUNTED, asked, readings, ALLOWED, LATE)
    assert waits is not None
    assert looked is not None
    assert (waits.canary, waits.agreement) == (None, None)
    assert (looked.canary, looked.agreement) == (COUNTED.canary, agreement)


@pytest.mark.parametrize(
    ("situation", "seconds"),
    [
        ({"routers": False}, 2.0),
        ({"settled": False, "told_at": NOW}, 0.05),
        ({"settled": False, "told_at": NOW - timedelta(seconds=6)}, 2.0),
        ({"settled": False}, 2.0),
        ({"awaits": True, "splits": True}, 0.3),
        ({"splits": True}, 2.0),
        ({}, 30.0),
    ],
)
def test_routers_are_read_as_often_as_something_of_them_is_waited_for(
    situation: dict[str, Any], seconds: float
) -> None:
    usual = {"routers": True, "settled": True, "told_at": None, "awaits": False, "splits": False, "now": NOW}
    assert poll_seconds(**{**usual, **situation}) == seconds
