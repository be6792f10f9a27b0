"""A web server that misbehaves when told to. It runs in a pod, on nothing but what the server image holds.

Clients come by TLS at 8443 and without at 5000. What they find is PUT to 8000, which only a port-forward
reaches; the header `Announced` of a PUT is the length that answers will claim. Below /private/ and /api/ a
password is asked for, and /api/ leads to the server named by UPSTREAM.
"""

from __future__ import annotations

import base64
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

#: Passwords by name. The reader may enter; the intern is known, and may not.
READER, INTERN = ("reader", "may-read"), ("intern", "may-not-read")

files: dict[str, tuple[bytes, int]] = {}
upstream = httpx.Client(base_url=os.environ.get("UPSTREAM", ""), timeout=60)


class Clients(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        guarded = self.path.startswith(("/private/", "/api/"))
        allowed = self.status_for(self.headers.get("Authorization")) if guarded else 200
        if allowed != 200:
            self.answer(allowed, b"not for you")
        elif self.path.startswith("/api/"):
            found = upstream.get(self.path)
            self.answer(found.status_code, found.content)
        elif self.path in files:
            self.answer(200, *files[self.path])
        else:
            self.answer(404, b"no such file")

    def status_for(self, authorization: str | None) -> int:
        if authorization == basic(*READER):
            return 200
        return 403 if authorization == basic(*INTERN) else 401

    def answer(self, status: int, body: bytes, announced: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


class Control(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        files[self.path] = (body, int(self.headers.get("Announced", len(body))))
        self.send_response(204)
        self.end_headers()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def main() -> None:
    encrypted = ThreadingHTTPServer(("", 8443), Clients)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    encrypted.socket = context.wrap_socket(encrypted.socket, server_side=True, do_handshake_on_connect=False)
    plain, control = ThreadingHTTPServer(("", 5000), Clients), ThreadingHTTPServer(("", 8000), Control)
    for server in (encrypted, plain):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    control.serve_forever()


if __name__ == "__main__":
    main()
