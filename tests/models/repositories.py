"""Git's own server over TLS, and repositories that DVC and GTO made, with a web server as their remote."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import trustme

from tests.environments import python_with
from tests.models.servers import listening
from tests.ports import free_port

HERE = Path(__file__).parent / "dvc"
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_NAME": "Slipway's tests" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "tests@slipway.dev" for who in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *words: str, text: str | None = None) -> str:
    """What Git prints."""
    done = subprocess.run(
        ["git", "-C", folder, *words],
        env={**os.environ, **GIT},
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@dataclass
class GitServer:
    """Repositories below a folder, and who may read them: ``user:password``, or everybody.

    ``old``: it speaks as servers did before protocol version 2. ``asked``: the path of each request.
    """

    host: str
    folder: Path
    authority: str
    password: str = ""
    old: bool = False
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def keys(self, **more: str) -> dict[str, str]:
        """The environment that a Secret becomes."""
        return {
            f"SLIPWAY_CREDENTIAL_{name}": value for name, value in {"CA_CERT": self.authority, **more}.items()
        }

    def bare(self, name: str, work: Path | None = None) -> Path:
        """A repository to serve, a copy of another one where there is one."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        if work is None:
            target.mkdir(parents=True)
            git(target, "init", "--quiet", "--bare", "--initial-branch=main")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            git(self.folder, "clone", "--quiet", "--bare", str(work), str(target))
        # Large hosts let clients leave files out; a server of one's own does not unless it is told to.
        git(target, "config", "uploadpack.allowFilter", "true")
        return target


@contextmanager
def git_server(folder: Path, authority: trustme.CA) -> Iterator[GitServer]:
    """``git http-backend`` behind a server for TLS and passwords."""
    port = free_port()
    server = GitServer(f"localhost:{port}", folder, authority.cert_pem.bytes().decode())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            server.asked.append(path)
            wanted = "Basic " + base64.b64encode(server.password.encode()).decode()
            for old, new in server.redirects.items():
                if path.startswith(old):
                    self._reply(301, {"Location": new + self.path.removeprefix(old)}, b"")
                    return
            if server.password and self.headers.get("Authorization") != wanted:
                self._reply(401, {"WWW-Authenticate": "Basic"}, b"")
                return
            environment = {
                **os.environ,
                **GIT,
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "127.0.0.1",
                "GIT_PROTOCOL": "" if server.old else self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(
                ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self._reply(int(headers.pop("Status", "200").split()[0]), headers, content)

        def _reply(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with listening(port, Handler, authority):
        yield server


@dataclass(frozen=True)
class Dvc:
    """DVC itself, in an environment of its own: its packages do not go together with ours."""

    python: Path

    def __call__(self, command: str, folder: Path, *words: str) -> None:
        """Run one command of ``dvc/make.py``."""
        done = subprocess.run(
            [self.python, HERE / "make.py", command, folder, *words],
            env={
                **os.environ,
                **GIT,
                "DVC_NO_ANALYTICS": "1",
                "DVC_SITE_CACHE_DIR": f"{folder}/site",
                "HOME": str(folder),
                "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]


def dvc() -> Dvc:
    """It, installed by the first call."""
    return Dvc(python_with(HERE / "requirements.txt", "dvc"))
