"""Faults of the API server and of etcd, on the cluster whose processes are this machine's."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings

#: Asks etcd, which listens inside the node alone, for its newest revision, and has it forget all before.
COMPACT = """
import base64, json, urllib.request
def call(path, body):
    asked = urllib.request.Request("http://127.0.0.1:2379/v3/kv/" + path, json.dumps(body).encode())
    return json.load(urllib.request.urlopen(asked, timeout=60))
now = call("range", {"key": base64.b64encode(b"none").decode()})["header"]["revision"]
call("compaction", {"revision": now, "physical": True})
"""


@dataclass(frozen=True)
class ControlPlane:
    """The processes of the cluster."""

    settings: Settings

    def kill(self, component: str) -> None:
        """End a component of the first node as a power cut does; `repair` starts it again."""
        record = json.loads((self.settings.state / "pids" / f"{component}-0.json").read_text())
        os.kill(record["pid"], signal.SIGKILL)

    def repair(self) -> None:
        choose_provider(self.settings).up()

    def compact(self) -> None:
        """Have etcd forget every state but its present one."""
        words = ["python3", "-c", COMPACT]
        assert choose_provider(self.settings).run(words) == 0
