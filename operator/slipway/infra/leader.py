"""One replica acts, by a Lease; the other is ready to. What a lease cannot do, the fence does (ADR 9)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client.api_client import ApiClient

from slipway.engine.errors import ApiError
from slipway.infra.fence import Fence, boot_time
from slipway.infra.kube import call

log = logging.getLogger(__name__)

LEASE_NAME = "slipway-operator"

Lease = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds; each has to leave room for the next.

    Attributes:
        retry: between two renewals, and between two tries to take the lease.
        call: until a lease call without an answer counts as failed.
        begin: after a renewal was sent, a write may begin.
        finish: after a renewal was sent, every write is over.
        lease: after a lease was last seen to change, somebody else may take it.
    """

    retry: float = 2.0
    call: float = 3.0
    begin: float = 10.0
    finish: float = 13.0
    lease: float = 15.0


TIMING = Timing()


class LeaseTakenError(Exception):
    """Another replica holds the lease that this one held."""


class Leases:
    """The API server's leases; every call raises :class:`slipway.engine.errors.ApiError`."""

    def __init__(self, client: ApiClient, seconds: float = TIMING.call) -> None:
        """``seconds``: until a call without an answer counts as failed."""
        self._client = client
        self._seconds = seconds

    async def get(self, namespace: str, name: str) -> Lease | None:
        """One lease, or None if there is none of that name."""
        try:
            return await self._call("GET", f"{_path(namespace)}/{name}")
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def create(self, lease: Lease) -> Lease:
        """The new lease; 409 where there is one already."""
        return await self._call("POST", _path(lease["metadata"]["namespace"]), lease)

    async def replace(self, lease: Lease) -> Lease:
        """The lease as it is now; 409 where it is no longer the one that was read."""
        meta = lease["metadata"]
        return await self._call("PUT", f"{_path(meta['namespace'])}/{meta['name']}", lease)

    async def _call(self, method: str, path: str, body: Lease | None = None) -> Lease:
        return await call(self._client, lambda *_: None, method, path, self._seconds, body)


def lease_reader(leases: Leases) -> Callable[[str], Awaitable[str | None]]:
    """Tells the version of the lease ``NAMESPACE/NAME``, None without one; raises ApiError."""

    async def read(place: str) -> str | None:
        namespace, _, name = place.partition("/")
        found = await leases.get(namespace, name)
        return None if found is None else _version(found)

    return read


class Candidate:
    """One replica's part in the election."""

    def __init__(
        self,
        leases: Leases,
        namespace: str,
        identity: str,
        fence: Fence,
        timing: Timing = TIMING,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        """``identity`` names this replica in the lease; ``clock`` is that of the fence."""
        self._leases = leases
        self._namespace = namespace
        self._identity = identity
        self._fence = fence
        self._timing = timing
        self._clock = clock
        #: As it was last read or written, and when it was first seen to be so.
        self._lease: Lease | None = None
        self._since = 0.0

    async def acquire(self) -> None:
        """Wait until this replica holds the lease."""
        while True:
            try:
                if await self._take():
                    return
            except ApiError as error:
                log.info("lease not taken", extra={"error": str(error)})
            await asyncio.sleep(self._timing.retry)

    async def keep(self) -> None:
        """Renew the lease for as long as nobody else holds it; the fence closes while that fails.

        Raises:
            LeaseTakenError: if somebody else held it meanwhile.
        """
        failing = False
        while True:
            await asyncio.sleep(self._timing.retry)
            try:
                await self._renew()
            except ApiError as error:
                if not failing:
                    log.warning("lease not renewed", extra={"error": str(error)})
                failing = True
            else:
                if failing:
                    log.warning("lease renewed again")
                failing = False

    async def release(self) -> None:
        """Write nothing more, and blank the holder if that is this replica: the next one need not wait."""
        self._fence.close()
        try:
            await self._blank()
        except ApiError as error:
            # It runs out by itself.
            log.info("lease not released", extra={"error": str(error)})

    async def _blank(self) -> None:
        # A write that was cancelled under way may have been taken, or be taken now: only the API server
        # knows the version. Whoever takes the lease after it was read keeps it.
        for left in (1, 0):
            found = await self._leases.get(self._namespace, LEASE_NAME)
            if found is None or _holder(found) != self._identity:
                return
            try:
                await self._leases.replace({**found, "spec": {**found["spec"], "holderIdentity": ""}})
            except ApiError as error:
                if error.code != 409 or not left:
                    raise
            else:
                return

    async def _take(self) -> bool:
        found = await self._leases.get(self._namespace, LEASE_NAME)
        if found is None:
            await self._write({"metadata": {"name": LEASE_NAME, "namespace": self._namespace}})
            return True
        if self._lease is None or _version(found) != _version(self._lease):
            self._since = self._clock()
        self._lease = found
        # The holder says how long its lease lasts; only the clock here says how long that is ago.
        lasts = float((found.get("spec") or {}).get("leaseDurationSeconds") or self._timing.lease)
        if _holder(found) not in ("", self._identity) and self._clock() - self._since < lasts:
            return False
        await self._write(found)
        return True

    async def _renew(self) -> None:
        assert self._lease is not None
        try:
            await self._write(self._lease)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            found = await self._leases.get(self._namespace, LEASE_NAME)
            if found is not None and _holder(found) != self._identity:
                raise LeaseTakenError(_holder(found) or "nobody") from error
            # Somebody deleted or labelled it, or the answer to a renewal was lost.
            await self._write(found or {"metadata": {"name": LEASE_NAME, "namespace": self._namespace}})

    async def _write(self, lease: Lease) -> None:
        """Take or renew a lease as it was read, or make one that has no version yet."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = lease.get("spec") or {}
        spec = {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease)),
            "renewTime": now,
        }
        if before.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(before.get("leaseTransitions") or 0) + 1}
        if not before:
            spec["leaseTransitions"] = 0
        wanted = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease, "spec": spec}
        sent = self._clock()
        known = lease["metadata"].get("resourceVersion")
        self._lease = await (self._leases.replace(wanted) if known else self._leases.create(wanted))
        self._fence.renew(sent)


async def lead(candidate: Candidate, fence: Fence, act: Callable[[], Awaitable[None]]) -> None:
    """Wait for the lease, then act. Never returns while it holds; another holder ends the process at once.

    A task cannot be trusted to stop in time, and what it remembers is no longer true.
    """
    await candidate.acquire()
    log.info("leading")
    tasks = [asyncio.ensure_future(act()), asyncio.ensure_future(candidate.keep())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        fence.close()
        error = next(iter(done)).exception()
        if isinstance(error, LeaseTakenError):
            log.error("another replica leads; exiting", extra={"holder": str(error)})
        else:
            log.error("leading failed; exiting", exc_info=error)
        os._exit(1)
    finally:
        for task in tasks:
            task.cancel()


def _path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def _holder(lease: Lease) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _version(lease: Lease) -> str:
    return str(lease["metadata"].get("resourceVersion", ""))
