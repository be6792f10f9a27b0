"""One model, served and followed: what changes is loaded next to what serves, and takes its ports over."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.core.resolution import moves
from slipway.local.bringing import Brought, bring
from slipway.local.errors import LocalError
from slipway.local.files import Mark, mark, watched
from slipway.local.server import Ports, Say, Server, environment_of
from slipway.local.stand_ins import StandIns
from slipway.local.wanted import Wanted

#: Seconds between two looks at files.
LOOK_SECONDS = 0.5
#: Seconds between two looks at a name that moves, unless ``spec.model.refreshSeconds`` says otherwise.
_REFRESH_SECONDS = 15.0


@dataclass(frozen=True)
class Reader:
    """Reads what is wanted, again once one of its files has changed."""

    read: Callable[[], Wanted]
    files: tuple[Path, ...] = ()


class Serving:
    """Servers of one model, one after the other, on the same ports."""

    def __init__(
        self,
        reader: Reader,
        ports: Ports,
        folder: Path,
        stand_ins: StandIns,
        say: Say,
    ) -> None:
        """
        Args:
            reader: of what is wanted.
            ports: to answer on.
            folder: an empty one, for models and keys.
            stand_ins: for volumes and ConfigMaps of a cluster.
            say: to the user.
        """
        self._reader, self._stand_ins, self._say = reader, stand_ins, say
        self._ports, self._folder, self._number = ports, folder, 0
        self._keys = folder / "feedback-keys"
        self._keys.mkdir()
        (self._keys / "this-run").write_text(secrets.token_hex(32))
        self._seen: Mark = ()
        self._settling: Mark | None = None
        self._refresh_at = 0.0
        self.wanted = reader.read()
        self.brought: Brought | None = None
        self.server: Server | None = None
        self._coming: tuple[Server, Brought] | None = None
        self._leaving: list[Server] = []

    @property
    def called(self) -> str:
        """What is served, in words."""
        version = self.serves.revision.model.version
        return f"{self.wanted.name}, version {version} of {self.wanted.called}"

    @property
    def serves(self) -> Brought:
        """What is served; there is something from the end of :meth:`start` on."""
        assert self.brought is not None
        return self.brought

    @property
    def is_settled(self) -> bool:
        """Whether one server answers, and none before it any more."""
        return self._coming is None and not self._leaving

    def start(self) -> None:
        """Serve.

        Raises:
            LocalError: where the model cannot be had or served.
        """
        self._seen = self._mark()
        self._begin(self._bring(None))
        assert self._coming is not None
        server, _ = self._coming
        while not (server.is_ready or server.has_ended):
            server.wait(1.0)
        if server.has_ended:
            raise LocalError(f"{self.wanted.called}: {server.last_words()}")
        self._take_over()

    def step(self) -> bool:
        """Look for changes and go on with what is under way; whether another model serves from now on.

        Raises:
            LocalError: where the server has ended by itself.
        """
        self._clear_away()
        if self.server is not None and self.server.has_ended:
            raise LocalError(f"{self.wanted.called}: {self.server.last_words()}")
        if self._coming is not None:
            server, _ = self._coming
            server.wait(0.0)
            if server.is_ready:
                self._take_over()
                return True
            if server.has_ended:
                self._say(f"not served: {server.last_words()}; the model before goes on")
                self._discard(server)
                self._coming = None
        self._follow()
        return False

    def stop(self) -> None:
        """End every server once it has answered what is under way."""
        coming = [self._coming[0]] if self._coming is not None else []
        for server in (self.server, *coming, *self._leaving):
            if server is not None:
                server.stop()

    def kill(self) -> None:
        """End every server at once."""
        coming = [self._coming[0]] if self._coming is not None else []
        for server in (self.server, *coming, *self._leaving):
            if server is not None:
                server.kill()

    def _mark(self) -> Mark:
        files = list(self._reader.files)
        if self.wanted.path is not None:
            files += watched(self.wanted.path, None if self.brought is None else self.brought.folder)
        return mark(files)

    def _follow(self) -> None:
        now = self._mark()
        changed = now != self._seen
        if changed and now != self._settling:
            self._settling = now  # somebody may still be writing
            return
        moved = self.wanted.path is None and moves(self.wanted.spec.model)
        due = moved and time.monotonic() >= self._refresh_at
        if not (changed or due):
            return
        self._seen, self._settling = now, None
        try:
            if changed:
                self.wanted = self._reader.read()
            brought = self._bring(self.serves if due and not changed else None)
        except LocalError as error:
            self._say(f"not served: {error}; the model before goes on")
            return
        if brought is not None:
            self._begin(brought)

    def _bring(self, before: Brought | None) -> Brought | None:
        """What is to be served now, or None where that is what serves."""
        self._refresh_at = time.monotonic() + (self.wanted.spec.model.refreshSeconds or _REFRESH_SECONDS)
        self._number += 1
        folder = self._folder / str(self._number)
        brought = bring(
            self.wanted, folder / "model", self._stand_ins, before.resolution if before is not None else None
        )
        expected = self.brought if self._coming is None else self._coming[1]
        if brought is None or (expected is not None and brought.serves_as(expected)):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return brought

    def _begin(self, brought: Brought | None) -> None:
        assert brought is not None
        if self._coming is not None:  # overtaken before it was ready
            self._discard(self._coming[0])
        variables = {one.name: one.value or "" for one in brought.revision.runtime.env}
        environment = environment_of(brought.config, self._keys, variables)
        server = Server(brought.folder.parent, self._ports, environment, self._say)
        self._coming = (server, brought)

    def _take_over(self) -> None:
        assert self._coming is not None
        before = self.server
        (self.server, self.brought), self._coming = self._coming, None
        # Weights next to the model are known by now.
        self._seen = self._mark() if before is None else self._seen
        if before is not None:
            before.leave()
            self._leaving.append(before)

    def _clear_away(self) -> None:
        for server in [one for one in self._leaving if one.has_ended]:
            self._leaving.remove(server)
            self._discard(server)

    def _discard(self, server: Server) -> None:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
