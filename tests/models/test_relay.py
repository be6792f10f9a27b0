"""The line of these tests carries each client by itself."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import trustme

from tests.models.relay import relay
from tests.models.stores import certificate


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()


@contextmanager
def server(folder: Path, authority: trustme.CA) -> Iterator[str]:
    certificate(folder, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"https://localhost:{served.server_port}/"
        served.shutdown()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_client_that_makes_no_handshake_is_no_harm_to_the_next(
    tmp_path: Path, authority: trustme.CA, leaves: bool
) -> None:
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with server(tmp_path, authority) as url, relay(url, authority=authority) as line:
        silent = socket.create_connection(("127.0.0.1", urlsplit(line.url).port or 0))
        if leaves:
            silent.close()
        with urlopen(line.url, timeout=10, context=trusted) as answer:
            assert answer.status == 204
        silent.close()
