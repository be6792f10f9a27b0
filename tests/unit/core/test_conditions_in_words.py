"""Every sentence of a condition, whole, from what is known of the resource, its roles and its routers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.api.audits import AuditResult
from slipway.api.reasons import ConditionType, Reason
from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.api.status import RevisionStatus, UpgradeStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Fault, Observed, ObservedTraffic, observe
from slipway.core.plan import Plan
from slipway.core.resource import Resource, read
from slipway.core.rollout.audits import AuditHold, Audits
from slipway.core.rollout.restored import how_to_go_on, what_is_awaited
from slipway.core.rollout.roles import Roles
from slipway.core.rollout.sample_ratio_mismatch import sample_ratio_mismatch
from slipway.core.rollout.situation import Situation, StepOutcome
from slipway.core.rollout.takeover import lost, stand_in
from slipway.core.status.access import access_controlled
from slipway.core.status.audits import audits_passed
from slipway.core.status.condition_value import ConditionValue
from slipway.core.status.crashes import crashing
from slipway.core.status.progress import progress, rollout_complete
from slipway.core.status.route import route_ready, traffic_synced
from slipway.core.status.watched import watched
from slipway.core.status.way_out import way_out
from tests.unit.core.tables import OWNER, revisions

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
A, B = (revisions({})[letter] for letter in "AB")
NOTHING = observe([])
ROLLOUT = RolloutStatus.model_validate(
    {
        "phase": "Progressing",
        "revision": B.name,
        "id": f"{B.name}.1",
        "startedAt": "2026-11-24T11:00:00Z",
        "stepStartedAt": "2026-11-24T11:00:00Z",
        "weight": 10,
        "message": "gathers evidence",
    }
)
REJECTION = Rejection.model_validate(
    {
        "revision": B.name,
        "digest": B.model.digest,
        "id": f"{B.name}.1",
        "rejectedAt": "2026-11-24T11:00:00Z",
        "message": "gate error-rate: no",
    }
)


def spec(**fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}, **fields})


def resource(generation: int = 1, annotations: dict[str, str] | None = None, **status: Any) -> Resource:
    metadata = {"name": OWNER.name, "namespace": OWNER.namespace, "uid": OWNER.uid, "generation": generation}
    return read(
        {
            "metadata": {**metadata, "annotations": annotations or {}},
            "spec": {"model": {"uri": "mlflow://fraud/1"}},
            "status": status,
        }
    )


def roles(**fields: Any) -> Plan:
    return Plan(roles=Roles(**{"stable": A.name, "wanted": A, **fields}))


def ready(*names: str) -> Observed:
    """Where each of these revisions has a ready pod."""
    made = [
        {
            "kind": "Pod",
            "metadata": {
                "name": f"fraud-{name}-0",
                "labels": {
                    "app.kubernetes.io/component": "model-server",
                    "slipway.dev/modeldeployment": "fraud",
                    "slipway.dev/revision": name,
                },
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name in names
    ]
    return observe(made)


def one(found: dict[ConditionType, ConditionValue]) -> str:
    """The only condition, as kubectl shows it."""
    [(type_, value)] = found.items()
    return f"{type_} {said(value)}"


def said(value: ConditionValue) -> str:
    return f"{value.status} {value.reason}: {value.message}"


def audit(name: str, verdict: str) -> tuple[str, AuditResult]:
    result = {"name": name, "revision": A.name, "version": "1", "key": "k", "verdict": verdict}
    return name, AuditResult.model_validate(
        {**result, "message": f"figures of {name}", "finishedAt": "2026-11-24T11:00:00Z"}
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((audit("a", "Pass"),), "True AuditsPassed: revision R: audit a: figures of a"),
        (
            (audit("a", "Pass"), ("b", None)),
            "Unknown Auditing: revision R: audit b: is under way; audit a: figures of a",
        ),
        (
            (("b", None), audit("c", "Inconclusive")),
            "Unknown AuditInconclusive: revision R: audit c: figures of c; audit b: is under way",
        ),
        (
            (audit("c", "Inconclusive"), audit("d", "Error")),
            "Unknown AuditError: revision R: audit d: figures of d; audit c: figures of c",
        ),
        (
            (audit("d", "Error"), audit("e", "Fail"), audit("a", "Pass")),
            "False AuditFailed: revision R: audit e: figures of e; audit d: figures of d; "
            "audit a: figures of a",
        ),
    ],
)
def test_audits_are_told_the_worst_first(told: Any, words: str) -> None:
    assert one(audits_passed(Plan(audits=Audits(told=told, subject="R")))) == f"AuditsPassed {words}"


def test_nothing_is_said_of_audits_that_nobody_asks_for() -> None:
    assert audits_passed(Plan(audits=Audits(subject="R"))) == {}


ROUTERS = ObservedTraffic(
    routers=2, synced_routers=2, weights=frozenset({10, 0}), receiving=frozenset({A.name}), arrived=True
)
MOVES = {"candidate": B.name, "wanted": B, "rollout": ROLLOUT}


@pytest.mark.parametrize(
    ("fields", "traffic", "words"),
    [
        ({}, ROUTERS, f"True Routed: every router sends all to revision {A.name}"),
        (MOVES, ROUTERS, "True Routed: every router sends 10% to the canary"),
        (
            {**MOVES, "rollout": ROLLOUT.model_copy(update={"mismatch": "it is off"})},
            ROUTERS,
            "False SplitMismatch: it is off",
        ),
        (
            MOVES,
            replace(ROUTERS, synced_routers=1),
            "False RollingOut: 1 of 2 routers do what they were told",
        ),
        (
            MOVES,
            replace(ROUTERS, arrived=False),
            "False RollingOut: the routers that it moves to are starting; those that it has do what they "
            "were told",
        ),
        (
            {},
            replace(ROUTERS, synced_routers=0, arrived=False),
            f"Unknown Starting: routers are starting; meanwhile the Service leads to revision {A.name} "
            "without them",
        ),
        (
            MOVES,
            replace(ROUTERS, synced_routers=0, fault=Fault(Reason.IMAGE_PULL_FAILED, "no image")),
            "False RouterUnavailable: no router is ready: ImagePullFailed: no image",
        ),
        (
            MOVES,
            replace(ROUTERS, synced_routers=0, fault=Fault(Reason.ROUTER_FULL, "too many")),
            "False RouterFull: too many",
        ),
        (
            MOVES,
            replace(ROUTERS, synced_routers=0, fault=Fault(Reason.ROUTES_FROM_ANOTHER_VERSION, "newer")),
            "False RoutesFromAnotherVersion: newer",
        ),
    ],
)
def test_what_routers_do_is_told(fields: dict[str, Any], traffic: ObservedTraffic, words: str) -> None:
    plan = replace(roles(**fields), router_port=9001)
    found = traffic_synced(resource(), spec(), plan, observe([], traffic=traffic))
    assert one(found) == f"TrafficSynced {words}"


def test_nothing_is_said_of_routers_that_nobody_needs() -> None:
    assert traffic_synced(resource(), spec(), roles(), observe([], traffic=ROUTERS)) == {}
    assert traffic_synced(resource(), spec(), replace(roles(), router_port=9001), NOTHING) == {}
    nobody = replace(Plan(), router_port=9001)
    assert traffic_synced(resource(), spec(), nobody, observe([], traffic=ROUTERS)) == {}


BY_GATEWAYS = spec(
    traffic={
        "provider": "GatewayAPI",
        "gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": ["fraud.example.com"]},
    }
)


@pytest.mark.parametrize(
    ("fields", "traffic", "words"),
    [
        (
            {},
            ROUTERS,
            f"True Routed: the HTTPRoute that every Gateway accepted sends all to revision {A.name}",
        ),
        (MOVES, ROUTERS, "True Routed: the HTTPRoute that every Gateway accepted sends 10% to the canary"),
        (
            MOVES,
            replace(ROUTERS, synced_routers=1),
            "False RollingOut: 1 of 2 Gateways have taken up the newest HTTPRoute",
        ),
        (
            MOVES,
            replace(ROUTERS, fault=Fault(Reason.WAITING_FOR_GATEWAY, "not yet")),
            "False WaitingForGateway: not yet",
        ),
    ],
)
def test_what_gateways_do_is_told(fields: dict[str, Any], traffic: ObservedTraffic, words: str) -> None:
    found = traffic_synced(resource(), BY_GATEWAYS, roles(**fields), observe([], traffic=traffic))
    assert one(found) == f"TrafficSynced {words}"


@pytest.mark.parametrize(
    ("fields", "traffic", "words"),
    [
        ({}, ROUTERS, f"True ApproximateSplit: all connections are for revision {A.name}"),
        (
            MOVES,
            replace(ROUTERS, weights=frozenset({33})),
            "True ApproximateSplit: about 33% of new connections are for the canary, by its pods among 0; "
            "10% are asked for",
        ),
        (
            MOVES,
            replace(ROUTERS, synced_routers=1),
            "False RollingOut: the endpoints of the Service follow its selector",
        ),
    ],
)
def test_shares_by_numbers_of_pods_are_told(
    fields: dict[str, Any], traffic: ObservedTraffic, words: str
) -> None:
    by_pods = observe([], traffic=replace(traffic, approximate=True))
    found = traffic_synced(resource(), spec(), roles(**fields), by_pods)
    assert one(found) == f"TrafficSynced {words}"


def test_where_the_service_leads_is_told() -> None:
    nobody = route_ready(resource(), spec(), Plan(), NOTHING, NOW)
    assert said(nobody) == "Unknown WaitingForRevision: no revision is there to be routed to"
    none = route_ready(resource(), spec(), roles(), NOTHING, NOW)
    assert said(none) == f"False NoReadyEndpoints: Service fraud has no ready pod of revision {A.name}"
    bad = observe([], traffic=replace(ROUTERS, fault=Fault(Reason.WAITING_FOR_GATEWAY, "not yet")))
    assert said(route_ready(resource(), BY_GATEWAYS, roles(), bad, NOW)) == "False WaitingForGateway: not yet"


STABLE = RevisionStatus(revision=A.name, version="1", digest=A.model.digest)


def test_a_stable_revision_that_nothing_tells_of_is_told_with_what_to_do() -> None:
    assert how_to_go_on(OWNER, STABLE, A.name) == (
        f"revision {A.name} (version 1) is the stable one by status, but neither its ControllerRevision nor "
        "its Deployment is there, and with another model the spec does not make it: apply ControllerRevision "
        f"fraud-{A.name} from the backup without ownerReferences, or set the spec back to what it was"
    )
    assert how_to_go_on(OWNER, None, A.name).startswith(
        f"revision {A.name} is the stable one by status, but "
    )


@pytest.mark.parametrize(("forgotten", "what"), [(True, "is not known here"), (False, "starts here")])
def test_what_a_restored_canary_waits_for_is_told(forgotten: bool, what: str) -> None:
    assert what_is_awaited(OWNER, forgotten) == (
        f"it was restored from a backup, and the stable revision {what}: nothing is decided before that one "
        "has ready pods, or kubectl slipway promote-full fraud lets this one take over without it"
    )


ABORTING = ROLLOUT.model_copy(update={"phase": "Aborting", "message": "gate error-rate: no"})


@pytest.mark.parametrize(
    ("annotations", "fields", "seen", "words"),
    [
        ({}, {}, (A.name,), ""),
        ({}, {"stable": None}, (), ""),
        ({}, {}, (), ""),
        (
            {},
            {"wanted": B, "rejected": (REJECTION,)},
            (),
            f"revision {B.name} was rejected: gate error-rate: no; kubectl slipway retry fraud lets it in "
            "again",
        ),
        ({}, MOVES, (B.name,), f"revision {B.name}: gathers evidence"),
        ({}, MOVES, (), ""),
        (
            {"slipway.dev/abort": f"{B.name}.1"},
            {**MOVES, "rollout": ABORTING},
            (B.name,),
            f"revision {B.name} answers, and a person aborted it; to let it take over: kubectl annotate mdep "
            "fraud slipway.dev/abort-, then kubectl slipway promote-full fraud",
        ),
        (
            {},
            {**MOVES, "rollout": ABORTING},
            (B.name,),
            f"revision {B.name} answers: gate error-rate: no; kubectl slipway promote-full fraud lets it "
            "take over all the same",
        ),
        ({}, {"suspended": "waits for alice"}, (), "the wanted revision is held: waits for alice"),
        (
            {},
            {"previous": ("one", "two", "three", "four", "five", "six")},
            (),
            "if its pods cannot come back, set spec.model to that of an earlier revision (one, two, three): "
            "it takes over as soon as it is ready",
        ),
    ],
)
def test_a_way_out_is_told_while_the_stable_revision_has_no_pod(
    annotations: dict[str, str], fields: dict[str, Any], seen: tuple[str, ...], words: str
) -> None:
    within = spec(rollout={"rollbackWindowRevisions": 3})
    assert way_out(resource(annotations=annotations), within, roles(**fields), ready(*seen)) == words


EXTERNAL = {"server": "External", "image": "registry.example.com/fraud:1", "command": ["serve"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {},
            "False AccessOpen: everybody who reaches the pods may use the model: give spec.access, see "
            "docs/access.md",
        ),
        (
            {"runtime": EXTERNAL},
            "False AccessOpen: everybody who reaches the pods may use the model, unless the server itself, "
            "which is not Slipway's, checks who asks",
        ),
        (
            {"access": {"apiKeys": {"secretRef": {"name": "keys"}}}},
            "True CallersChecked: callers are known by the hashes in Secret keys",
        ),
        (
            {
                "access": {
                    "apiKeys": {"secretRef": {"name": "keys"}},
                    "serviceAccounts": {},
                    "tls": {"secretRef": {"name": "tls"}, "clientCA": {"secretRef": {"name": "ca"}}},
                }
            },
            "True CallersChecked: callers are known by the hashes in Secret keys and by tokens of "
            "ServiceAccounts and by their certificates",
        ),
    ],
)
def test_who_may_use_a_model_is_told(fields: dict[str, Any], words: str) -> None:
    assert one(access_controlled(spec(**fields), NOTHING)) == f"AccessControlled {words}"


@pytest.mark.parametrize(
    ("strategy", "counted"),
    [
        ("Canary", "routers count requests, errors and latency"),
        (
            "RollingUpdate",
            "nor are requests and errors: only a rollout by routers (strategy Canary, BlueGreen or Shadow) "
            "counts them",
        ),
    ],
)
def test_what_is_not_watched_of_a_server_of_ones_own_is_told(strategy: str, counted: str) -> None:
    assert one(watched(spec(runtime=EXTERNAL, rollout={"strategy": strategy}))) == (
        "Watched False ExternalServer: runtime.server is External: inputs, answers, drift, data quality, "
        f"labels and groups are not counted; {counted}"
    )
    assert watched(spec()) == {}


@pytest.mark.parametrize(
    ("runs", "servers", "died"),
    [
        (1, 0, "1 run of the model ended their process (their pod refuses such a request from then on, by "
         "its digest: 422)"),
        (0, 2, "2 server processes died, with the requests under way in it"),
        (5, 1, "5 runs of the model ended their process (their pod refuses such a request from then on, by "
         "its digest: 422) and 1 server process died, with the requests under way in it"),
    ],
)  # fmt: skip
def test_processes_that_die_are_told_with_where_to_look(runs: int, servers: int, died: str) -> None:
    crashes = {"since": "2026-11-24T11:00:00Z", "runs": runs, "servers": servers}
    role = RevisionStatus.model_validate({**STABLE.model_dump(), "crashes": crashes})
    assert one(crashing(OWNER, [None, STABLE, role])) == (
        f"Crashing True ProcessesEnded: version 1, since 2026-11-24T11:00:00Z: at least {died}; the pods "
        "serve on. The log tells who sent the requests and which operators are in doubt: kubectl logs -n "
        f"payments -l slipway.dev/modeldeployment=fraud,slipway.dev/revision={A.name} -c server --tail=-1"
    )


RESOLVING = ConditionValue("Unknown", Reason.RESOLVING, "finding it")
AVAILABLE = ConditionValue("True", Reason.AVAILABLE, "ready")
BAD = ConditionValue("False", Reason.IMAGE_PULL_FAILED, "no image")
ROUTED = ConditionValue("True", Reason.ROUTED, "leads there")
UNROUTED = ConditionValue("False", Reason.NO_READY_ENDPOINTS, "no pod")
TO_COME = f"revision {B.name} is to take over"


@pytest.mark.parametrize(
    ("fields", "revision", "words"),
    [
        ({"wanted": None}, AVAILABLE, "False Resolving: finding it"),
        ({}, AVAILABLE, f"True RolledOut: revision {A.name} is the one that is asked for, and stable"),
        ({"wanted": B}, BAD, "False ImagePullFailed: no image"),
        (MOVES, BAD, "False ImagePullFailed: no image"),
        (MOVES, AVAILABLE, f"False RollingOut: {TO_COME}: gathers evidence"),
        ({**MOVES, "rollout": None}, AVAILABLE, f"False RollingOut: {TO_COME}"),
        ({**MOVES, "stable": None}, AVAILABLE, f"False Starting: {TO_COME}: gathers evidence"),
        (
            {**MOVES, "rollout": None, "suspended": "waits for alice"},
            AVAILABLE,
            f"False Suspended: {TO_COME}: waits for alice",
        ),
        (
            {**MOVES, "rollout": None, "audit": AuditHold(Reason.AUDITING, "audits run")},
            AVAILABLE,
            f"False RollingOut: {TO_COME}: audits run",
        ),
    ],
)
def test_whether_a_rollout_is_complete_is_told(
    fields: dict[str, Any], revision: ConditionValue, words: str
) -> None:
    assert said(rollout_complete(resource(), roles(**fields), RESOLVING, revision)) == words


def test_a_rollout_that_a_moved_name_began_is_told_as_one_that_follows() -> None:
    found = rollout_complete(resource(7, settledGeneration=7), roles(**MOVES), RESOLVING, AVAILABLE)
    assert said(found) == f"False FollowingName: {TO_COME}: gathers evidence"


def upgrade(phase: str, cause: str | None) -> UpgradeStatus:
    made = {"phase": phase, "cause": cause, "message": "pods are replaced", "hash": "h", "from": "g"}
    known = {name: value for name, value in made.items() if name in UpgradeStatus.model_fields}
    return UpgradeStatus.model_construct(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "parts", "route", "words"),
    [
        ({}, (AVAILABLE,), ROUTED, []),
        ({}, (BAD,), ROUTED, ["Stalled True ImagePullFailed: no image"]),
        ({}, (UNROUTED, BAD), ROUTED, ["Stalled True ImagePullFailed: no image"]),
        ({}, (UNROUTED,), UNROUTED, ["Reconciling True NoReadyEndpoints: no pod"]),
        ({"suspended": "alice"}, (UNROUTED,), ROUTED, ["Suspended True Suspended: alice"]),
        (
            {"suspended": "alice"},
            (UNROUTED,),
            UNROUTED,
            ["Suspended True Suspended: alice", "Reconciling True NoReadyEndpoints: no pod"],
        ),
        (
            MOVES,
            (ConditionValue("Unknown", Reason.STARTING, "pods start"),),
            ROUTED,
            ["Reconciling True Starting: pods start: gathers evidence"],
        ),
        (MOVES, (AVAILABLE,), ROUTED, [f"Reconciling True RollingOut: {TO_COME}: gathers evidence"]),
        ({**MOVES, "rollout": None}, (AVAILABLE,), ROUTED, [f"Reconciling True RollingOut: {TO_COME}"]),
    ],
)
def test_what_kstatus_reads_is_told(
    fields: dict[str, Any], parts: tuple[ConditionValue, ...], route: ConditionValue, words: list[str]
) -> None:
    found = progress(resource(), roles(**fields), parts, route)
    assert [f"{type_} {said(value)}" for type_, value in found.items()] == words


def test_what_a_moved_name_began_does_not_keep_the_resource_from_being_current() -> None:
    settled = resource(7, settledGeneration=7)
    assert progress(settled, roles(**MOVES), (BAD,), ROUTED) == {}
    assert ConditionType.STALLED in progress(settled, roles(**MOVES), (BAD,), UNROUTED)
    assert ConditionType.STALLED in progress(settled, roles(), (BAD,), ROUTED)


@pytest.mark.parametrize(
    ("phase", "cause", "words"),
    [
        ("Upgrading", None, []),
        ("Upgrading", "Spec", ["Reconciling True Upgrading: pods are replaced"]),
        ("Stuck", "Spec", ["Stalled True UpgradeStuck: pods are replaced"]),
    ],
)
def test_pods_that_the_spec_has_replaced_are_told(phase: str, cause: str | None, words: list[str]) -> None:
    plan = replace(roles(), upgrade=upgrade(phase, cause))
    found = progress(resource(), plan, (AVAILABLE,), ROUTED)
    assert [f"{type_} {said(value)}" for type_, value in found.items()] == words


NO_STABLE = "the stable revision has no ready pod and this one has"
ALONE = Situation(canary=B.name, canary_ready=1, canary_routed=1, stable_ready=0, max_replicas=2)


def test_a_canary_that_alone_has_pods_takes_over_and_says_why() -> None:
    again = stand_in(ROLLOUT, replace(ALONE, in_window=True), NOW)
    assert (again.state.message, again.outcome) == (
        f"{NO_STABLE}; it was stable before",
        StepOutcome.PROMOTE,
    )
    assert (again.state.phase, again.state.mirrorPercent) == ("Promoting", 0)
    promoted = stand_in(ROLLOUT.model_copy(update={"phase": "Promoting"}), ALONE, NOW)
    assert promoted.state.message == f"{NO_STABLE}; it was to be promoted"
    since = ROLLOUT.model_copy(update={"stableLostAt": "2026-11-24T11:59:01Z"})
    waiting = stand_in(since, ALONE, NOW)
    assert (waiting.state.message, waiting.wait, waiting.state.phase) == (
        f"{NO_STABLE}: it takes over at 2026-11-24T12:00:01Z, or at once by kubectl slipway promote-full",
        1.0,
        "Progressing",
    )
    assert stand_in(since, ALONE, NOW + timedelta(seconds=1)).state.message == f"{NO_STABLE}; for 60 s"


def test_a_canary_that_lost_its_pods_says_who_has_its_share() -> None:
    state = ROLLOUT.model_copy(update={"heldWeight": 10, "message": "2 pods are ready"})
    words = "lost its pods; the stable revision has its 10% until 2 pods are ready"
    assert lost(state, ALONE) == words
    fault = Fault(Reason.IMAGE_PULL_FAILED, "no image")
    assert lost(state, replace(ALONE, fault=fault)) == f"{words}: ImagePullFailed: no image"


def test_a_split_that_is_off_is_told_with_its_figures() -> None:
    assert sample_ratio_mismatch(10, 200, 800) == (
        "200 of 1000 requests went to the canary, 20.0% where its weight is 10%: G = 84.4 ≥ 29.0"
    )
    assert sample_ratio_mismatch(10, 0, 0) is None
    assert sample_ratio_mismatch(10, 100, 900) is None
    assert sample_ratio_mismatch(0, 2, 998) is None
    assert sample_ratio_mismatch(100, 998, 2) is None
    assert sample_ratio_mismatch(10, 101, 899) is None
