"""Which installation looks after which namespace, where several watch the same ones (ADR 9)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from slipway.api.reasons import Reason
from slipway.core.observed import Manifest
from slipway.core.status.events import Event
from slipway.engine.controller.apply import Writer
from slipway.engine.errors import ApiError
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)

#: Seconds between two readings of the other installations' leases.
ROUND = 20.0
#: Seconds for which a lease has to be seen missing or unchanged before what it claims is taken over.
GONE = 300.0
#: Seconds between two readings that still count as one stretch: nobody renews while the API server is away.
GAP = 90.0

_HAND_OVER = (
    ", and may not read that Lease: to hand them over, uninstall the other one or leave the namespace out of "
    "its watchNamespaces, then clear status.operator of each: kubectl patch modeldeployment NAME "
    """--subresource=status --type=merge -p '{"status":{"operator":null}}'"""
)


@dataclass(frozen=True)
class _Claimant:
    """Another installation, as its lease was last seen.

    Attributes:
        version: of its lease; None without one.
        since: when that was first seen to be so, and since when without a gap.
        read: when it was last seen.
    """

    version: str | None
    since: float
    read: float

    @property
    def gone(self) -> bool:
        return self.read - self.since >= GONE


class Claims:
    """Claims ModelDeployments for this installation, and leaves alone what another one claimed."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        own: str,
        read_lease: Callable[[str], Awaitable[str | None]],
        changed: Callable[[Key], None],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            writer: writes claims and Events.
            own: this installation's lease, as ``NAMESPACE/LEASE``.
            read_lease: tells the version of such a lease, None without one; raises ApiError.
            changed: has a key worked on.
            clock: seconds, by a clock that nobody sets.
            now: tells the time, with a time zone.
        """
        self._store = store
        self._writer = writer
        self._own = own
        self._read_lease = read_lease
        self._changed = changed
        self._clock = clock
        self._now = now
        #: Who looks after each namespace; found again in each round and whenever it may have changed.
        self._owners: dict[str, str | None] = {}
        self._claimants: dict[str, _Claimant] = {}
        #: ModelDeployments that changed since the last round, and those that are not this installation's.
        self._news = store.subscribe()
        self._foreign: set[Key] = set()
        self._said: set[tuple[str, str]] = set()
        #: Whether the cluster's CRD, which may be older, has the field.
        self._known = True
        #: ModelDeployments that others look after, as of the last round.
        self.elsewhere = 0

    async def hold(self, key: Key) -> bool:
        """Whether this installation looks after a ModelDeployment or routers; claims it if nobody does.

        Raises:
            ApiError: 409 where another one may just have claimed it.
        """
        manifest = None if key.routers else self._store.resource(key)
        if manifest is None:
            # Routers of a namespace without ModelDeployments belong to nobody.
            return self._owner(key.namespace) in (None, self._own)
        claim, owner = claim_of(manifest), self._owner(key.namespace)
        if claim != owner and not self._is_gone(claim) and (claim is not None or owner != self._own):
            # Somebody else changed something.
            self._owners[key.namespace] = self._find_owner(key.namespace)
        if self._owner(key.namespace) not in (None, self._own):
            return False
        if claim != self._own and self._known and "deletionTimestamp" not in manifest["metadata"]:
            log.info("claiming", extra={"key": str(key), "before": claim})
            await self._claim(manifest)
            latest = self._store.resource(key)
            if latest is not None and claim_of(latest) not in (None, self._own):
                # Somebody took it while the answer was under way, and a watch was quicker than that.
                return False
            self._owners[key.namespace] = self._own
        return True

    async def _claim(self, manifest: Manifest) -> None:
        try:
            await self._writer.claim(manifest, self._own)
        except ApiError as error:
            if "field not declared in schema" not in error.message:
                raise
            self._known = False

    async def watch(self) -> None:
        """Make a round every now and then, until cancelled."""
        while True:
            await asyncio.sleep(ROUND)
            await self.round()

    async def round(self) -> None:
        """Look whether those who claimed something are still there; say once what is left to them."""
        claimed: dict[str, list[Manifest]] = {}
        unclaimed: list[Key] = []
        for key, manifest in self._not_own():
            claim = claim_of(manifest)
            if claim is None:
                unclaimed.append(key)
            else:
                claimed.setdefault(claim, []).append(manifest)
        self._claimants = {name: found for name, found in self._claimants.items() if name in claimed}
        faults = {claimant: await self._look(claimant) for claimant in claimed}
        self._owners.clear()
        self.elsewhere = 0
        for key in unclaimed:
            if self._owner(key.namespace) == self._own:
                self._changed(key)
        for claimant, manifests in claimed.items():
            for manifest in manifests:
                meta = manifest["metadata"]
                if self._owner(meta["namespace"]) in (None, self._own):
                    self._changed(Key(meta["namespace"], meta["name"]))
                else:
                    self.elsewhere += 1
                    await self._say(manifest, claimant, faults[claimant])

    def _not_own(self) -> Iterator[tuple[Key, Manifest]]:
        while self._news:
            key = self._news.pop()
            manifest = self._store.resource(key)
            if manifest is None or claim_of(manifest) == self._own:
                self._foreign.discard(key)
            else:
                self._foreign.add(key)
        for key in sorted(self._foreign):
            manifest = self._store.resource(key)
            if manifest is not None:
                yield key, manifest

    async def _look(self, claimant: str) -> ApiError | None:
        """Read a claimant's lease; the error if that cannot be done."""
        try:
            version = await self._read_lease(claimant)
        except ApiError as error:
            self._claimants.pop(claimant, None)
            return error
        now, before = self._clock(), self._claimants.get(claimant)
        since = now
        if before is not None and before.version == version and now - before.read <= GAP:
            since = before.since
        self._claimants[claimant] = found = _Claimant(version, since, now)
        if found.gone and not (before is not None and before.gone):
            log.warning("taking over from an installation that is gone", extra={"claimant": claimant})
        return None

    async def _say(self, manifest: Manifest, claimant: str, fault: ApiError | None) -> None:
        namespace = str(manifest["metadata"]["namespace"])
        if (namespace, claimant) in self._said:
            return
        self._said.add((namespace, claimant))
        message = f"the operator with the Lease {claimant} looks after the ModelDeployments of {namespace}; "
        message += f"the one with the Lease {self._own} leaves them alone"
        if fault is not None and fault.code in (401, 403):
            message += _HAND_OVER
        else:
            message += (
                f", and takes them over once that Lease was gone or not renewed for {GONE / 60:.0f} min"
            )
        log.warning(message)
        event = Event(normal=True, reason=Reason.CLAIMED_ELSEWHERE, message=message)
        await self._writer.record_events(manifest, [event], self._now())

    def _owner(self, namespace: str) -> str | None:
        if namespace not in self._owners:
            self._owners[namespace] = self._find_owner(namespace)
        return self._owners[namespace]

    def _find_owner(self, namespace: str) -> str | None:
        """Who claimed the oldest of a namespace's claimed ModelDeployments and is still there."""
        found: list[tuple[str, str, str]] = []
        for manifest in self._store.manifests_in(namespace):
            meta, claim = manifest["metadata"], claim_of(manifest)
            if claim is not None and not self._is_gone(claim):
                found.append((str(meta.get("creationTimestamp", "")), meta["name"], claim))
        return min(found)[2] if found else None

    def _is_gone(self, claimant: str | None) -> bool:
        found = self._claimants.get(claimant or "")
        return found is not None and found.gone


def claim_of(manifest: Manifest) -> str | None:
    """Who looks after a ModelDeployment, as its status says."""
    found = (manifest.get("status") or {}).get("operator")
    return str(found) if found else None
