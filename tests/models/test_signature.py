"""A model that has to be signed is resolved only with a signature by a trusted key over model and profile."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from slipway.contract import PUBLIC_KEYS_ENV, Failed, Failure, ModelFault, Resolution, Resolved
from slipway.profiling import make_profile
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide

#: Written by model_signing 1.1.1: ``model_signing sign key . --private_key key.pem``.
SIGNED = Path(__file__).parent / "signed"
URI = "pvc://models/fraud/model.onnx"
OURS = ec.generate_private_key(ec.SECP256R1())
THEIRS = ec.generate_private_key(ec.SECP256R1())
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(*keys: PrivateKey) -> str:
    """Public keys as a ConfigMap has them."""
    parts = (
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key in keys
    )
    return b"".join(parts).decode()


def statement(folder: Path) -> dict[str, Any]:
    """What is signed: each file of a folder with its sum."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "model.sig")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {
                    "name": path.relative_to(folder).as_posix(),
                    "algorithm": "sha256",
                    "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in files
            ]
        },
    }


def bundle(said: Any, key: PrivateKey = OURS, kind: str = "application/vnd.in-toto+json") -> dict[str, Any]:
    payload = json.dumps(said).encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]
        signature = key.sign(message, ec.ECDSA(size))
    return {
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        }
    }


def sign(folder: Path, key: PrivateKey = OURS) -> None:
    (folder / "model.sig").write_text(json.dumps(bundle(statement(folder), key)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "fraud"
    save_wide(folder)
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)).rename(
        columns=str
    )
    (folder / "profile.json").write_bytes(make_profile(rows, folder / "model.onnx").text())
    sign(folder)
    return folder


@pytest.fixture
def folder(slipway_model: SlipwayModel, made: Path) -> Path:
    """A model with weights next to it and a profile, signed."""
    return Path(shutil.copytree(made, slipway_model.claim / "fraud"))


def asked(slipway_model: SlipwayModel, keys: str | None = None, **more: Any) -> Resolution | Failure:
    task = {"uri": URI, "isSigned": True, **more}
    outcome = slipway_model("resolve", task, **{PUBLIC_KEYS_ENV: pem(OURS) if keys is None else keys}).outcome
    if isinstance(outcome, Failed):
        return outcome.failure
    assert isinstance(outcome, Resolved)
    return outcome.resolution


def test_what_model_signing_signed_is_resolved_with_the_key_that_did(slipway_model: SlipwayModel) -> None:
    shutil.copytree(SIGNED, slipway_model.claim / "fraud")
    keys = (SIGNED / "key.pub").read_text()
    found = asked(slipway_model, keys)
    assert isinstance(found, Resolution), found
    der = serialization.load_pem_public_key(keys.encode()).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert found.signedBy == f"sha256:{hashlib.sha256(der).hexdigest()}"
    # What is not served may change.
    (slipway_model.claim / "fraud" / "README.md").write_text("changed")
    assert isinstance(asked(slipway_model, keys), Resolution)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "P-521", "Ed25519"],
)
def test_each_kind_of_key_signs(slipway_model: SlipwayModel, folder: Path, key: PrivateKey) -> None:
    sign(folder, key)
    # One of several: while a key is replaced both are there.
    assert isinstance(asked(slipway_model, pem(THEIRS) + pem(key)), Resolution)


def flipped(path: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / path).read_bytes())
        content[-1] ^= 1
        (folder / path).write_bytes(content)

    return flip


def changed(**parts: Any) -> Callable[[Path], None]:
    """The statement with other parts, signed by the right key."""

    def change(folder: Path) -> None:
        said = statement(folder)
        said.update(parts)
        (folder / "model.sig").write_text(json.dumps(bundle(said)))

    return change


def resources(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        said = statement(folder)
        change(said["predicate"]["resources"])
        (folder / "model.sig").write_text(json.dumps(bundle(said)))

    return do


def envelope(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        made = bundle(statement(folder))
        change(made["dsseEnvelope"])
        (folder / "model.sig").write_text(json.dumps(made))

    return do


def text(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.sig").write_bytes(content) and None


def other_version(folder: Path) -> None:
    """A model that was signed by nobody, with the signature of the version before."""
    (folder / "model.onnx").write_bytes(onnx_classifier().SerializeToString())
    (folder / "profile.json").unlink()


def other_profile(folder: Path) -> None:
    found = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps(found, indent=3))


def late_profile(folder: Path) -> None:
    """A profile that came after the signature."""
    said = statement(folder)
    said["predicate"]["resources"] = [
        one for one in said["predicate"]["resources"] if one["name"] != "profile.json"
    ]
    (folder / "model.sig").write_text(json.dumps(bundle(said)))


BAD: dict[str, tuple[Callable[[Path], object], ModelFault, str]] = {
    "no signature": (
        lambda folder: (folder / "model.sig").unlink(),
        ModelFault.SIGNATURE_MISSING,
        "there is no",
    ),
    "another key": (lambda folder: sign(folder, THEIRS), ModelFault.SIGNATURE_INVALID, "none of the keys"),
    "a flipped byte of the weights": (flipped("weights.bin"), ModelFault.SIGNATURE_INVALID, "weights.bin"),
    "another profile": (other_profile, ModelFault.SIGNATURE_INVALID, "it is for another profile.json"),
    "a profile that nobody signed": (
        late_profile,
        ModelFault.SIGNATURE_INVALID,
        "does not cover profile.json",
    ),
    "the signature of an older version": (
        other_version,
        ModelFault.SIGNATURE_INVALID,
        "it is for another model.onnx",
    ),
    "a file that is not covered": (
        resources(lambda found: found.pop()),
        ModelFault.SIGNATURE_INVALID,
        "does not cover weights.bin",
    ),
    "a file that is listed twice": (
        resources(lambda found: found.append(found[0])),
        ModelFault.SIGNATURE_INVALID,
        "twice",
    ),
    "another kind of sum": (
        resources(lambda found: found[0].update(algorithm="md5")),
        ModelFault.SIGNATURE_INVALID,
        "not a SHA-256",
    ),
    "no files": (changed(predicate={}), ModelFault.SIGNATURE_INVALID, "lists no files"),
    "another predicate": (
        changed(predicateType="https://slsa.dev/provenance/v1"),
        ModelFault.SIGNATURE_INVALID,
        "its statement is not of",
    ),
    "another statement": (changed(_type="other"), ModelFault.SIGNATURE_INVALID, "no statement of in-toto"),
    "a payload that was changed": (
        envelope(lambda found: found.update(payload=base64.b64encode(b"{}").decode())),
        ModelFault.SIGNATURE_INVALID,
        "none of the keys",
    ),
    "another type of payload": (
        envelope(lambda found: found.update(payloadType="text/plain")),
        ModelFault.SIGNATURE_INVALID,
        "'text/plain'",
    ),
    "no signature in it": (
        envelope(lambda found: found.update(signatures=[])),
        ModelFault.SIGNATURE_INVALID,
        "not exactly one",
    ),
    "a signature that is no base64": (
        envelope(lambda found: found.update(signatures=[{"sig": "%"}])),
        ModelFault.SIGNATURE_INVALID,
        "not base64",
    ),
    "an empty file": (text(b""), ModelFault.SIGNATURE_INVALID, "not a bundle"),
    "another format": (text(b"<html>"), ModelFault.SIGNATURE_INVALID, "not a bundle"),
    "deep brackets": (text(b"[" * 100_000), ModelFault.SIGNATURE_INVALID, "not a bundle"),
    "a list": (text(b"[]"), ModelFault.SIGNATURE_INVALID, "no dsseEnvelope"),
    "a file without end": (text(b" " * 5_000_000), ModelFault.SIGNATURE_INVALID, "not a bundle"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_signed_as_it_is_served_is_not_resolved(
    slipway_model: SlipwayModel, folder: Path, case: str
) -> None:
    assert isinstance(asked(slipway_model), Resolution)
    spoil, reason, words = BAD[case]
    spoil(folder)
    found = asked(slipway_model)
    assert isinstance(found, Failure)
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize("keys", ["", "none", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_without_a_usable_key_nothing_is_resolved(
    slipway_model: SlipwayModel, folder: Path, keys: str
) -> None:
    assert (folder / "model.sig").exists()
    found = asked(slipway_model, keys)
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID
    assert "no usable key" in found.message


def test_a_later_look_finds_what_was_signed_and_nothing_else(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    known = asked(slipway_model)
    assert isinstance(known, Resolution)
    again = asked(slipway_model, known=known.model_dump(mode="json"))
    assert again == known
    other_profile(folder)
    found = asked(slipway_model, known=known.model_dump(mode="json"))
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID


def test_what_was_resolved_before_signatures_were_asked_for_is_verified(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    known = slipway_model.resolved(URI)
    (folder / "model.sig").unlink()
    found = asked(slipway_model, known=known.model_dump(mode="json"))
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_MISSING
