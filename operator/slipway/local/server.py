"""Processes of the model server, and the ports that they answer one after the other."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slipway.contract import Failed, TerminationMessage
from slipway.local.errors import LocalError
from slipway.names import DISTRIBUTION, INHERITED_ENV, SERVING_CONFIG_ENV

#: Says something to the user.
Say = Callable[[str], None]
#: Seconds that a server has to answer what is under way, once it is told to end.
_GRACE_SECONDS = 15.0
_LOUD = frozenset({"warning", "error", "critical"})


def check_installed() -> None:
    """Raise :class:`LocalError` where the model server cannot run here."""
    if not hasattr(signal, "sigtimedwait"):
        raise LocalError(
            "the model server runs on Linux: use a container, or the Windows Subsystem for Linux"
        )
    for name in ("onnxruntime", "uvloop", "orjson"):
        if importlib.util.find_spec(name) is None:
            raise LocalError(f"{name} is not installed: pip install '{DISTRIBUTION}[serve]'")


@dataclass(frozen=True)
class Ports:
    """Listening sockets for REST, gRPC and metrics, which outlive each server that answers on them."""

    http: socket.socket
    grpc: socket.socket
    admin: socket.socket

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Of the ports."""
        http, grpc, admin = (one.getsockname()[1] for one in (self.http, self.grpc, self.admin))
        return http, grpc, admin

    def close(self) -> None:
        """Answer nobody any more."""
        for one in (self.http, self.grpc, self.admin):
            one.close()


def listen(host: str, ports: Mapping[str, int]) -> Ports:
    """Take the ports.

    Args:
        host: the address.
        ports: by the option that names each: of REST, gRPC and metrics; 0 is any that is free.

    Raises:
        LocalError: where one is taken.
    """
    found: list[socket.socket] = []
    try:
        for option, port in ports.items():
            found.append(listen_on(host, port, option))
    except LocalError:
        for one in found:
            one.close()
        raise
    return Ports(*found)


def listen_on(host: str, port: int, option: str) -> socket.socket:
    """Take one port; raises :class:`LocalError` where it is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # Its own words name the address a second time.
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        words = f"cannot listen on {host}:{port}: {reason}; choose another by {option}"
        raise LocalError(words) from error


class Server:
    """One server process; it answers on ports that are given once its model is ready."""

    def __init__(
        self,
        folder: Path,
        ports: Ports,
        environment: Mapping[str, str],
        say: Say,
    ) -> None:
        """
        Args:
            folder: of this server alone, with the model's files in ``model``.
            ports: to answer on.
            environment: the serving configuration and what the spec sets.
            say: for what the server warns of.
        """
        self.folder = folder
        self.is_ready = False
        self._say = say
        self._last_words = folder / "last-words"
        self._ready, told = os.pipe()
        sockets = [one.fileno() for one in (ports.http, ports.grpc, ports.admin)]
        passed = (*sockets, told)
        variables = {
            **os.environ,
            **environment,
            INHERITED_ENV: ",".join(map(str, passed)),
            "SLIPWAY_MODEL_DIR": str(folder / "model"),
            "SLIPWAY_TERMINATION_PATH": str(self._last_words),
        }
        try:
            self._process = subprocess.Popen(
                # -P: a file of the user's own folder must not stand in for a module.
                [sys.executable, "-P", "-m", "slipway_server.main"],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=passed,
                # The terminal's Ctrl-C is for the one that started it, which lets it answer first.
                start_new_session=True,
            )
        finally:
            os.close(told)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def has_ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Wait until it is ready or has ended, for so long at most."""
        if self.is_ready or self.has_ended:
            return
        readable, _, _ = select.select([self._ready], [], [], seconds)
        if readable:
            self.is_ready = os.read(self._ready, 1) == b"r"
            if not self.is_ready:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_SECONDS)

    def leave(self) -> None:
        """Ask clients to leave, then end."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """End once what is under way has been answered."""
        self._signal(signal.SIGINT)
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(1)
        with contextlib.suppress(OSError):
            os.close(self._ready)

    def kill(self) -> None:
        """End at once; whoever waits for an answer gets none."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """Why it ended."""
        try:
            outcome = TerminationMessage.model_validate_json(self._last_words.read_bytes()).outcome
        except (OSError, ValidationError):
            return f"the model server ended with code {self._process.poll()}"
        return outcome.failure.message if isinstance(outcome, Failed) else "the model server ended"

    def _signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            self._process.send_signal(number)

    def _read_log(self) -> None:
        """Say what it warns of, in words for people."""
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            text = raw.decode("utf-8", "replace").rstrip()
            try:
                line = json.loads(text)
                level, message = line["level"], line["message"]
            except (ValueError, KeyError, TypeError):
                self._say(f"server: {text}")
                continue
            if level in _LOUD and "reason" not in line:
                more = {k: v for k, v in line.items() if k not in ("time", "level", "logger", "message")}
                self._say(f"server: {message}" + (f" {json.dumps(more)}" if more else ""))


def environment_of(config: str, feedback_keys: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Of a server.

    Args:
        config: the serving configuration, as JSON.
        feedback_keys: a folder with the keys of feedback tokens.
        variables: of ``spec.runtime.env``.
    """
    return {
        **variables,
        SERVING_CONFIG_ENV: config,
        "SLIPWAY_FEEDBACK_KEYS_DIR": str(feedback_keys),
        "SLIPWAY_LOG_LEVEL": "info",
        "ORT_DISABLE_TELEMETRY": "1",
    }
