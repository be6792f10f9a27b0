"""``kubectl slipway key``: API keys of a model's callers, made here and kept as hashes in a Secret.

The Secret is read and written by the user's own rights; the operator never sees it.
"""

from __future__ import annotations

import re
import secrets
import sys
from argparse import Namespace
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.errors import ChangedError, CommandError, MissingError
from slipway.cli.output import write
from slipway.names import CALLER_NAME, KEY_HASH, MOST_KEY_HASHES

_TRIES = 5
#: Makes a key that leaked known to those who search for such.
_PREFIX = "slipway_"
#: Characters of a hash that ``list`` shows, after ``sha256:``.
_SHOWN = 12


def run(arguments: Namespace) -> int:
    """Make, revoke or list keys."""
    caller = arguments.caller
    if (caller is None) == (arguments.action != "list"):
        raise CommandError(
            "slipway key list takes no CALLER"
            if caller
            else f"for whom? slipway key {arguments.action} {arguments.name} CALLER"
        )
    if caller is not None and not re.fullmatch(CALLER_NAME, caller):
        raise CommandError(f"{caller!r} is no name of a caller: {_NAMES}")
    if arguments.action == "new" and arguments.offline:
        key = _new()
        print(key)
        print(f"{caller}: {hash_of(key)}", file=sys.stderr)
        return 0
    there = Cluster(arguments)
    secret = arguments.secret or _secret_of(there.get(arguments.name), arguments.name)
    if arguments.action == "new":
        return _make(there, secret, caller)
    if arguments.action == "revoke":
        return _revoke(there, secret, caller, arguments.hash, arguments.old)
    return _list(there, secret, arguments.output)


_NAMES = "letters, digits, '-', '_' and '.', up to 64 of them"


def hash_of(key: str) -> str:
    """What the Secret has of a key."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def _new() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def _secret_of(resource: Manifest, name: str) -> str:
    access = (resource.get("spec") or {}).get("access") or {}
    found = ((access.get("apiKeys") or {}).get("secretRef") or {}).get("name")
    if not found:
        raise CommandError(
            f"{name} has no spec.access.apiKeys, so that everybody may ask it: name a Secret there, or say "
            "--secret SECRET to make its keys first"
        )
    return str(found)


def _make(there: Cluster, secret: str, caller: str) -> int:
    key = _new()

    def added(hashes: list[str]) -> list[str]:
        if len(hashes) >= MOST_KEY_HASHES:
            raise CommandError(
                f"{caller} has {MOST_KEY_HASHES} keys, and more are not taken: slipway key revoke some first"
            )
        return [*hashes, hash_of(key)]

    number = len(_change(there, secret, caller, added))
    print(key)
    others = f", its key number {number}" if number > 1 else ""
    print(
        f"this is the key of {caller}{others}; it is shown once, and kept nowhere. Secret {secret} has its "
        "hash, which pods follow within a minute or two",
        file=sys.stderr,
    )
    return 0


def _revoke(there: Cluster, secret: str, caller: str, prefix: str | None, old: bool) -> int:
    before: list[str] = []

    def left(hashes: list[str]) -> list[str]:
        before[:] = hashes
        if old:
            return hashes[-1:]
        if prefix is None:
            return []
        wanted = prefix.removeprefix("sha256:")
        found = [one for one in hashes if one.removeprefix("sha256:").startswith(wanted)]
        if not wanted or len(found) != 1:
            raise CommandError(
                f"{len(found)} keys of {caller} have a hash that begins with {wanted!r}; "
                "slipway key list shows them"
            )
        return [one for one in hashes if one != found[0]]

    after = _change(there, secret, caller, left)
    count = len(before) - len(after)
    if not count:
        print(f"{caller} has {len(after)} key, the newest: nothing was revoked")
        return 0
    keys = "key" if count == 1 else "keys"
    rest = f"{len(after)} left" if after else "none is left"
    print(f"{count} {keys} of {caller} revoked, {rest}; pods follow within a minute or two")
    return 0


def _list(there: Cluster, secret: str, output: str | None) -> int:
    callers = {name: _text(value) for name, value in sorted((there.secret(secret).get("data") or {}).items())}
    rows = [(name, one) for name, text in callers.items() for one in _lines(text) or ["-"]]
    if output is not None:
        write(
            output,
            {
                "secret": secret,
                "keys": [
                    {
                        "caller": name,
                        "hash": one if _is_hash(one) else None,
                        "usable": _is_usable(name, callers),
                    }
                    for name, one in rows
                ],
            },
        )
        return 0
    width = max([len("CALLER"), *(len(name) for name in callers)])
    print(f"{'CALLER':{width}}  KEY")
    for name, one in rows:
        # What is no hash may be a key that somebody put there in the clear.
        shown = one.removeprefix("sha256:")[:_SHOWN] if _is_hash(one) else "not a hash"
        wrong = "" if _is_usable(name, callers) else "  admits nobody: this entry is not as it should be"
        print(f"{name:{width}}  {shown}{wrong}")
    return 0


def _is_usable(name: str, callers: dict[str, str]) -> bool:
    lines = _lines(callers[name])
    others = {one for other, text in callers.items() if other != name for one in _lines(text)}
    fits = 0 < len(lines) <= MOST_KEY_HASHES and all(map(_is_hash, lines))
    return fits and bool(re.fullmatch(CALLER_NAME, name)) and not others & set(lines)


def _is_hash(line: str) -> bool:
    return re.fullmatch(KEY_HASH, line) is not None


def _lines(text: str) -> list[str]:
    return text.split()


def _text(value: Any) -> str:
    return b64decode(str(value)).decode("utf-8", "replace")


def _change(there: Cluster, secret: str, caller: str, change: Callable[[list[str]], list[str]]) -> list[str]:
    """Change a caller's hashes, unless somebody else changes the Secret meanwhile; gives those after it."""
    for left in reversed(range(_TRIES)):
        try:
            live = there.secret(secret)
        except MissingError:
            live = None
        value = ((live or {}).get("data") or {}).get(caller)
        before = _lines(_text(value)) if value is not None else []
        if wrong := [one for one in before if not _is_hash(one)]:
            raise CommandError(
                f"key {caller} of Secret {secret} has {len(wrong)} lines that are no hash: "
                "take them out first"
            )
        after = change(before)
        if not before and not after:
            raise CommandError(f"{caller} has no key in Secret {secret}")
        text = b64encode("".join(f"{one}\n" for one in after).encode()).decode()
        try:
            if after != before:
                there.write_secret(secret, live, {caller: text if after else None})
            return after
        except ChangedError:
            if not left:
                raise
    raise AssertionError("the last try either returns or raises")
