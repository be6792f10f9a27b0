"""Verifies who signed a model's files: a signature of OpenSSF Model Signing by a key, next to the model.

The file is a Sigstore bundle. In it an in-toto statement lists each file with its SHA-256, and the resolver
has read and hashed the same files already. ``cryptography`` verifies the signature over the statement.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from slipway.models.faults import ModelError, listed
from slipway.models.trust import Trust
from slipway.names import ModelFault

#: Bytes of a bundle; one of a thousand files has about 150,000.
LARGEST_SIGNATURE = 4 * 1024 * 1024
#: So many keys are tried at most.
MOST_KEYS = 20

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
#: Of ECDSA, by the bits of the curve.
HASHES: Mapping[int, hashes.HashAlgorithm] = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class _InvalidError(Exception):
    """The bundle is not one that counts; the message names what is wrong."""


def verify(bundle: bytes, trust: Trust, sums: Mapping[str, str], where: str, is_whole: bool = False) -> str:
    """The key that signed exactly these files, as ``sha256:`` and 64 hexadecimal digits of its DER form.

    Args:
        bundle: the signature.
        trust: who may have made it.
        sums: SHA-256 (64 hexadecimal digits) of each file that is to be served, by path.
        where: what messages call the signature.
        is_whole: whether those are all files of the folder, so that none that was signed may be missing.

    Raises:
        ModelError: ``SIGNATURE_INVALID``, also where no key is usable.
    """
    trusted = _keys(trust)
    try:
        envelope = _object(json.loads(bundle), "dsseEnvelope")
        payload = _decoded(envelope.get("payload"))
        kind = envelope.get("payloadType")
        if kind != PAYLOAD:
            raise _InvalidError(f"it is of {str(kind)[:100]!r} and not {PAYLOAD!r}")
        signer = _signer(envelope, payload, trusted, trust.named)
        signed = _signed(json.loads(payload))
        _same(signed, sums)
        if is_whole and (gone := sorted(set(signed) - set(sums))):
            raise _InvalidError(f"it covers {listed(gone)}, which are gone: restore what was signed")
    except (ValueError, RecursionError):
        raise _invalid(where, "it is not a bundle of Sigstore, as model_signing writes it") from None
    except _InvalidError as error:
        raise _invalid(where, str(error)) from None
    return signer


def _keys(trust: Trust) -> list[PublicKey]:
    found: list[PublicKey] = []
    for block in _PEM.findall(trust.keys)[:MOST_KEYS]:
        try:
            key = serialization.load_pem_public_key(block.encode())
        except ValueError:
            continue
        if isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size in HASHES
        ):
            found.append(key)
    if not found:
        raise ModelError(
            ModelFault.SIGNATURE_INVALID,
            f"{trust.named} has no usable key: put public keys in "
            "PEM there, of the curves P-256, P-384 or P-521, or Ed25519",
        )
    return found


def _signer(envelope: Mapping[str, Any], payload: bytes, trusted: list[PublicKey], named: str) -> str:
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise _InvalidError("it has not exactly one signature")
    signature = _decoded(signatures[0].get("sig"))
    message = authenticated(payload)
    for key in trusted:
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(HASHES[key.curve.key_size]))
        except InvalidSignature:
            continue
        return fingerprint(key)
    raise _InvalidError(
        f"none of the keys of {named} made it: sign the model with one of "
        "them, or add the key that did, if its holder is to be trusted"
    )


def authenticated(payload: bytes) -> bytes:
    """What a signature is over: DSSE's encoding of a payload and its type."""
    name = PAYLOAD.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def fingerprint(key: PublicKey) -> str:
    """``sha256:`` and 64 hexadecimal digits of a key's DER form."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _signed(statement: Any) -> dict[str, str]:
    """SHA-256 of each file that a statement lists, by path."""
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise _InvalidError("it holds no statement of in-toto, version 1")
    if statement.get("predicateType") != PREDICATE:
        raise _InvalidError(f"its statement is not of {PREDICATE}")
    resources = _object(statement, "predicate").get("resources")
    if not isinstance(resources, list):
        raise _InvalidError("it lists no files")
    found: dict[str, str] = {}
    for one in resources:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise _InvalidError("it lists no files")
        if one.get("algorithm") != "sha256" or not isinstance(one.get("digest"), str):
            raise _InvalidError(f"its sum of {one['name'][:200]!r} is not a SHA-256: sign with sha256")
        if one["name"] in found:
            raise _InvalidError(f"it lists {one['name'][:200]!r} twice")
        found[one["name"]] = one["digest"].lower()
    return found


def _same(signed: Mapping[str, str], sums: Mapping[str, str]) -> None:
    missing = sorted(set(sums) - set(signed))
    if missing:
        raise _InvalidError(f"it does not cover {listed(missing)}: sign the whole folder again")
    others = sorted(path for path, found in sums.items() if signed[path] != found)
    if others:
        raise _InvalidError(
            f"it is for another {listed(others)}: somebody changed what was signed, or the signature is of "
            "another version; sign what is to be served, or restore what was signed"
        )


def _object(of: Any, name: str) -> Mapping[str, Any]:
    found = of.get(name) if isinstance(of, dict) else None
    if not isinstance(found, dict):
        raise _InvalidError(f"it has no {name}")
    return found


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _InvalidError("a part of it is missing")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _InvalidError("a part of it is not base64") from None


def _invalid(where: str, what: str) -> ModelError:
    return ModelError(ModelFault.SIGNATURE_INVALID, f"{where} does not count: {what}")
