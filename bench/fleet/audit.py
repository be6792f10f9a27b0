"""The API server's audit log: which requests the operator sent, and when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.fleet.processes import OPERATOR_USER

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
READS = frozenset({"get", "list"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the API server answered.

    Attributes:
        received: seconds since the epoch, by the API server's clock.
        done: likewise, when it had answered.
        agent: the client's user agent.
        is_operators: or else the bench's.
        verb: of Kubernetes.
        resource: plural, with the subresource where it is one of that.
        namespace: of the object; empty for none.
        name: likewise.
        code: of the answer.
    """

    received: float
    done: float
    agent: str
    is_operators: bool
    verb: str
    resource: str
    namespace: str
    name: str
    code: int


class AuditLog:
    """Reads on where it ended the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[Request]:
        """What was logged since the last call, in the order in which it was done."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = file.tell()
        # The last line may be half written.
        whole, _, self._rest = data.rpartition(b"\n")
        return sorted(map(_request, map(json.loads, whole.splitlines())), key=lambda one: one.done)


def writes(requests: Iterable[Request]) -> list[Request]:
    """What the operator wrote, its lease aside."""
    return [one for one in requests if one.is_operators and one.verb in WRITES and not _is_lease(one)]


def reads(requests: Iterable[Request]) -> list[Request]:
    """What the operator read, watches and its lease aside."""
    return [one for one in requests if one.is_operators and one.verb in READS and not _is_lease(one)]


def by_kind(requests: Iterable[Request]) -> Counter[str]:
    """How many of each verb and resource."""
    return Counter(f"{one.verb} {one.resource}" for one in requests)


def _is_lease(one: Request) -> bool:
    return one.resource == "leases"


def _request(entry: dict[str, Any]) -> Request:
    place = entry.get("objectRef") or {}
    resource = place.get("resource", entry.get("requestURI", ""))
    sub = place.get("subresource")
    return Request(
        received=_seconds(entry["requestReceivedTimestamp"]),
        done=_seconds(entry["stageTimestamp"]),
        agent=entry.get("userAgent", ""),
        is_operators=entry["user"].get("username") == OPERATOR_USER,
        verb=entry["verb"],
        resource=f"{resource}/{sub}" if sub else resource,
        namespace=place.get("namespace", ""),
        name=place.get("name", ""),
        code=(entry.get("responseStatus") or {}).get("code", 0),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
