"""Real servers on loopback for the tests of model sources: MLflow, and a web server that can misbehave."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import trustme

from tests.ports import free_port

#: MLflow needs a while to import itself, most of all when the machine is busy.
_START_SECONDS = 300


@dataclass(frozen=True)
class Mlflow:
    """A tracking server that is starting or runs, and the folder of its artifacts."""

    url: str
    artifacts: Path
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Return once it answers; raises ``AssertionError`` with the end of its log if it does not."""
        end = time.monotonic() + _START_SECONDS
        # One client for all tries: each of its own would read the system's certificates, 40 ms of CPU.
        with httpx.Client(timeout=2) as client:
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    if client.get(f"{self.url}/health").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise AssertionError(f"mlflow did not start:\n{self.log.read_text()[-3000:]}")


@contextmanager
def mlflow_server(
    folder: Path, arguments: list[str], environment: Mapping[str, str] | None = None
) -> Iterator[Mlflow]:
    """A tracking server with SQLite and proxied artifacts, in a process group of its own."""
    port = free_port()
    log = folder / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts", *arguments]
    variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}
    variables.update(environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield Mlflow(f"http://127.0.0.1:{port}", folder / "artifacts", process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class Reply:
    """What the web server says to a path. ``announced`` lies about the length of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    #: How often it answers 503 first.
    unwell: int = 0
    #: Seconds between two halves of the body.
    pause: float = 0.0
    #: Whether the connection breaks after half of the body.
    breaks: bool = False
    #: ``Authorization`` without which it answers 401.
    wants: str | None = None


@dataclass
class WebServer:
    """A web server and what it was asked: the path and the ``Authorization`` header of each request."""

    url: str
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def listening(port: int, handler: type[BaseHTTPRequestHandler], authority: trustme.CA) -> Iterator[None]:
    """Answer on a port, by TLS as ``localhost``; a handshake keeps nobody else waiting."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that break off are part of the tests."""

    listener = Server(("127.0.0.1", port), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """A web server on loopback, called ``localhost``; over TLS where a context is given."""
    server = WebServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            server.asked.append((self.path, authorization))
            reply = server.replies.get(self.path.partition("?")[0], Reply(status=404))
            if reply.unwell:
                reply.unwell -= 1
                reply = Reply(b"starting", 503)
            elif reply.wants is not None and authorization != reply.wants:
                reply = Reply(b"who are you?", 401)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(reply.announced or len(reply.body)))
            self.end_headers()
            half = len(reply.body) // 2
            self.wfile.write(reply.body[:half])
            self.wfile.flush()
            time.sleep(reply.pause)
            if reply.breaks:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
                return
            self.wfile.write(reply.body[half:])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that break off are part of the tests."""

    listener = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    server.url = f"{'https' if tls else 'http'}://localhost:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
