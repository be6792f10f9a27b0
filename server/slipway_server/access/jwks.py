"""Public keys of issuers, from the files of a mounted volume: a file an issuer, a JSON Web Key Set in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from jwt import PyJWK, PyJWTError

MOST_BYTES = 256 * 1024
MOST_KEYS = 64
_LONGEST_KID = 256
#: Shorter ones can be broken, and longer ones take long to compute with.
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: By type and curve; none of them signs with what also verifies.
_ALGORITHMS = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS = frozenset(name for names in _ALGORITHMS.values() for name in names)


@dataclass(frozen=True, slots=True)
class KeySet:
    """What was read: each key by its id and algorithm, and what is wrong with the others.

    ``issuer`` is whom the file itself names, if it does.
    """

    keys: dict[tuple[str | None, str], Any]
    faults: tuple[str, ...] = ()
    issuer: str = ""

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The key that a token names. One that names none means the only key there is for its algorithm."""
        if kid is not None:
            return self.keys.get((kid, algorithm))
        found = [key for (_, name), key in self.keys.items() if name == algorithm]
        return found[0] if len(found) == 1 else None


def read_key_set(path: Path) -> KeySet:
    """The keys in a file. A key that is not as it should be verifies nothing; the others stay good."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        return KeySet({}, (f"the keys of issuer {path.stem!r} cannot be read: {error.strerror}",))
    faults: list[str] = []
    issuer, given = "", None
    if len(content) > MOST_BYTES:
        faults.append(f"the keys of issuer {path.stem!r} have more than {MOST_BYTES} bytes")
    else:
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            document = None
        if isinstance(document, dict):
            given = document.get("keys")
            issuer = document.get("issuer", "")
        if not isinstance(given, list) or not isinstance(issuer, str):
            given = None
            faults.append(f"the keys of issuer {path.stem!r} are no JSON Web Key Set: an object with 'keys'")
        elif len(given) > MOST_KEYS:
            given = None
            faults.append(f"issuer {path.stem!r} has more than {MOST_KEYS} keys, so that none is used")
    return KeySet(_keys(path.stem, given or (), faults), tuple(faults), issuer)


def _keys(name: str, given: Iterable[Any], faults: list[str]) -> dict[tuple[str | None, str], Any]:
    found: dict[tuple[str | None, str], Any] = {}
    twice = set()
    for place, each in enumerate(given):
        try:
            kid, algorithms, key = _key(each)
        except (ValueError, PyJWTError) as error:
            why = error if isinstance(error, _WrongKeyError) else "it is no public key that is understood"
            faults.append(f"key {place} of issuer {name!r} verifies nothing: {why}")
            continue
        for algorithm in algorithms:
            if (kid, algorithm) in found:
                twice.add((kid, algorithm))
            found[kid, algorithm] = key
    # Which of them signed, nobody could say.
    for same in twice:
        del found[same]
        faults.append(f"issuer {name!r} has two keys with one id for {same[1]}, so that neither is used")
    return found


class _WrongKeyError(ValueError):
    """Why a key is not taken, in no word of it."""


def _key(given: Any) -> tuple[str | None, tuple[str, ...], Any]:
    if not isinstance(given, dict):
        raise _WrongKeyError("it is no object")
    if "d" in given or "k" in given:
        raise _WrongKeyError(
            "it is a secret key: give the public one, and make another pair, as this one is known"
        )
    kid = given.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_KID):
        raise _WrongKeyError(f"its kid is no string of up to {_LONGEST_KID} characters")
    kind = given.get("kty")
    curve = None if kind == "RSA" else given.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        raise _WrongKeyError("its kty or crv is no string")
    algorithms = _ALGORITHMS.get((kind, curve), ())
    named = given.get("alg")
    if named is not None:
        algorithms = tuple(name for name in algorithms if name == named)
    if not algorithms:
        raise _WrongKeyError(f"none of {', '.join(sorted(ALGORITHMS))} is for it")
    operations = given.get("key_ops")
    if given.get("use", "sig") != "sig" or (operations is not None and operations != ["verify"]):
        raise _WrongKeyError("it is not for signatures")
    try:
        key = PyJWK(given, algorithm=algorithms[0]).key
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError from error
    if kind == "RSA" and not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        raise _WrongKeyError(f"RSA keys have {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} bits")
    return kid, algorithms, key
