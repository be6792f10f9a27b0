"""One resolver pod for all ModelDeployments of a namespace that ask the very same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Fault, Manifest, ObjectKind, is_ready
from slipway.core.resolution import believed, is_of_store, question
from slipway.core.resource import Resource
from slipway.engine.store import Key, Store

#: How long an answer holds for others who ask the same.
FRESH = timedelta(seconds=60)
#: How long one that is to ask for all may be without a pod, such as by a quota, until another tries.
PATIENCE = timedelta(seconds=10)
#: How long its pod may take to start, without room say.
START_PATIENCE = timedelta(seconds=30)
#: Both double with each that was waited for in vain, so often.
_DOUBLED = 3

#: A namespace, and what is asked in it.
_Place = tuple[str, str]


@dataclass
class _Question:
    """Who asks, and what came of it."""

    uri: str
    #: The one whose pod asks for all, and since when.
    leader: Key
    since: datetime
    #: The phase of its pod.
    phase: str | None = None
    #: Why its pod is refused.
    refused: Fault | None = None
    #: The pods of those who ask, or have asked and may still get an answer, by name.
    pods: dict[Key, str] = field(default_factory=dict)
    #: Those whose pods failed by what may be their own matter alone, or did not start.
    tried: set[Key] = field(default_factory=set)
    #: The pod that failed last, when that was seen, and who was told.
    failed: Manifest | None = None
    failed_at: datetime | None = None
    told: set[Key] = field(default_factory=set)
    answer: Manifest | None = None
    answered_at: datetime | None = None
    #: Since when each of the others waits, in the order in which they try next.
    waiting: dict[Key, datetime] = field(default_factory=dict)


class Resolvers:
    """Finds the resolver pod of a neighbour. Soft state: after a restart each may ask once for itself.

    Those share it that are of one namespace and whose pods would be alike: the same URI, digest and Secret,
    the same pod options and placement. Others would ask with rights of their own.

    Pods that are alike may fare differently all the same: a NetworkPolicy, a quota, a node. So nobody is
    held up by one that fails: what it met with is told to all who waited for it, and the next one tries. At
    once, where that may be a matter of the pod alone; else when it is time for another try.
    """

    def __init__(self, store: Store, changed: Callable[[Key], None], clock: Callable[[], datetime]) -> None:
        """
        Args:
            store: what the cluster holds.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._changed = changed
        self._clock = clock
        self._questions: dict[_Place, _Question] = {}
        self._asking: dict[Key, _Place] = {}
        #: Whose pod gave the answer that is kept of a question.
        self._answered: dict[Key, _Place] = {}
        self._pruned_at: datetime | None = None

    def find(self, key: Key, resource: Resource, refresh_token: str | None) -> Manifest | None:
        """The pod of a neighbour that answers for a ModelDeployment; None where it is to ask by itself."""
        self._prune()
        spec = resource.spec
        asked = None if isinstance(spec, Fault) else question(spec, resource.status, refresh_token)
        place = (key.namespace, asked) if asked is not None else None
        if self._asking.get(key) != place:
            self.leave(key)
        if place is None or isinstance(spec, Fault):
            return None
        here, now = self._questions.get(place), self._clock()
        if here is None:
            here = self._questions[place] = _Question(spec.model.uri, key, now)
        self._asking[key] = place
        for each in (here.leader, key):
            self._take_answer(here, each, place)
        if self._holds(here, spec, refresh_token):
            return here.answer
        if self._asking.get(here.leader) != place:
            self._lead(here, key)
        if here.leader == key:
            self._notice(here)
        return None if here.leader == key else self._wait(here, key, now)

    def _wait(self, here: _Question, key: Key, now: datetime) -> Manifest | None:
        """What one sees that another asks for; None where it asks now."""
        since = here.waiting.setdefault(key, now)
        pod = self._pod(here, here.leader)
        failed = here.failed if here.failed_at is not None and here.failed_at >= since else None
        if failed is not None and key not in here.told:
            # It says so, and may then try itself.
            here.told.add(key)
            self._changed(key)
            return failed
        if self._is_next(here, key, pod, now):
            self._lead(here, key)
            return None
        return failed or pod or _no_pod(here.pods.get(here.leader, ""))

    def _is_next(self, here: _Question, key: Key, pod: Manifest | None, now: datetime) -> bool:
        """Whether one that waits is to try itself in place of the one that does."""
        is_new, waited = key not in here.tried, now - here.since
        doubled = 1 << min(len(here.tried), _DOUBLED)
        if is_new and here.leader in here.tried:
            return True
        if pod is None:
            is_late = waited > PATIENCE * doubled
        elif _has_ended(pod):
            # What was met with before it asked says nothing of now.
            return is_new and here.failed_at is not None and here.failed_at < here.waiting[key]
        else:
            is_late = not is_ready(pod) and waited > START_PATIENCE * doubled
        if is_late:
            here.tried.add(here.leader)
        return is_late

    def _lead(self, here: _Question, key: Key) -> None:
        before, here.leader = here.leader, key
        here.since, here.phase = self._clock(), None
        here.waiting.pop(key, None)
        if before in here.pods:
            # A pod of its own that failed gives way now.
            self._changed(before)

    def refusal(self, key: Key) -> Fault | None:
        """Why the pod that one waits for cannot be made."""
        here = self._questions.get(self._asking.get(key, ("", "")))
        return here.refused if here is not None and key in here.waiting else None

    def note(self, key: Key, pod: str, refused: Fault | None) -> None:
        """A ModelDeployment that asks by itself does so by the pod of this name, unless that is refused."""
        place = self._asking.get(key, ("", ""))
        here = self._questions.get(place)
        if here is None or here.leader != key:
            return
        here.pods[key] = pod
        if here.refused != refused:
            here.refused = refused
            self._wake(here)
        self._take_answer(here, key, place)
        self._notice(here)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone, and its pod with it."""
        self.leave(key)
        place = self._answered.pop(key, None)
        if place is not None and place in self._questions:
            self._drop_answer(place)

    def leave(self, key: Key) -> None:
        """It asks that no more: another may ask for all."""
        place = self._asking.pop(key, None)
        here = self._questions.get(place) if place is not None else None
        if place is None or here is None:
            return
        here.waiting.pop(key, None)
        here.pods.pop(key, None)
        here.tried.discard(key)
        here.told.discard(key)
        if here.leader == key:
            self._wake(here)
        if not here.waiting and here.answer is None and self._asking.get(here.leader) != place:
            del self._questions[place]

    def _holds(self, here: _Question, spec: ModelDeploymentSpec, refresh_token: str | None) -> bool:
        """Whether an answer is fresh; to a look that is due every so often, one of about when it was due."""
        if here.answer is None or here.answered_at is None:
            return False
        due = (refresh_token or "").partition("time ")[2]
        if due:
            early = timedelta(seconds=spec.model.refresh_interval / 10)
            return here.answered_at >= datetime.fromtimestamp(float(due), UTC) - early
        return self._clock() - here.answered_at <= FRESH and _is_of(here, refresh_token)

    def _take_answer(self, here: _Question, key: Key, place: _Place) -> None:
        """Note what the pod of one that asks, or has asked, found out: everybody has it."""
        pod = self._pod(here, key)
        if pod is None or not _has_ended(pod) or _is_same(pod, here.answer) or not believed(here.uri, pod):
            return
        here.answer, here.answered_at = pod, self._clock()
        here.failed = here.failed_at = here.refused = None
        here.tried.clear()
        self._answered[key] = place
        self._wake(here)

    def _notice(self, here: _Question) -> None:
        """Have those who wait worked on when the pod that asks for all comes further."""
        pod, now = self._pod(here, here.leader), self._clock()
        phase = (pod.get("status") or {}).get("phase") if pod is not None else None
        if phase == here.phase:
            return
        here.phase = phase
        if pod is None:
            # It gives way to another try, which is the next one's.
            here.since = now
            if here.waiting:
                after = next(iter(here.waiting))
                self._lead(here, after)
                self._changed(after)
        elif _has_ended(pod) and not believed(here.uri, pod):
            here.failed, here.failed_at, here.told = pod, now, {here.leader}
            if not is_of_store(pod):
                here.tried.add(here.leader)
        self._wake(here)

    def _wake(self, here: _Question) -> None:
        for key in list(here.waiting):
            self._changed(key)

    def _pod(self, here: _Question, key: Key) -> Manifest | None:
        pod = self._store.child(key, ObjectKind.POD, here.pods.get(key, ""))
        return pod if pod is not None and not pod["metadata"].get("deletionTimestamp") else None

    def _prune(self) -> None:
        """Drop answers that are old."""
        now = self._clock()
        if self._pruned_at is not None and now - self._pruned_at < FRESH / 10:
            return
        self._pruned_at = now
        old = [
            place
            for place, here in self._questions.items()
            if here.answered_at is not None and now - here.answered_at > FRESH
        ]
        for place in old:
            self._drop_answer(place)
        self._answered = {key: place for key, place in self._answered.items() if place in self._questions}

    def _drop_answer(self, place: _Place) -> None:
        here = self._questions[place]
        here.answer = here.answered_at = None
        if not here.waiting and self._asking.get(here.leader) != place:
            del self._questions[place]


def _no_pod(name: str) -> Manifest:
    """What is seen of one that is still to be made."""
    return {"kind": ObjectKind.POD.value, "metadata": {"name": name}, "status": {}}


def _has_ended(pod: Manifest) -> bool:
    """A kubelet may tell of what a container said at its end before it tells that the pod has ended."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _is_same(pod: Manifest, other: Manifest | None) -> bool:
    return other is not None and pod["metadata"]["uid"] == other["metadata"]["uid"]


def _is_of(here: _Question, refresh_token: str | None) -> bool:
    """Whether an answer is of the version that is looked for, where that is known."""
    answer = believed(here.uri, here.answer) if here.answer is not None else None
    version = (refresh_token or "").partition("version ")[2]
    return answer is not None and version in ("", answer.version)
