"""The router of this machine listens on ports that nobody can take from it before."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.local import router as local_router
from slipway.local.errors import LocalError
from slipway.local.router import Router, held
from tests.ports import free_ports


def test_whoever_takes_every_free_port_before_the_router_starts_gets_none_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[socket.socket] = []
    start = subprocess.Popen

    def late(command: list[str], **options: Any) -> Any:
        """Somebody else is quicker than Envoy."""
        first = json.loads(Path(command[2]).read_text())
        (own,) = first["static_resources"]["listeners"]
        for where in (own["address"], first["admin"]["address"]):
            try:
                taken.append(socket.create_server(("127.0.0.1", where["socket_address"]["port_value"])))
            except OSError:
                continue
        return start(command, **options)

    monkeypatch.setattr(local_router.subprocess, "Popen", late)
    stable, canary = (Arm(name, "127.0.0.1", *free_ports(2)) for name in ("stable", "canary"))
    with held() as port:
        router = Router(tmp_path, Route("fraud", port, stable, canary, 10), "127.0.0.1")
        try:
            state, deadline = None, time.monotonic() + 60
            while state is None or not state.does(router._route):
                assert time.monotonic() < deadline, (tmp_path / "envoy.log").read_text()
                state = router.read()
            assert taken == []
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        finally:
            router.kill()
            for one in taken:
                one.close()


def test_a_port_that_is_held_or_shared_is_another_ones() -> None:
    with held() as port:
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        with pytest.raises(LocalError, match=f":{port}: .*in use; choose another by --port"), held(port=port):
            pass
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_is_free_once_its_server_has_ended_though_its_connections_still_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            answering, _ = server.accept()
            # Whoever closes first has to remember the connection.
            answering.close()
            assert client.recv(1) == b""
    with held(port=port) as found:
        assert found == port
