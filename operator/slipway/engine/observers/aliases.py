"""Names that move: MLflow aliases are looked up again, so that a new version is noticed by itself."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from slipway.api.reasons import Reason
from slipway.core.observed import Fault
from slipway.core.plan import Plan
from slipway.core.resource import Resource, read
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)

_ALIAS = re.compile(r"mlflow://(?P<name>[^/@?#]+)@(?P<alias>[^/@?#]+)")
#: Seconds between two rounds of looking for what is due.
ROUND = 1.0
#: Look-ups under way at once.
AT_ONCE = 8


@dataclass(frozen=True)
class Alias:
    """An alias of a registered model."""

    name: str
    alias: str


class Aliases:
    """Finds out whose model is to be resolved again.

    Without credentials the operator asks the installation's MLflow itself, once for all ModelDeployments that
    name the same alias: a request and no pod. With credentials, which the operator must not see, a resolver
    pod is asked for each time.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[Alias], Awaitable[str | Fault]] | None,
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            ask: the version that an alias means now, or why that cannot be said; None without MLflow.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._ask = ask
        self._changed = changed
        self._clock = clock
        self._versions: dict[Alias, str] = {}
        self._asked: dict[Alias, datetime] = {}
        #: When a model with credentials is to be resolved again.
        self._due: dict[Key, datetime] = {}
        self._told: dict[Key, datetime] = {}
        self._requests: dict[Key, str | None] = {}
        #: Those that look only when they are asked to: whose look is due, and what their last one found.
        self._requesting: set[Key] = set()
        self._granted: dict[Key, str] = {}
        #: What the last looks met with, and how many of them in a row.
        self._failing: dict[Alias, tuple[Fault, int]] = {}

    def refresh_token(self, resource: Resource) -> str | None:
        """Why a resource's model is to be resolved again, or None."""
        alias, status = _alias_of(resource), resource.status
        if alias is None or status.model is None or isinstance(resource.spec, Fault):
            return None
        key = Key(resource.owner.namespace, resource.owner.name)
        if self._is_asked_here(resource):
            never = resource.spec.model.refreshSeconds == 0
            version = self._granted.get(key) if never else self._versions.get(alias)
            return f"version {version}" if version not in (None, status.model.version) else None
        if self._is_requested(key, resource):
            return f"request {status.refreshRequestedAt}"
        if resource.spec.model.refreshSeconds == 0:
            return None
        due = self._due.setdefault(key, self._clock() + timedelta(seconds=resource.spec.model.refreshSeconds))
        return f"time {due.timestamp():.0f}" if due <= self._clock() else None

    def fault(self, resource: Resource, refresh_token: str | None) -> Fault | None:
        """Why the alias that a resource follows cannot be looked up, or None.

        A store that does not answer once is nothing to speak of; an alias that is not there is. What the
        operator before said stands until this one has looked: :attr:`Reason.REFRESH_FAILED` means that.
        """
        alias, said = _alias_of(resource), resource.status.refreshFailingSince is not None
        if alias is None or isinstance(resource.spec, Fault) or resource.spec.model.refreshSeconds == 0:
            return None
        stands = Fault(Reason.REFRESH_FAILED, "") if said else None
        if not self._is_asked_here(resource):
            return stands if refresh_token is None else None
        if alias not in self._failing:
            return stands if alias not in self._versions else None
        fault, times = self._failing[alias]
        return fault if said or times >= _patience(fault) else None

    def settle(self, resource: Resource, refresh_token: str | None, planned: Plan) -> None:
        """Note the answer to a ``refresh_token``: the next look is due a while later."""
        model, alias = planned.resolution.model, _alias_of(resource)
        if refresh_token is None or planned.resolution.asking or model is None or alias is None:
            return
        key = Key(resource.owner.namespace, resource.owner.name)
        self._requests[key] = resource.status.refreshRequestedAt
        if self._is_asked_here(resource):
            self._versions[alias] = model.version
            if key in self._granted:
                self._granted[key] = model.version
        elif key in self._due and not isinstance(resource.spec, Fault):
            self._due[key] = self._clock() + timedelta(seconds=resource.spec.model.refreshSeconds)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        for memory in (self._due, self._told, self._requests, self._granted):
            memory.pop(key, None)
        self._requesting.discard(key)

    async def watch(self) -> None:
        """Look up what is due, for ever."""
        while True:
            await self.round()
            await asyncio.sleep(ROUND)

    async def round(self) -> None:
        """Look up what is due now."""
        room = asyncio.Semaphore(AT_ONCE)

        async def look(alias: Alias) -> None:
            async with room:
                await self._look(alias)

        await asyncio.gather(*(look(alias) for alias in self._due_aliases()))
        for key, due in list(self._due.items()):
            if due <= self._clock() and self._told.get(key) != due:
                self._told[key] = due
                self._changed(key)

    async def _look(self, alias: Alias) -> None:
        self._asked[alias] = self._clock()
        found = await self._ask(alias) if self._ask is not None else None
        if found is None:
            return
        if isinstance(found, Fault):
            times = self._failing.get(alias, (found, 0))[1] + 1
            self._failing[alias] = (found, times)
            if times == _patience(found):
                self._tell(alias)
            return
        failed = self._failing.pop(alias, None) is not None
        granted = [
            key
            for key, resource in self._resources()
            if key in self._requesting and _alias_of(resource) == alias
        ]
        for key in granted:
            self._granted[key] = found
            self._requesting.discard(key)
        if found != self._versions.get(alias) or failed or granted:
            self._versions[alias] = found
            self._tell(alias)

    def _tell(self, alias: Alias) -> None:
        for key, resource in self._resources():
            if _alias_of(resource) == alias:
                self._changed(key)

    def _due_aliases(self) -> list[Alias]:
        """Each alias as often as the most impatient of those who follow it wants, or one is asked to."""
        found: dict[Alias, None] = {}
        followed: set[Alias | None] = set()
        for key, resource in self._resources():
            alias = _alias_of(resource)
            followed.add(alias)
            if alias is None or isinstance(resource.spec, Fault) or not self._is_asked_here(resource):
                continue
            seconds, asked = resource.spec.model.refreshSeconds, self._asked.get(alias)
            requested = self._is_requested(key, resource)
            if requested:
                self._requests[key] = resource.status.refreshRequestedAt
                self._requesting.add(key)
            waited = asked is None or self._clock() - asked >= timedelta(seconds=seconds)
            if requested or (seconds and waited):
                found[alias] = None
        for alias in [known for known in self._asked.keys() | self._versions.keys() if known not in followed]:
            self._asked.pop(alias, None)
            self._versions.pop(alias, None)
        return list(found)

    def _is_requested(self, key: Key, resource: Resource) -> bool:
        """Whether the webhook was called since; what it said before this operator began is no news."""
        known = self._requests.setdefault(key, resource.status.refreshRequestedAt)
        return resource.status.refreshRequestedAt not in (None, known)

    def _is_asked_here(self, resource: Resource) -> bool:
        return (
            self._ask is not None
            and not isinstance(resource.spec, Fault)
            and resource.spec.model.credentials is None
        )

    def _resources(self) -> list[tuple[Key, Resource]]:
        keys = [(key, self._store.resource(key)) for key in self._store.resources()]
        return [(key, read(manifest)) for key, manifest in keys if manifest is not None]


def _patience(fault: Fault) -> int:
    """Looks in a row that have to fail before it is spoken of."""
    return 3 if fault.reason is Reason.REGISTRY_UNREACHABLE else 1


def _alias_of(resource: Resource) -> Alias | None:
    """The alias that a resource follows: one with a fixed digest follows nothing."""
    if isinstance(resource.spec, Fault) or resource.deleting or resource.spec.model.digest is not None:
        return None
    match = _ALIAS.fullmatch(resource.spec.model.uri)
    return Alias(unquote(match["name"]), unquote(match["alias"])) if match else None
