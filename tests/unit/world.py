"""A cluster around the fake API server: its other controllers, a clock, and the operator."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, ParamSpec, TypeVar

from slipway.api.reasons import Reason
from slipway.api.types import API_VERSION, KIND
from slipway.contract import (
    Audited,
    AuditTask,
    Built,
    Evaded,
    Failed,
    Failure,
    ModelFault,
    Resolution,
    Resolved,
    TerminationMessage,
    Unaudited,
    Withstood,
)
from slipway.core import naming
from slipway.core.allowed import Allowed, GatewayRule
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import ByVersion
from slipway.core.observed import Fault, Manifest, ObjectKind, condition_of
from slipway.core.revision import Settings
from slipway.core.rollout.shadow_agreement import Remembered
from slipway.core.traffic.envoy.objects import RouterSettings
from slipway.core.traffic.envoy.prometheus import Samples
from slipway.core.traffic.envoy.readback import RouterState
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.claims import Claims
from slipway.engine.controller.reconcile import Reconciler
from slipway.engine.controller.routes import Routes
from slipway.engine.controller.sweep import fill
from slipway.engine.controller.traffic import TrafficView
from slipway.engine.controller.upgrades import Upgrades
from slipway.engine.errors import ApiError
from slipway.engine.observers.aliases import Alias, Aliases
from slipway.engine.observers.cluster_keys import ClusterKeys
from slipway.engine.observers.issuer_keys import IssuerKeys
from slipway.engine.observers.looks import LookObserver
from slipway.engine.observers.monitoring import Judge
from slipway.engine.observers.observers import Observers
from slipway.engine.observers.pod_counts import PodCountReader
from slipway.engine.observers.prometheus import PrometheusReader
from slipway.engine.observers.routers import RouterObserver
from slipway.engine.observers.shadow_answers import AnswerReader
from slipway.engine.ownership import REPLICA_SET
from slipway.engine.store import Key, Store
from tests.unit.fake import FakeKube, Place, place_of, stamp
from tests.unit.fake_gateways import Gateways
from tests.unit.fake_pods import ModelPods
from tests.unit.fake_prometheus import FakePrometheus
from tests.unit.fake_routers import RouterPods

P = ParamSpec("P")
T = TypeVar("T")

AuditAnswer = Audited | Withstood | Evaded | Unaudited
NAMESPACE = "payments"
NAME = "fraud"
KEY = Key(NAMESPACE, NAME)
#: Of the installation that is the only one unless a test makes another.
LEASE = "slipway-system/slipway-operator"
SETTINGS = Settings(
    "slipway.dev/server:dev",
    "IfNotPresent",
    "http://mlflow.mlflow:5000",
    cuda_image="slipway.dev/server-cuda:dev",
)
ROUTERS = RouterSettings("slipway.dev/router:dev")
ALLOWED = Allowed(
    frozenset({"http://prometheus.monitoring:9090"}),
    (GatewayRule(frozenset({NAMESPACE}), frozenset({"gateways/public"}), ("fraud.example.com",)),),
)
TEMPLATE_LABEL = "pod-template-hash"
#: Looks at the cluster after which it should have come to rest.
MOST_LOOKS = 300


class Killed(BaseException):
    """The operator's process ended; nothing of it catches this."""


class Operator:
    """One process of the operator: what it has seen, and what it is to look at."""

    def __init__(
        self,
        kube: FakeKube,
        clock: Callable[[], datetime],
        read_router: Callable[[Endpoint, RouterState | None], Awaitable[RouterState | None]],
        read_pod: Callable[[Endpoint], Awaitable[ByVersion | None]],
        read_counters: Callable[[Endpoint], Awaitable[ByVersion | None]],
        take_answers: Callable[[Endpoint, int, int], Awaitable[Remembered | None]],
        prometheus: Callable[[str, str, str], Awaitable[list[Samples]]],
        ask: Callable[[Alias], Awaitable[str | Fault]],
        allowed: Allowed,
        read_lease: Callable[[str], Awaitable[str | None]],
        settings: Settings = SETTINGS,
        routers: RouterSettings = ROUTERS,
        lease: str = LEASE,
        most_upgrades: int = 5,
        read_cohorts: Callable[[Endpoint], Awaitable[ByVersion | None]] | None = None,
    ) -> None:
        self.kube = kube
        self.store = Store()
        self.dirty = self.queue()
        writer = Writer(kube, self.store, "operator-0")
        self.upgrades = Upgrades(self.store, most_upgrades, self.dirty.add)
        self.reconciling = False
        changed, even = self.dirty.add, lambda: 0.5
        self.observers = Observers(
            RouterObserver(self.store, self._outside(read_router), changed, clock, even),
            LookObserver(
                PodCountReader(self.store, self._outside(read_pod), clock).read, changed, clock, even
            ),
            LookObserver(AnswerReader(self.store, self._outside(take_answers)).read, changed, clock, even),
            LookObserver(PrometheusReader(self._outside(prometheus)).read, changed, clock, even),
            Aliases(self.store, self._outside(ask), changed, clock, spread=lambda: 0.0),
            Judge(
                self.store,
                self._outside(read_counters),
                changed,
                clock,
                spread=lambda: 0.0,
                read_cohorts=None if read_cohorts is None else self._outside(read_cohorts),
            ),
            ClusterKeys(self._outside(kube.read_cluster_keys), changed, clock, even),
            IssuerKeys(self._outside(kube.read_issuer), changed, clock, even),
        )
        self.aliases, self.judge = self.observers.aliases, self.observers.monitoring
        self.routes = Routes(
            self.store, writer, routers, self.observers.routers, changed, clock, self.upgrades
        )
        self.claims = Claims(
            self.store, writer, lease, read_lease, self.dirty.add, lambda: clock().timestamp(), clock
        )
        self.reconciler = Reconciler(
            self.store,
            writer,
            self.routes,
            TrafficView(self.store, self.routes, self.observers, allowed, clock),
            self.observers,
            self.claims,
            self.upgrades,
            settings,
            clock,
            changed,
        )
        self.clock = clock
        self.due: dict[Key, datetime] = {}
        self.failed: set[Key] = set()
        #: Exceptions of runs that are to be repeated, newest last.
        self.errors: list[ApiError] = []
        kube.listeners.append(self._see)

    def queue(self) -> set[Key]:
        """Where keys that are to be looked at wait."""
        return set()

    async def start(self) -> None:
        """As ``main`` does: list everything, then look at everything."""
        await fill(self.kube, self.store, ())
        self.dirty.update(self.store.everything())

    def end(self) -> None:
        """The process is gone, and its watches with it."""
        self.kube.listeners.remove(self._see)

    async def look(self, key: Key) -> None:
        """One run, as a worker makes it."""
        self.dirty.discard(key)
        self.failed.discard(key)
        self.due.pop(key, None)
        self.reconciling = True
        try:
            outcome = await self.reconciler.reconcile(key)
        except ApiError as error:
            self.errors.append(error)
            self.failed.add(key)
            return
        finally:
            self.reconciling = False
        if outcome.failed:
            self.failed.add(key)
        if outcome.requeue_after is not None:
            self.due[key] = self.clock() + timedelta(seconds=outcome.requeue_after)

    def _outside(self, read: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """What is not the API server: reconcile never talks to it."""

        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            assert not self.reconciling, f"reconcile waits for {read}"
            return await read(*args, **kwargs)

        return guarded

    async def observe(self) -> bool:
        """Let observers look at what is due; whether anything was."""
        return any([await pool.drain() for pool in self.observers.pools])

    def wake(self, now: datetime) -> None:
        """What is due is to be looked at."""
        self.dirty.update(key for key, due in self.due.items() if due <= now)

    def _see(self, type_: str, manifest: Manifest) -> None:
        key = self.store.bury(manifest) if type_ == "DELETED" else self.store.put(manifest)
        if key is not None:
            self.dirty.add(key)


class World:
    """Time goes on only while nothing else is left to do, so that every run is the same.

    Attributes:
        models: what resolver pods find out, by URI.
        audits: what pods of audits say of what they are asked; None while they have not ended.
        audited: what they were asked.
        tasks: what they were asked.
        pod_status: status of a serving pod that is not to become ready, or None.
        resolver_waits: status of a resolver pod that is not to start, or None.
        pods_refused: what admission says of pods, or None.
        refuses: of which Deployments it says that; of all unless set.
        settings: of the installation, for the next operator that starts.
        router_settings: likewise.
        most_upgrades: likewise.
    """

    operator_type: type[Operator] = Operator

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
        self.kube = FakeKube(lambda: self.now)
        self.models: dict[str, Resolution | Failure] = {}
        self.audits: Callable[[AuditTask], AuditAnswer | str | None] = lambda _: None
        self.audited: list[AuditTask] = []
        self.tasks: list[dict[str, Any]] = []
        self.pod_status: Callable[[Manifest], dict[str, Any] | None] = lambda _: None
        self.resolver_waits: dict[str, Any] | None = None
        self.pods_refused: str | None = None
        self.settings = SETTINGS
        self.router_settings = ROUTERS
        self.refuses: Callable[[Manifest], bool] = lambda _: True
        self.most_upgrades = 5
        self.routers = RouterPods(self.kube)
        self.pods = ModelPods(self.kube)
        self.prometheus = FakePrometheus(self.routers, lambda: self.now)
        self.gateways = Gateways(self.kube, self.routers)
        #: What the installation allows, from the next restart on.
        self.allowed = ALLOWED
        self.others: list[Operator] = []
        #: Leases that are renewed, versions of those that are not, and what reading any ends in.
        self.alive = {LEASE}
        self.leases: dict[str, str] = {}
        self.lease_fault: ApiError | None = None
        self.operator = self._operator()
        for version in range(1, 20):
            self.models[f"mlflow://fraud/{version}"] = resolution(version)

    def create(
        self, spec: Mapping[str, Any] | None = None, name: str = NAME, namespace: str = NAMESPACE
    ) -> None:
        """What ``kubectl apply`` does with a ModelDeployment."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": dict(spec or {"model": {"uri": "mlflow://fraud/1"}}),
        }
        place = place_of(manifest)
        if self.kube.has(*place):
            self.kube.edit(place, lambda live: live.update(spec=manifest["spec"]))
        else:
            self.kube.update(manifest)

    def annotate(self, annotation: str, value: str | None, name: str = NAME) -> None:
        """What ``kubectl annotate`` does; None takes the annotation away."""

        def change(live: dict[str, Any]) -> None:
            found = live["metadata"].setdefault("annotations", {})
            found.pop(annotation, None)
            if value is not None:
                found[annotation] = value

        self.kube.edit((KIND, NAMESPACE, name), change, "kubectl")

    async def restart(self) -> None:
        """Another process takes over, and knows nothing."""
        self.operator.end()
        self.operator = self._operator()
        await self.operator.start()

    def _dues(self) -> list[datetime]:
        """What time alone brings about; looking at routers that are at rest goes on for ever."""
        at_rest = self.now + timedelta(seconds=1)
        dues = [item for found in self.operators for item in found.due.items()]
        models = [due for key, due in dues if not key.routers or due < at_rest]
        return models + [due for due in self._observations() if due < at_rest]

    def _observations(self) -> list[datetime]:
        """When observers look next."""
        pools = (pool for found in self.operators for pool in found.observers.pools)
        return [due for pool in pools if (due := pool.first()) is not None]

    def _operator(self, lease: str = LEASE, settings: Settings | None = None) -> Operator:
        readers = (
            self.routers.read,
            self.routers.read_pod,
            self.pods.read,
            self.routers.take_answers,
            self.prometheus.ask,
        )
        return self.operator_type(
            self.kube,
            lambda: self.now,
            *readers,
            self._version,
            self.allowed,
            self._lease,
            settings or self.settings,
            self.router_settings,
            lease,
            self.most_upgrades,
            self.pods.read_cohorts,
        )

    async def install(self, lease: str, settings: Settings | None = None) -> Operator:
        """Another installation, with a lease of its own."""
        other = self._operator(lease, settings)
        self.others.append(other)
        self.alive.add(lease)
        await other.start()
        return other

    def uninstall(self, other: Operator, lease: str) -> None:
        """Its lease stays, as Helm knows nothing of it."""
        other.end()
        self.others.remove(other)
        self.alive.discard(lease)

    async def _lease(self, place: str) -> str | None:
        """The version of a lease: holders renew it all the time."""
        if self.lease_fault is not None:
            raise self.lease_fault
        return str(self.now) if place in self.alive else self.leases.get(place)

    @property
    def operators(self) -> list[Operator]:
        """All that run, those with the most to do first, so that they take turns."""
        return sorted([self.operator, *self.others], key=lambda found: -len(found.dirty))

    async def _version(self, alias: Alias) -> str | Fault:
        found = self.models.get(f"mlflow://{alias.name}@{alias.alias}")
        if isinstance(found, Failure):
            return Fault(Reason(found.reason.value), found.message)
        words = f"there is no mlflow://{alias.name}@{alias.alias}"
        return found.version if found is not None else Fault(Reason.MODEL_NOT_FOUND, words)

    async def settle(self, retries: int = 3) -> None:
        """Go on until nothing is left to do; what fails is tried again so many times."""
        for _ in range(MOST_LOOKS):
            if any([await found.observe() for found in self.operators]):
                continue
            operator = self.operators[0]
            failed = any(found.failed for found in self.operators)
            if operator.dirty:
                await operator.look(min(operator.dirty))
            elif self._act():
                continue
            elif failed and retries:
                retries -= 1
                self.now += timedelta(seconds=5)
                for found in self.operators:
                    found.dirty |= found.failed
            elif (dues := self._dues()) and (retries or not failed):
                self.now = max(self.now, min(dues))
                for found in self.operators:
                    found.wake(self.now)
            else:
                return
        raise AssertionError(
            f"no rest after {MOST_LOOKS} looks: {[str(r) for r in self.kube.requests[-20:]]}"
        )

    async def run(self, seconds: float) -> None:
        """Let so much time pass, with traffic, and everybody do what they do meanwhile."""
        until = self.now + timedelta(seconds=seconds)
        while True:
            if any([await found.observe() for found in self.operators]):
                continue
            operator = self.operators[0]
            if operator.dirty:
                await operator.look(min(operator.dirty))
            elif self._act():
                continue
            else:
                for found in self.operators:
                    for key in found.failed:
                        found.due.setdefault(key, self.now + timedelta(seconds=1))
                soon = self.now + timedelta(seconds=10)
                dues = [due for found in self.operators for due in found.due.values()]
                dues += self._observations()
                moment = max(self.now, min([until, soon, *dues]))
                self.routers.serve((moment - self.now).total_seconds())
                self.gateways.serve((moment - self.now).total_seconds())
                self.now = moment
                self.prometheus.scrape()
                for found in self.operators:
                    found.wake(moment)
                    await found.aliases.round()
                    await found.judge.round()
                    await found.claims.round()
                if moment == until and not any(found.dirty for found in self.operators):
                    return

    def status(self, name: str = NAME) -> dict[str, Any]:
        found: dict[str, Any] = self.kube.find(KIND, NAMESPACE, name)["status"]
        return found

    def said(self, name: str = NAME) -> dict[str, str]:
        """Conditions by type, as ``status reason``."""
        return {
            found["type"]: f"{found['status']} {found['reason']}" for found in self.status(name)["conditions"]
        }

    def message(self, type_: str = "Ready") -> str:
        return next(str(found["message"]) for found in self.status()["conditions"] if found["type"] == type_)

    def writes(self) -> int:
        return sum(request.is_write for request in self.kube.requests)

    def told(self) -> list[str]:
        """Events as ``type reason``."""
        return [f"{event['type']} {event['reason']}" for event in self.kube.events]

    def child(self, kind: ObjectKind, revision: str | None = None) -> Place:
        """The one child of a kind and revision."""
        (found,) = [
            place_of(item)
            for item in self.kube.all(kind)
            if revision in (None, item["metadata"]["labels"].get(naming.REVISION_LABEL))
        ]
        return found

    # The other controllers; each returns whether it did anything.

    def _act(self) -> bool:
        return any(
            [
                self._collect_garbage(),
                self._resolve(),
                *[self._audit(job) for job in self.kube.all(ObjectKind.JOB)],
                self._scale(),
                *[self._run(deployment) for deployment in self.kube.all(ObjectKind.DEPLOYMENT)],
                self._drain(),
                *[self._publish(service) for service in self.kube.all(ObjectKind.SERVICE)],
                self.gateways.act(),
            ]
        )

    def _collect_garbage(self) -> bool:
        uids = {
            item["metadata"]["uid"]
            for kind in (KIND, REPLICA_SET, *ObjectKind)
            for item in self.kube.all(kind)
        }
        gone = [
            place_of(item)
            for kind in (REPLICA_SET, *ObjectKind)
            for item in self.kube.all(kind)
            if any(owner["uid"] not in uids for owner in item["metadata"].get("ownerReferences", ()))
            and "deletionTimestamp" not in item["metadata"]
        ]
        for place in gone:
            self.kube.take(place)
        return bool(gone)

    def _drain(self) -> bool:
        """Pods that leave are gone at the next look."""
        gone = [
            place_of(pod) for pod in self.kube.all(ObjectKind.POD) if "deletionTimestamp" in pod["metadata"]
        ]
        for place in gone:
            self.kube.drop(place)
        return bool(gone)

    def _resolve(self) -> bool:
        acted = False
        for pod in self.kube.all(ObjectKind.POD):
            labels = pod["metadata"].get("labels") or {}
            if labels.get(naming.COMPONENT_LABEL) != "resolver" or "deletionTimestamp" in pod["metadata"]:
                continue
            status = self._resolver_status(pod)
            acted |= status is not None and self._set_status(pod, status)
        return acted

    def _resolver_status(self, pod: Manifest) -> dict[str, Any] | None:
        """What becomes of a resolver pod next; None where nothing does."""
        phase = pod.get("status", {}).get("phase")
        if phase in (None, "Pending"):
            if self.resolver_waits is not None:
                return self.resolver_waits
            return {"phase": "Running", "conditions": [_condition("Ready", True)]}
        return self._outcome(pod) if phase == "Running" else None

    def _outcome(self, pod: Manifest) -> dict[str, Any]:
        (container,) = pod["spec"]["containers"]
        task = json.loads(container["env"][0]["value"])
        self.tasks.append(task)
        answer = self.models.get(
            task["uri"], Failure(reason=ModelFault.MODEL_NOT_FOUND, message=f"there is no {task['uri']}")
        )
        if isinstance(answer, Resolution) and not task["uri"].startswith(("mlflow:", "dvc:", "oci:")):
            # Such URIs name the bytes themselves.
            answer = answer.model_copy(update={"uri": task["uri"]})
        if isinstance(answer, Resolution) and task.get("digest") not in (None, answer.digest):
            answer = Failure(reason=ModelFault.DIGEST_MISMATCH, message=f"the model is {answer.digest}")
        if isinstance(answer, Resolution) and task.get("isSigned"):
            answer = answer.model_copy(update={"signedBy": f"sha256:{'5' * 64}"})
        if isinstance(answer, Resolution) and task.get("provenance"):
            answer = answer.model_copy(
                update={"provenance": Built(**task["provenance"], commit=answer.digest[-40:])}
            )
        if isinstance(answer, Resolution) and task.get("folder"):
            answer = answer.model_copy(update={"folder": True})
        good = isinstance(answer, Resolution)
        words = TerminationMessage(
            outcome=Resolved(resolution=answer) if isinstance(answer, Resolution) else Failed(failure=answer)
        )
        ended = {
            "exitCode": 0 if good else 1,
            "finishedAt": stamp(self.now),
            "message": words.model_dump_json(),
        }
        return {
            "phase": "Succeeded" if good else "Failed",
            "containerStatuses": [
                {"name": container["name"], "image": container["image"], "state": {"terminated": ended}}
            ],
        }

    def _audit(self, job: dict[str, Any]) -> bool:
        """Make the pod of an audit's Job, one look; end it and the Job, the next."""
        meta, template = job["metadata"], job["spec"]["template"]
        if meta["labels"].get(naming.COMPONENT_LABEL) != "audit" or job.get("status", {}).get("conditions"):
            return False
        place = (ObjectKind.POD.value, meta["namespace"], f"{meta['name']}-pod")
        if not self.kube.has(*place):
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    **template["metadata"],
                    "name": place[2],
                    "namespace": meta["namespace"],
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": template["spec"],
            }
            self.kube.update(pod, "job")
            return True
        (container,) = template["spec"]["containers"]
        task = AuditTask.model_validate_json(container["env"][0]["value"])
        answer = self.audits(task)
        if answer is None:
            return False
        self.audited.append(task)
        if isinstance(answer, str):
            # It ended without a word; its Job has given up.
            failed = {**_condition("Failed", True), "message": answer, "lastTransitionTime": stamp(self.now)}
            return self._set_status(job, {"conditions": [failed]})
        words = TerminationMessage(outcome=answer).model_dump_json()
        ended = {"exitCode": 0, "finishedAt": stamp(self.now), "message": words}
        states = [{"name": container["name"], "image": container["image"], "state": {"terminated": ended}}]
        self._set_status(self.kube.find(*place), {"phase": "Succeeded", "containerStatuses": states})
        done = {**_condition("Complete", True), "lastTransitionTime": stamp(self.now)}
        return self._set_status(job, {"conditions": [done]})

    def _scale(self) -> bool:
        acted = False
        for autoscaler in self.kube.all(ObjectKind.AUTOSCALER):
            spec, meta = autoscaler["spec"], autoscaler["metadata"]
            place = (ObjectKind.DEPLOYMENT.value, meta["namespace"], spec["scaleTargetRef"]["name"])
            if not self.kube.has(*place):
                continue
            replicas = self.kube.find(*place)["spec"]["replicas"]
            wanted = min(max(replicas, spec["minReplicas"]), spec["maxReplicas"])
            if wanted != replicas:
                self.kube.edit(place, partial(_set_replicas, wanted), "hpa")
                acted = True
        return acted

    def _run(self, deployment: dict[str, Any]) -> bool:
        """Make or remove pods, one look; make them ready, the next."""
        meta, spec = deployment["metadata"], deployment["spec"]
        sets = {found["metadata"]["uid"] for found in self.kube.all(REPLICA_SET) if _owns(deployment, found)}
        pods = [
            pod
            for pod in self.kube.all(ObjectKind.POD)
            if any(owner["uid"] in sets for owner in pod["metadata"].get("ownerReferences", ()))
            and "deletionTimestamp" not in pod["metadata"]
            # What has ended is replaced, and stays to be looked at.
            and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
        ]
        refused = self.pods_refused if self.refuses(deployment) else None
        template = naming.content_hash(spec["template"])
        new = [pod for pod in pods if pod["metadata"]["labels"].get(TEMPLATE_LABEL) == template]
        old = sorted((pod for pod in pods if pod not in new), key=_is_ready)
        # maxUnavailable 0, maxSurge 1.
        room = min(spec["replicas"] - len(new), spec["replicas"] + bool(old) - len(pods))
        acted = refused is None and room > 0
        for number in range(room if acted else 0):
            self._make_pod(deployment, len(pods) + number)
        spare = len(pods) - spec["replicas"] - sum(not _is_ready(pod) for pod in new if old)
        leaving = (old or new[spec["replicas"] :])[: max(spare, 0)]
        for pod in leaving:
            self.kube.take(place_of(pod))
            acted = True
        kept = [pod for pod in pods if pod not in leaving]
        for pod in kept:
            acted |= self._set_status(pod, self._pod_status(pod))
        ready = sum(_is_ready(self.kube.find(*place_of(pod))) for pod in kept)
        counted: dict[str, Any] = {
            "observedGeneration": meta["generation"],
            "replicas": len(kept),
            "updatedReplicas": sum(pod in new for pod in kept),
            "readyReplicas": ready,
        }
        if refused is not None and room > 0:
            failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
            said = condition_of(deployment, "ReplicaFailure") or {"lastTransitionTime": stamp(self.now)}
            since = {"lastTransitionTime": said["lastTransitionTime"]}
            counted["conditions"] = [{**failure, **since, "message": refused}]
        return self._set_status(deployment, counted) or acted

    def _make_pod(self, deployment: Manifest, number: int) -> None:
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        taken = {pod["metadata"]["name"] for pod in self.kube.all(ObjectKind.POD)}
        name = next(found for n in count(number) if (found := f"{meta['name']}-pod-{n}") not in taken)
        owner = self._replica_set(deployment)
        self.kube.update(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": {
                        **template["metadata"]["labels"],
                        TEMPLATE_LABEL: naming.content_hash(template),
                    },
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": template["spec"],
            },
            "replicaset",
        )

    def _replica_set(self, deployment: Manifest) -> dict[str, Any]:
        """What owns the pods of a Deployment's template."""
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        name = f"{meta['name']}-{naming.content_hash(template)}"
        place = (REPLICA_SET, meta["namespace"], name)
        if not self.kube.has(*place):
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
            labels = {**template["metadata"]["labels"], TEMPLATE_LABEL: naming.content_hash(template)}
            self.kube.update(
                {
                    "apiVersion": "apps/v1",
                    "kind": REPLICA_SET,
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        "labels": labels,
                        "ownerReferences": [{**owner, "controller": True}],
                    },
                },
                "deployment",
            )
        uid = self.kube.find(*place)["metadata"]["uid"]
        return {"apiVersion": "apps/v1", "kind": REPLICA_SET, "name": name, "uid": uid}

    def _pod_status(self, pod: Manifest) -> dict[str, Any]:
        bad = self.pod_status(pod)
        if bad is not None:
            return bad
        since = pod.get("status", {}).get("startTime", stamp(self.now))
        ready = [_condition("Ready", True)]
        # Names do for addresses here.
        containers = pod.get("status", {}).get("containerStatuses")
        lives = {"containerStatuses": containers} if containers else {}
        address = pod["metadata"]["name"]
        return {"phase": "Running", "startTime": since, "conditions": ready, "podIP": address, **lives}

    def _publish(self, service: Manifest) -> bool:
        meta = service["metadata"]
        endpoints = [
            {
                "conditions": {"ready": _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]},
                "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]},
            }
            for pod in self.kube.all(ObjectKind.POD)
            if service["spec"]["selector"].items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        slice_ = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{meta['name']}-slice",
                "namespace": meta["namespace"],
                # The real controller mirrors the Service's labels, too.
                "labels": {**(meta.get("labels") or {}), "kubernetes.io/service-name": meta["name"]},
                "ownerReferences": [{"kind": "Service", "name": meta["name"], "uid": meta["uid"]}],
            },
            "endpoints": endpoints,
        }
        place = place_of(slice_)
        if not self.kube.has(*place):
            self.kube.update(slice_, "endpointslice")
            return True
        live = self.kube.find(*place)
        if live["endpoints"] == endpoints:
            return False
        self.kube.edit(place, lambda found: found.update(endpoints=endpoints), "endpointslice")
        return True

    def _set_status(self, manifest: Manifest, status: dict[str, Any]) -> bool:
        if manifest.get("status") == status:
            return False
        self.kube.edit(place_of(manifest), lambda found: found.update(status=status), "controller")
        return True


def _owns(owner: Manifest, child: Manifest) -> bool:
    references = child["metadata"].get("ownerReferences", ())
    return any(found["uid"] == owner["metadata"]["uid"] for found in references)


def resolution(version: int) -> Resolution:
    """What the registry says of a version of the model fraud."""
    return Resolution(
        uri=f"mlflow://fraud/{version}", version=str(version), digest=f"sha256:{version:064x}", bytes=4096
    )


def failing(reason: ModelFault, message: str) -> dict[str, Any]:
    """Status of a pod whose server ends with these words, again and again."""
    failure = Failure(reason=reason, message=message)
    words = TerminationMessage(outcome=Failed(failure=failure)).model_dump_json()
    status = {
        "name": "server",
        "image": "x",
        "ready": False,
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "message": words}},
    }
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [status],
    }


def _condition(type_: str, holds: bool) -> dict[str, str]:
    return {"type": type_, "status": str(holds)}


def _is_ready(pod: Manifest) -> bool:
    return _condition("Ready", True) in (pod.get("status", {}).get("conditions") or ())


def _set_replicas(replicas: int, deployment: dict[str, Any]) -> None:
    deployment["spec"]["replicas"] = replicas
