"""The CRD as it is installed: with ``crds.enabled=false``, or GitOps, it may be older than the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from slipway.api.crd import crd
from slipway.core.crd_schema import declared, missing, schema_of
from slipway.engine.errors import ApiError

log = logging.getLogger(__name__)

#: Seconds between two looks at the CRD; from so few on while it lacks something: an API server tells of a CRD
#: that was just applied some seconds later, and what it lacks is missing from status until then.
ROUND, SOON = 300.0, 2.0


class InstalledCrd:
    """Knows which fields the API server takes; all of them until it was read.

    Attributes:
        missing: paths of fields that the operator knows and the CRD does not.
    """

    def __init__(self, read: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """``read`` gets the API server's OpenAPI document of the group; raises :class:`ApiError`."""
        self._read = read
        self._ours = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        self._status: Mapping[str, Any] = {}
        self.missing: tuple[str, ...] = ()

    def fit(self, status: dict[str, Any]) -> dict[str, Any]:
        """A status without what the CRD does not declare: one such field would have all of it refused."""
        found: dict[str, Any] = declared(self._status, status)
        return found

    async def look(self) -> None:
        """Read the CRD's schema, and say so where it lacks something."""
        try:
            schema = schema_of(await self._read())
        except ApiError as error:
            log.info("the CRD's schema cannot be read", extra={"error": str(error)})
            return
        if schema is None:
            return
        found = tuple(missing(self._ours, schema))
        if found and found != self.missing:
            log.warning(
                "the CRD is older than the operator: fields that it lacks cannot be used and are left out "
                "of status; apply the CRD of this version (crds.enabled, or kubectl apply --server-side)",
                extra={"missing": ", ".join(found[:20]), "count": len(found)},
            )
        if self.missing and not found:
            log.info("the CRD has all fields of the operator now")
        self._status = (schema.get("properties") or {}).get("status") or {}
        self.missing = found

    async def watch(self) -> None:
        """Look again every few minutes, sooner where something is missing, until cancelled."""
        delay = SOON
        while True:
            await asyncio.sleep(delay if self.missing else ROUND)
            before = self.missing
            await self.look()
            delay = min(ROUND, delay * 2) if self.missing == before else SOON
