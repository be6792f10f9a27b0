"""One replica acts, by a Lease; the other is ready to."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import aiohttp
from kubernetes.aio.client import CoordinationV1Api, V1Lease, V1ObjectMeta
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LEASE_NAME = "slipway-operator"
#: Seconds: a silent leader is replaced after the first; a leader that cannot renew gives up after the second.
LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2


_Found = tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


class _Lock(LeaseLock):
    """The client's lock, less two of its faults.

    An API server that does not answer is one more try, not the end of the election; and in version 37
    ``create`` passes an argument that the client itself refuses.
    """

    async def get(self, name: str, namespace: str) -> _Found:
        """The record, or the error that was met."""
        try:
            return await super().get(name, namespace)
        except _NO_ANSWER as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Whether the lease could be created."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, *_NO_ANSWER) as error:
            log.info("lease not created", extra={"error": str(error)})
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Whether the lease could be taken or renewed."""
        try:
            return bool(await super().update(name, namespace, updated_record))
        except _NO_ANSWER as error:
            log.info("lease not updated", extra={"error": str(error)})
            return False


async def lead(client: ApiClient, namespace: str, identity: str, act: Callable[[], Awaitable[None]]) -> None:
    """Wait for the lease, then act. Never returns while it holds; losing it ends the process at once.

    Two replicas that both act would undo each other's work, and a task cannot be trusted to stop in time.
    """

    acting: list[asyncio.Task[None]] = []

    async def started() -> None:
        log.info("leading", extra={"identity": identity})
        acting.append(asyncio.ensure_future(act()))
        try:
            await acting[0]
        except Exception:
            log.exception("leading failed; exiting")
            os._exit(1)

    async def stopped() -> None:
        log.error("lost the lease; exiting")
        os._exit(1)

    lock = _Lock(LEASE_NAME, namespace, identity, client)
    config = Config(lock, LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS, started, stopped)
    try:
        await LeaderElection(config).run()
    finally:
        for task in acting:
            task.cancel()


async def release(client: ApiClient, namespace: str, identity: str) -> None:
    """Blank the holder of the lease if that is this replica, so that the next one need not wait."""
    api = CoordinationV1Api(client)
    try:
        lease = await api.read_namespaced_lease(LEASE_NAME, namespace)
        if lease.spec is None or lease.spec.holder_identity != identity:
            return
        # The version that was read goes along: whoever took the lease meanwhile keeps it.
        lease.spec.holder_identity = ""
        await api.replace_namespaced_lease(LEASE_NAME, namespace, lease)
    except (ApiException, *_NO_ANSWER) as error:
        # It runs out by itself.
        log.info("lease not released", extra={"error": str(error)})
