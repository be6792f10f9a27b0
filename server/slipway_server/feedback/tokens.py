"""Feedback tokens: what was predicted for one row, sealed, so that any replica can score its label later.

A token is base64url of a format byte, the key's tag (2 bytes), a random nonce (12) and AES-256-GCM (NIST
SP 800-38D) of the time and what was predicted, bound to the model's name. A nonce is drawn anew for each
token, so a key is good for 2^32 of them (SP 800-38D, 8.3): 50 days at 1,000 rows a second.
"""

from __future__ import annotations

import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from slipway_server.feedback.keys import TAG_BYTES, Keyring

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_HEAD_BYTES = 1 + TAG_BYTES + _NONCE_BYTES
_TIME = struct.Struct(">I")
_BETWEEN = "\x1f"
#: A cohort is written as a group of this attribute, which no spec can name: servers of before read it, too.
_ASKED = ""
#: Longer texts are no tokens of ours.
_LONGEST = 1024


class TokenError(ValueError):
    """Not a token of this model."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a token holds.

    Attributes:
        identity: another one for each token, never 0.
        at: when it was made, in whole seconds since the epoch.
        version: of the model that answered.
        outcome: the class, or the number that was predicted.
        is_class: which of the two it is.
        groups: of the row, by sensitive attribute.
        asked: cohort of callers that asked; None where callers are not told apart.
    """

    identity: int
    at: int
    version: str
    outcome: str
    is_class: bool
    groups: tuple[tuple[str, str], ...] = ()
    asked: int | None = None


class Tokens:
    """Makes and reads the tokens of one model, of all of its versions."""

    def __init__(self, keys: Keyring, model: str) -> None:
        self._keys = keys
        self._model = model.encode()

    def make(self, stamp: bytes, content: Sequence[bytes]) -> list[bytes]:
        """A token for each row; ``stamp`` and ``content`` are of :func:`stamp` and :func:`content`."""
        key = self._keys.newest
        head, seal, model = _FORMAT + key.tag, key.cipher.encrypt, self._model
        random = os.urandom(_NONCE_BYTES * len(content))
        found = []
        for row, part in enumerate(content):
            nonce = random[row * _NONCE_BYTES : (row + 1) * _NONCE_BYTES]
            token = urlsafe_b64encode(head + nonce + seal(nonce, stamp + part, model))
            found.append(token.rstrip(b"="))
        return found

    def read(self, token: str) -> Said:
        """What a token holds. Raises :class:`TokenError` for anything that was not made by :meth:`make`."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= _LONGEST else b""
        except ValueError:
            raw = b""
        if len(raw) <= _HEAD_BYTES or raw[:1] != _FORMAT:
            raise TokenError("it is not a feedback token")
        nonce = raw[1 + TAG_BYTES : _HEAD_BYTES]
        for key in self._keys.of(raw[1 : 1 + TAG_BYTES]):
            try:
                plain = key.cipher.decrypt(nonce, raw[_HEAD_BYTES:], self._model)
            except InvalidTag:
                continue
            return _said(int.from_bytes(nonce[:8], "big") | 1, plain)
        raise TokenError("it was not made for this model, or its key is no longer there")


def stamp(now: float) -> bytes:
    """The time, in seconds since the epoch, as tokens hold it."""
    return _TIME.pack(int(now))


def asked_by(cohort: int) -> tuple[str, str]:
    """Who asked, as one more pair of :func:`content`."""
    return _ASKED, str(cohort)


def content(version: str, outcome: str, is_class: bool, groups: Sequence[tuple[str, str]] = ()) -> bytes:
    """What was predicted, as tokens hold it."""
    parts = [version, "c" if is_class else "n", outcome, *(part for pair in groups for part in pair)]
    return _BETWEEN.join(part.replace(_BETWEEN, "?") for part in parts).encode("utf-8", "replace")


def _said(identity: int, plain: bytes) -> Said:
    (at,) = _TIME.unpack_from(plain)
    version, kind, outcome, *groups = plain[_TIME.size :].decode().split(_BETWEEN)
    pairs = tuple(zip(groups[::2], groups[1::2], strict=True))
    asked = next((int(group) for attribute, group in pairs if attribute == _ASKED), None)
    named = tuple(pair for pair in pairs if pair[0] != _ASKED)
    return Said(identity, at, version, outcome, kind == "c", named, asked)
