"""One resolver pod for all ModelDeployments of a namespace that ask the very same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Fault, Manifest, ObjectKind
from slipway.core.resolution import answer_of, question
from slipway.core.resource import Resource
from slipway.engine.store import Key, Store

#: How long an answer holds for others who ask the same.
FRESH = timedelta(seconds=60)
#: How long one that is to ask for all may be without a pod, such as by a quota, until another tries.
PATIENCE = timedelta(seconds=10)

#: A namespace, and what is asked in it.
_Place = tuple[str, str]


@dataclass
class _Question:
    """Who asks, and what came of it."""

    #: The one whose pod asks for all.
    leader: Key
    since: datetime
    pod: str = ""
    phase: str | None = None
    answer: Manifest | None = None
    answered_at: datetime | None = None
    waiting: set[Key] = field(default_factory=set)


class Resolvers:
    """Finds the resolver pod of a neighbour. Soft state: after a restart each may ask once for itself.

    Those share it that are of one namespace and whose pods would be alike: the same URI, digest and Secret,
    the same pod options and placement. Others would ask with rights of their own.
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
        asked = (
            None
            if isinstance(resource.spec, Fault)
            else question(resource.spec, resource.status, refresh_token)
        )
        place = (key.namespace, asked) if asked is not None else None
        if self._asking.get(key) != place:
            self._leave(key)
        if place is None:
            return None
        here, now = self._questions.get(place), self._clock()
        if here is None:
            here = self._questions[place] = _Question(key, now)
        self._asking[key] = place
        if self._holds(here, resource.spec, refresh_token):
            return here.answer
        if self._asking.get(here.leader) != place:
            here.leader, here.since, here.pod, here.phase = key, now, "", None
        if here.leader == key:
            here.waiting.discard(key)
            self._notice(here)
            return None
        pod = self._pod(here)
        if pod is None and now - here.since > PATIENCE:
            here.leader, here.since, here.pod, here.phase = key, now, "", None
            here.waiting.discard(key)
            return None
        here.waiting.add(key)
        return pod or {"kind": ObjectKind.POD.value, "metadata": {"name": here.pod}, "status": {}}

    def note(self, key: Key, pod: str) -> None:
        """A ModelDeployment that asks by itself does so by the pod of this name."""
        here = self._questions.get(self._asking.get(key, ("", "")))
        if here is not None and here.leader == key:
            here.pod = pod
            self._notice(here)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone, and its pod with it."""
        self._leave(key)
        place = self._answered.pop(key, None)
        if place is not None and place in self._questions:
            self._drop_answer(place)

    def _leave(self, key: Key) -> None:
        """It asks that no more: another may ask for all."""
        place = self._asking.pop(key, None)
        here = self._questions.get(place) if place is not None else None
        if place is None or here is None:
            return
        here.waiting.discard(key)
        if here.leader == key:
            self._wake(here)
        if not here.waiting and here.answer is None and self._asking.get(here.leader) != place:
            del self._questions[place]

    def _holds(self, here: _Question, spec: ModelDeploymentSpec | Fault, refresh_token: str | None) -> bool:
        """Whether an answer is fresh; to a look that is due every so often, one of about when it was due."""
        if here.answer is None or here.answered_at is None or isinstance(spec, Fault):
            return False
        due = (refresh_token or "").partition("time ")[2]
        if due:
            early = timedelta(seconds=spec.model.refresh_interval / 10)
            return here.answered_at >= datetime.fromtimestamp(float(due), UTC) - early
        return self._clock() - here.answered_at <= FRESH and _is_of(here.answer, refresh_token)

    def _notice(self, here: _Question) -> None:
        """Have those who wait worked on when the pod that asks for all comes further."""
        pod, now = self._pod(here), self._clock()
        phase = (pod.get("status") or {}).get("phase") if pod is not None else None
        if pod is None and here.phase is not None:
            # It gives way to another try.
            here.since = now
        elif pod is not None and _has_ended(phase) and not _is_same(pod, here.answer) and answer_of(pod):
            here.answer, here.answered_at = pod, now
            self._answered[here.leader] = self._asking[here.leader]
        if phase != here.phase:
            here.phase = phase
            self._wake(here)

    def _wake(self, here: _Question) -> None:
        for key in list(here.waiting):
            self._changed(key)

    def _pod(self, here: _Question) -> Manifest | None:
        pod = self._store.child(here.leader, ObjectKind.POD, here.pod)
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


def _has_ended(phase: str | None) -> bool:
    """A kubelet may tell of what a container said at its end before it tells that the pod has ended."""
    return phase in ("Succeeded", "Failed")


def _is_same(pod: Manifest, other: Manifest | None) -> bool:
    return other is not None and pod["metadata"]["uid"] == other["metadata"]["uid"]


def _is_of(pod: Manifest, refresh_token: str | None) -> bool:
    """Whether an answer is of the version that is looked for, where that is known."""
    answer = answer_of(pod)
    version = (refresh_token or "").partition("version ")[2]
    return answer is not None and version in ("", answer.resolution.version)
