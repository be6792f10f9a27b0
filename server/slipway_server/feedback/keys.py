"""The keys of feedback tokens: files of a mounted Secret, of which the last by name is used for new tokens.

To rotate, add a key whose name sorts after the others, ``2026-12`` after ``2026-11``, and keep the old ones
for as long as their tokens are to be taken. Names are not part of tokens, so they may be anything.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: A key is made of all bytes of its file, of which there are so many at least.
LEAST_BYTES = 32
TAG_BYTES = 2
#: Kubelets bring a changed Secret within a minute or so; reading it more often has no use.
_REFRESH_SECONDS = 15.0


class FeedbackKeyError(Exception):
    """There is no usable key; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """``tag`` tells which key a token was made with."""

    tag: bytes
    cipher: AESGCM


class Keyring:
    """The keys in a directory, read again now and then."""

    def __init__(self, directory: Path) -> None:
        """Raises :class:`FeedbackKeyError`."""
        self._directory = directory
        self._read_at = 0.0
        self._keys: list[Key] = []
        self._refresh()

    @property
    def newest(self) -> Key:
        """The key for new tokens."""
        if time.monotonic() - self._read_at > _REFRESH_SECONDS:
            self._try_refresh()
        return self._keys[-1]

    def of(self, tag: bytes) -> list[Key]:
        """The keys that a token with this tag may have been made with."""
        if time.monotonic() - self._read_at > _REFRESH_SECONDS:
            self._try_refresh()
        return [key for key in self._keys if key.tag == tag]

    def _try_refresh(self) -> None:
        try:
            self._refresh()
        except FeedbackKeyError:
            # What was there a moment ago serves on: the Secret is being replaced, or somebody emptied it.
            self._read_at = time.monotonic()

    def _refresh(self) -> None:
        keys = []
        try:
            for path in sorted(self._directory.iterdir()):
                if path.name.startswith(".") or not path.is_file():
                    continue
                content = path.read_bytes().strip()
                if len(content) < LEAST_BYTES:
                    raise FeedbackKeyError(
                        f"the feedback key {path.name} has {len(content)} bytes: make one of {LEAST_BYTES} "
                        "random bytes or more, such as 'openssl rand -hex 32' prints"
                    )
                key = hashlib.sha256(b"slipway feedback key\0" + content).digest()
                tag = hashlib.sha256(b"slipway feedback tag\0" + key).digest()[:TAG_BYTES]
                keys.append(Key(tag, AESGCM(key)))
        except OSError as error:
            raise FeedbackKeyError(f"the feedback keys cannot be read: {error}") from error
        if not keys:
            raise FeedbackKeyError(
                "there is no feedback key: put one into the Secret, of what 'openssl rand -hex 32' prints"
            )
        self._keys = keys
        self._read_at = time.monotonic()
