"""Names that move are looked up again, so that a new version is noticed: MLflow's aliases, Git's names."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from slipway.api.reasons import Reason
from slipway.core.observed import Fault
from slipway.core.plan import Plan
from slipway.core.resolution import moves
from slipway.core.resource import Resource
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key, Store
from slipway.engine.timetable import Timetable

log = logging.getLogger(__name__)

_ALIAS = re.compile(r"mlflow://(?P<name>[^/@?#]+)@(?P<alias>[^/@?#]+)")
#: Seconds between two rounds of looking for what is due.
ROUND = 1.0


@dataclass(frozen=True)
class Alias:
    """An alias of a registered model; with an empty alias, a URI that only resolver pods look up."""

    name: str
    alias: str


class Aliases:
    """Finds out whose model is to be resolved again.

    Without credentials the operator asks the installation's MLflow itself, once for all ModelDeployments that
    name the same alias: a request and no pod. With credentials, which the operator must not see, and for
    other stores, whose addresses are the users', a resolver pod is asked for each time.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[Alias], Awaitable[str | Fault]] | None,
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            ask: the version that an alias means now, or why that cannot be said; None without MLflow.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: from 0 to 1, so that not all resolver pods come in the same second.
        """
        self._store = store
        self._ask = ask
        self._spread = spread
        self._changed = changed
        self._clock = clock
        self._versions: dict[Alias, str] = {}
        self._asked: dict[Alias, datetime] = {}
        #: ModelDeployments that changed since the last round.
        self._news = store.subscribe()
        #: Who follows each alias, and the seconds between two looks that each wants; 0 for none.
        self._followers: dict[Alias, dict[Key, int]] = {}
        self._follows: dict[Key, Alias] = {}
        #: The key under which each alias is looked up: as one of the first namespace that followed it.
        self._keys: dict[Alias, Key] = {}
        self._aliases: dict[Key, Alias] = {}
        #: Aliases that are to be looked up at once.
        self._urgent: set[Alias] = set()
        self.pool = Pool(self._look, self._look_due, clock, spread)
        #: When a model with credentials is to be resolved again.
        self._due: dict[Key, datetime] = {}
        self._reminders: Timetable[Key] = Timetable()
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
            never = resource.spec.model.refresh_interval == 0
            version = self._granted.get(key) if never else self._versions.get(alias)
            return f"version {version}" if version not in (None, status.model.version) else None
        if self._is_requested(key, resource):
            return f"request {status.refreshRequestedAt}"
        if resource.spec.model.refresh_interval == 0:
            return None
        if key not in self._due:
            # All are new to an operator that has just begun.
            self._set_due(key, resource.spec.model.refresh_interval * (1.0 - 0.9 * self._spread()))
        due = self._due[key]
        return f"time {due.timestamp():.0f}" if due <= self._clock() else None

    def fault(self, resource: Resource, refresh_token: str | None) -> Fault | None:
        """Why the alias that a resource follows cannot be looked up, or None.

        A store that does not answer once is nothing to speak of; an alias that is not there is. What the
        operator before said stands until this one has looked: :attr:`Reason.REFRESH_FAILED` means that.
        """
        alias, said = _alias_of(resource), resource.status.refreshFailingSince is not None
        if alias is None or isinstance(resource.spec, Fault) or resource.spec.model.refresh_interval == 0:
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
            self._set_due(key, resource.spec.model.refresh_interval * (1.0 + 0.1 * self._spread()))

    def _set_due(self, key: Key, seconds: float) -> None:
        self._due[key] = due = self._clock() + timedelta(seconds=seconds)
        self._reminders.set(key, due)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        for memory in (self._due, self._requests, self._granted):
            memory.pop(key, None)
        self._reminders.drop(key)
        # One of the same name may be there already.
        self._news.add(key)
        self._requesting.discard(key)

    async def watch(self) -> None:
        """Look up what is due, for ever: a store that does not answer keeps no other look waiting."""
        await asyncio.gather(self.pool.watch(), self._follow())

    async def _follow(self) -> None:
        while True:
            self._take_news()
            await asyncio.sleep(ROUND)

    async def round(self) -> None:
        """Look up what is due now, and wait for all of it."""
        self._take_news()
        await self.pool.drain()

    def _look_due(self, key: Key) -> datetime | None:
        """As often as the most impatient of those who follow an alias wants, or at once."""
        alias = self._aliases.get(key)
        if alias is None:
            return None
        if alias in self._urgent:
            return self._clock()
        seconds = min((wanted for wanted in self._followers[alias].values() if wanted), default=None)
        if seconds is None:
            return None
        asked = self._asked.get(alias)
        return self._clock() if asked is None else asked + timedelta(seconds=seconds)

    async def _look(self, key: Key) -> bool:
        alias = self._aliases.get(key)
        if alias is None:
            return True
        self._urgent.discard(alias)
        self._asked[alias] = self._clock()
        found = await self._ask(alias) if self._ask is not None else None
        if found is None or alias not in self._followers:
            return True
        if isinstance(found, Fault):
            times = self._failing.get(alias, (found, 0))[1] + 1
            self._failing[alias] = (found, times)
            if times == _patience(found):
                self._tell(alias)
            return found.reason is not Reason.REGISTRY_UNREACHABLE
        failed = self._failing.pop(alias, None) is not None
        granted = [key for key in self._followers.get(alias, ()) if key in self._requesting]
        for key in granted:
            self._granted[key] = found
            self._requesting.discard(key)
        if found != self._versions.get(alias) or failed or granted:
            self._versions[alias] = found
            self._tell(alias)
        return True

    def _tell(self, alias: Alias) -> None:
        for key in list(self._followers.get(alias, ())):
            self._changed(key)

    def _take_news(self) -> None:
        """Note who follows what, who asked for a look, and whose resolver pod is due."""
        touched: set[Alias] = set()
        while self._news:
            key = self._news.pop()
            resource = self._store.read(key)
            alias = _alias_of(resource) if resource is not None else None
            touched |= self._file(key, resource, alias)
            if resource is None or alias is None or not self._is_asked_here(resource):
                continue
            if self._is_requested(key, resource):
                self._requests[key] = resource.status.refreshRequestedAt
                self._requesting.add(key)
                self._urgent.add(alias)
                touched.add(alias)
        for alias in touched:
            self._schedule(alias)
        for key in self._reminders.take(self._clock()):
            self._changed(key)

    def _file(self, key: Key, resource: Resource | None, alias: Alias | None) -> set[Alias]:
        """Note what a ModelDeployment follows; the aliases for which that is news."""
        before = self._follows.pop(key, None)
        if before is not None and before != alias:
            self._followers[before].pop(key, None)
        touched = {before} if before is not None and before != alias else set()
        if alias is not None and resource is not None and not isinstance(resource.spec, Fault):
            seconds = resource.spec.model.refresh_interval if self._is_asked_here(resource) else 0
            followers = self._followers.setdefault(alias, {})
            if followers.get(key) != seconds:
                touched.add(alias)
            followers[key], self._follows[key] = seconds, alias
        return touched

    def _schedule(self, alias: Alias) -> None:
        """Set when an alias is looked up next; one that nobody follows is forgotten."""
        followers = self._followers.get(alias)
        key = self._keys.get(alias)
        if not followers:
            for memory in (self._followers, self._asked, self._versions, self._failing, self._keys):
                memory.pop(alias, None)
            self._urgent.discard(alias)
            if key is not None:
                del self._aliases[key]
                self.pool.forget(key)
            return
        if key is None:
            key = self._keys[alias] = Key(next(iter(followers)).namespace, f"{alias.name}@{alias.alias}")
            self._aliases[key] = alias
        self.pool.refresh(key, at_once=alias in self._urgent)

    def _is_requested(self, key: Key, resource: Resource) -> bool:
        """Whether the webhook was called since; what it said before this operator began is no news."""
        known = self._requests.setdefault(key, resource.status.refreshRequestedAt)
        return resource.status.refreshRequestedAt not in (None, known)

    def _is_asked_here(self, resource: Resource) -> bool:
        return (
            self._ask is not None
            and not isinstance(resource.spec, Fault)
            and resource.spec.model.credentials is None
            and _ALIAS.fullmatch(resource.spec.model.uri) is not None
        )


def _patience(fault: Fault) -> int:
    """Looks in a row that have to fail before it is spoken of."""
    return 3 if fault.reason is Reason.REGISTRY_UNREACHABLE else 1


def _alias_of(resource: Resource) -> Alias | None:
    """The name that a resource follows: one with a fixed digest follows nothing."""
    if isinstance(resource.spec, Fault) or resource.deleting or not moves(resource.spec.model):
        return None
    uri = resource.spec.model.uri
    match = _ALIAS.fullmatch(uri)
    return Alias(unquote(match["name"]), unquote(match["alias"])) if match else Alias(uri, "")
