"""Verifies who signed a model's files: a signature of OpenSSF Model Signing, next to the model.

The file is a Sigstore bundle. In it an in-toto statement lists each file with its SHA-256, and the resolver
has read and hashed the same files already. Who signed the statement is told by a key, by a certificate, or by
Sigstore's logs: whichever the spec trusts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from slipway.models.bundle import (
    PAYLOAD,
    PREDICATE,
    STATEMENT,
    InvalidError,
    PublicKey,
    authenticated,
    check,
    decoded,
    fingerprint,
    is_usable,
    object_of,
)
from slipway.models.faults import ModelError, listed
from slipway.models.trust import PROVENANCE_FILE, Trust
from slipway.names import ModelFault

#: Bytes of a bundle; one of a thousand files has about 150,000.
LARGEST_SIGNATURE = 4 * 1024 * 1024
#: So many keys are tried at most.
MOST_KEYS = 20

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def verify(bundle: bytes, trust: Trust, sums: Mapping[str, str], where: str, is_whole: bool = False) -> str:
    """Who signed exactly these files.

    A key is named by ``sha256:`` and 64 hexadecimal digits of its DER form, whoever has a certificate by what
    that says.

    Args:
        bundle: the signature.
        trust: who may have made it.
        sums: SHA-256 (64 hexadecimal digits) of each file that is to be served, by path.
        where: what messages call the signature.
        is_whole: whether those are all files of the folder, so that none that was signed may be missing.

    Raises:
        ModelError: ``SIGNATURE_INVALID``, also where nothing is given that a signature could be verified by.
    """
    try:
        signer, payload = stated(bundle, trust)
        signed = _signed(json.loads(payload))
        _same(signed, sums)
        if is_whole and (gone := sorted(set(signed) - {*sums, PROVENANCE_FILE})):
            raise InvalidError(f"it covers {listed(gone)}, which are gone: restore what was signed")
    except (ValueError, RecursionError):
        raise _invalid(where, "it is not a bundle of Sigstore, as model_signing writes it") from None
    except InvalidError as error:
        raise _invalid(where, str(error)) from None
    return signer


def stated(bundle: bytes, trust: Trust) -> tuple[str, bytes]:
    """Who signed a bundle's statement, and the statement.

    Raises:
        InvalidError: where it does not count; ``ValueError`` and ``RecursionError`` where it is no JSON.
        ModelError: where nothing is given that it could be verified by.
    """
    if trust.root is None:
        return _stated(json.loads(bundle), trust)
    # It brings libraries that nobody else needs.
    from slipway.models.keyless import statement_of

    return statement_of(bundle, trust)


def _stated(bundle: Any, trust: Trust) -> tuple[str, bytes]:
    """By a key or a certificate."""
    keys = _keys(trust) if trust.authorities is None else []
    envelope = object_of(bundle, "dsseEnvelope")
    payload = decoded(envelope.get("payload"))
    kind = envelope.get("payloadType")
    if kind != PAYLOAD:
        raise InvalidError(f"it is of {str(kind)[:100]!r} and not {PAYLOAD!r}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise InvalidError("it has not exactly one signature")
    signature = decoded(signatures[0].get("sig"))
    if trust.authorities is None:
        return _holder(keys, signature, authenticated(payload), trust.named), payload
    from slipway.models.certificates import signer_of

    key, name = signer_of(object_of(bundle, "verificationMaterial"), trust, datetime.now(UTC))
    try:
        check(key, signature, authenticated(payload))
    except InvalidSignature:
        raise InvalidError("it was not made by the key of its certificate: sign the model again") from None
    return name, payload


def _keys(trust: Trust) -> list[PublicKey]:
    found: list[PublicKey] = []
    for block in _PEM.findall(trust.keys)[:MOST_KEYS]:
        try:
            key = serialization.load_pem_public_key(block.encode())
        except ValueError:
            continue
        if is_usable(key):
            found.append(key)  # type: ignore[arg-type]
    if not found:
        raise ModelError(
            ModelFault.SIGNATURE_INVALID,
            f"{trust.named} has no usable key: put public keys in "
            "PEM there, of the curves P-256, P-384 or P-521, or Ed25519",
        )
    return found


def holder(trust: Trust, signature: bytes, message: bytes) -> str:
    """Whose key signed a message; raises :class:`InvalidError` where it is none of those that are trusted."""
    return _holder(_keys(trust), signature, message, trust.named)


def _holder(trusted: list[PublicKey], signature: bytes, message: bytes, named: str) -> str:
    for key in trusted:
        try:
            check(key, signature, message)
        except InvalidSignature:
            continue
        return fingerprint(key)
    raise InvalidError(
        f"none of the keys of {named} made it: sign with one of "
        "them, or add the key that did, if its holder is to be trusted"
    )


def _signed(statement: Any) -> dict[str, str]:
    """SHA-256 of each file that a statement lists, by path."""
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise InvalidError("it holds no statement of in-toto, version 1")
    if statement.get("predicateType") != PREDICATE:
        raise InvalidError(f"its statement is not of {PREDICATE}")
    resources = object_of(statement, "predicate").get("resources")
    if not isinstance(resources, list):
        raise InvalidError("it lists no files")
    found: dict[str, str] = {}
    for one in resources:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise InvalidError("it lists no files")
        if one.get("algorithm") != "sha256" or not isinstance(one.get("digest"), str):
            raise InvalidError(f"its sum of {one['name'][:200]!r} is not a SHA-256: sign with sha256")
        if one["name"] in found:
            raise InvalidError(f"it lists {one['name'][:200]!r} twice")
        found[one["name"]] = one["digest"].lower()
    return found


def _same(signed: Mapping[str, str], sums: Mapping[str, str]) -> None:
    missing = sorted(set(sums) - set(signed))
    if missing:
        raise InvalidError(f"it does not cover {listed(missing)}: sign the whole folder again")
    others = sorted(path for path, found in sums.items() if signed[path] != found)
    if others:
        raise InvalidError(
            f"it is for another {listed(others)}: somebody changed what was signed, or the signature is of "
            "another version; sign what is to be served, or restore what was signed"
        )


def _invalid(where: str, what: str) -> ModelError:
    return ModelError(ModelFault.SIGNATURE_INVALID, f"{where} does not count: {what}")
