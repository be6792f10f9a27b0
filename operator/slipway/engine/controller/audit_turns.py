"""How many audits of a namespace may run at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slipway.core import naming
from slipway.core.observed import Manifest, condition
from slipway.engine.store import Key, Store, owner_key

#: Jobs of audits of one namespace.
MOST_AUDITS = 4


class AuditTurns:
    """Soft state: what was planned and is not seen yet counts as what is there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun: set[Key] = set()

    def may_begin(self, key: Key) -> bool:
        """Whether another audit has room, this one's own not counted: it has one at a time."""
        running = {owner_key(job) for job in self._store.jobs(key.namespace) if _is_running(job)}
        begun = {other for other in self._begun if other.namespace == key.namespace}
        return len((running | begun) - {key}) < MOST_AUDITS

    @contextmanager
    def taken(self, key: Key, begins: bool) -> Iterator[None]:
        """One may be created meanwhile: afterwards it is seen, or it was refused."""
        if begins:
            self._begun.add(key)
        try:
            yield
        finally:
            self._begun.discard(key)


def _is_running(job: Manifest) -> bool:
    labels = job["metadata"].get("labels") or {}
    ended = "True" in (condition(job, "Complete"), condition(job, "Failed"))
    return labels.get(naming.COMPONENT_LABEL) == "audit" and not ended
