"""A git server: `git http-backend` behind a web server. It runs in a pod, of an image with git and Python.

Any path below / that ends with `.git` is a repository, made by its first push.
"""

from __future__ import annotations

import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(os.environ.get("REPOSITORIES", "/repositories"))


class Git(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.hand_over(b"")

    def do_POST(self) -> None:
        self.hand_over(self.rfile.read(int(self.headers["Content-Length"])))

    def hand_over(self, body: bytes) -> None:
        """As CGI has it: the request in the environment, the answer's head before its body."""
        path, _, query = self.path.partition("?")
        folder = ROOT / path.lstrip("/").partition(".git/")[0]
        repository = folder.with_name(f"{folder.name}.git")
        if "service=git-receive-pack" in query and not repository.exists():
            subprocess.run(
                ["git", "init", "--quiet", "--bare", "--initial-branch=main", repository], check=True
            )
            subprocess.run(["git", "-C", repository, "config", "http.receivepack", "true"], check=True)
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(ROOT),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=True
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(lines.pop("Status", "200").split()[0]))
        for name, value in lines.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Git).serve_forever()
