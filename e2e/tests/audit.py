"""The API server's audit log: which of the operators wrote what, and who led meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from e2e.cluster.node.layout import Layout
from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings
from e2e.tests.figures import LEASE
from e2e.tests.installation import SYSTEM_NAMESPACE

POD = "authentication.kubernetes.io/pod-name"


@dataclass(frozen=True)
class Write:
    """A write that the API server received from an operator."""

    pod: str
    received: datetime
    done: datetime
    what: str
    holder: str | None
    """Whom it made the leader, where it wrote the lease."""


def check_one_leader(settings: Settings, since: datetime, namespace: str) -> None:
    """AssertionError where an operator wrote to a namespace after another one had become the leader.

    The API server of kind keeps no such log: nothing is known there.
    """
    if choose_provider(settings).kind != "node":
        return
    writes = read(Layout(settings).audit, since, namespace)
    assert any(write.holder is None for write in writes), "the audit log has no write"
    assert by_two_leaders(writes) == []


def check_silent(settings: Settings, pod: str, since: datetime, namespace: str) -> None:
    """AssertionError where an operator's pod has sent a write to a namespace since then, even one refused."""
    if choose_provider(settings).kind != "node":
        return
    writes = read(Layout(settings).audit, since, namespace, refused=True)
    late = [write for write in writes if write.pod == pod and write.holder is None and write.received > since]
    assert late == []


def read(log: Path, since: datetime, namespace: str, *, refused: bool = False) -> list[Write]:
    """Writes to a namespace, and to the leader's lease, in the order in which they were done.

    Those that the API server refused are among them only where asked for.
    """
    # What was rotated away meanwhile stands in files next to it.
    files = sorted(log.parent.glob(f"{log.stem}*{log.suffix}"))
    found = (_write(entry, namespace, refused) for file in files for entry in _entries(file))
    return sorted((one for one in found if one and one.done >= since), key=lambda one: one.done)


def by_two_leaders(writes: Iterable[Write]) -> list[Write]:
    """Writes that reached the API server after another operator had become the leader."""
    leader, since, wrong = "", None, []
    for write in writes:
        if write.holder is not None:
            if write.holder != leader:
                leader, since = write.holder, write.done
        elif since is not None and leader and write.pod != leader and write.received > since:
            wrong.append(write)
    return wrong


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                # The last line may be half written.
                continue


def _write(entry: dict[str, Any], namespace: str, refused: bool) -> Write | None:
    place = entry.get("objectRef", {})
    is_lease = (place.get("resource"), place.get("name"), place.get("namespace")) == (
        "leases",
        LEASE,
        SYSTEM_NAMESPACE,
    )
    accepted = entry.get("responseStatus", {}).get("code", 500) < 300
    if not (accepted or refused) or not (is_lease or place.get("namespace") == namespace):
        return None
    spec = entry.get("requestObject", {}).get("spec", {}) if is_lease else {}
    return Write(
        pod=entry["user"].get("extra", {}).get(POD, [""])[0],
        received=_time(entry["requestReceivedTimestamp"]),
        done=_time(entry["stageTimestamp"]),
        what=f"{entry['verb']} {entry['requestURI']}",
        holder=spec.get("holderIdentity") or "" if is_lease else None,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
