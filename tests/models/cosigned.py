"""Signs manifests as cosign does: version 3 attaches a bundle, version 2 has a tag with a layer for each."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from slipway.contract import AUTHORITIES_ENV, PUBLIC_KEYS_ENV, TRUST_ROOT_ENV
from tests.models.authorities import Authority, Leaf, Sigstore, new_key, pem
from tests.models.registries import RegistryFront, oras_program
from tests.models.test_signature import PrivateKey
from tests.models.test_signature import bundle as enveloped
from tests.models.test_signature import pem as public_pem

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
TYPE = "cosign container image signature"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE, CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
ENTRY = "dev.sigstore.cosign/bundle"


def statement(digest: str, **more: Any) -> dict[str, Any]:
    """What version 3 signs."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.removeprefix("sha256:")}, "annotations": {}}],
        "predicateType": PREDICATE,
        "predicate": {},
        **more,
    }


def payload(digest: str, kind: str = TYPE) -> bytes:
    """What version 2 signs."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": "shop/fraud"}, "image": image, "type": kind}
    return json.dumps({"critical": critical, "optional": None}).encode()


class Signer(Protocol):
    """Somebody who signs."""

    def bundle(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """A statement with its signature."""

    def notes(self, message: bytes) -> dict[str, str]:
        """The annotations of version 2's layer."""

    def trusted(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        """The identities that a task accepts and the environment of a resolver that trusts them."""


@dataclass(frozen=True)
class ByKey:
    """The holder of a key; ``sum_``: what version 2 hashes by, SHA-256 if nothing else."""

    key: PrivateKey
    sum_: hashes.HashAlgorithm | None = None

    def bundle(self, said: Mapping[str, Any]) -> dict[str, Any]:
        material = {"publicKey": {"hint": "of a key"}, "tlogEntries": []}
        return {"mediaType": BUNDLE, "verificationMaterial": material, **enveloped(said, self.key)}

    def notes(self, message: bytes) -> dict[str, str]:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            made = self.key.sign(message)
        else:
            made = self.key.sign(message, ec.ECDSA(self.sum_ or hashes.SHA256()))
        return {SIGNATURE: base64.b64encode(made).decode()}

    def trusted(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        return [], {PUBLIC_KEYS_ENV: public_pem(self.key)}


@dataclass(frozen=True)
class ByCertificate:
    """Whoever has a certificate of an authority, with the one between in version 2's annotations."""

    root: Authority
    between: Authority
    leaf: Leaf
    identity: Mapping[str, str]

    def bundle(self, said: Mapping[str, Any]) -> dict[str, Any]:
        key = new_key()
        chain = [self.between.issue(self.leaf, key.public_key()), self.between.certificate]
        raw = [{"rawBytes": base64.b64encode(_der(each)).decode()} for each in chain]
        material = {"x509CertificateChain": {"certificates": raw}, "tlogEntries": []}
        return {"mediaType": BUNDLE, "verificationMaterial": material, **enveloped(said, key)}

    def notes(self, message: bytes) -> dict[str, str]:
        key = new_key()
        return {
            **ByKey(key).notes(message),
            CERTIFICATE: pem(self.between.issue(self.leaf, key.public_key())).decode(),
            CHAIN: pem(self.between.certificate, self.root.certificate).decode(),
        }

    def trusted(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        return [dict(self.identity)], {AUTHORITIES_ENV: pem(self.root.certificate).decode()}


@dataclass(frozen=True)
class Keyless:
    """Whom an issuer knows, by a Sigstore; ``log``: the Sigstore that records it, if it is another."""

    sigstore: Sigstore
    leaf: Leaf
    identity: Mapping[str, str]
    log: Sigstore | None = None
    at: datetime | None = None
    is_logged: bool = True

    def bundle(self, said: Mapping[str, Any]) -> dict[str, Any]:
        text = json.dumps(said).encode()
        return self.sigstore.bundle(text, self.leaf, at=self.at, is_logged=self.is_logged)

    def notes(self, message: bytes) -> dict[str, str]:
        key = new_key()
        certificate = self.sigstore.issue(self.leaf, key.public_key(), is_logged=self.is_logged)
        made = ByKey(key).notes(message)
        log = self.log or self.sigstore
        signature = base64.b64decode(made[SIGNATURE])
        entry = log.promised(message, signature, certificate, self.at or datetime.now(UTC))
        return {
            **made,
            CERTIFICATE: pem(certificate).decode(),
            CHAIN: pem(self.sigstore.fulcio.certificate).decode(),
            ENTRY: json.dumps(entry),
        }

    def trusted(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        return [dict(self.identity)], {TRUST_ROOT_ENV: self.sigstore.trusted_root()}


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Repository:
    """A repository of a real registry."""

    front: RegistryFront
    name: str
    scratch: Path

    def push(self, files: Mapping[str, bytes], tag: str = "v1") -> str:
        """An artifact with a layer for each file; gives its manifest's digest."""
        layers = [self.front.file(self.name, path, content) for path, content in files.items()]
        return self.front.push(self.name, tag, layers)

    def attach(self, digest: str, *words: str, kind: str = BUNDLE, cwd: Path | None = None) -> str:
        """Attach files, as ``oras attach`` takes them; gives the artifact's digest."""
        target = f"{self.front.behind}/{self.name}@{digest}"
        command = [
            oras_program(),
            "attach",
            "--plain-http",
            "--format",
            "json",
            "--artifact-type",
            kind,
            target,
        ]
        done = subprocess.run(
            [str(word) for word in [*command, *words]],
            cwd=cwd or self.scratch,
            capture_output=True,
            text=True,
            check=True,
        )
        return str(json.loads(done.stdout)["digest"])

    def add_bundle(self, digest: str, content: bytes, *, predicate: str = PREDICATE) -> str:
        """As version 3 attaches it; gives the artifact's digest."""
        (self.scratch / "bundle.json").write_bytes(content)
        notes = (
            "dev.sigstore.bundle.content=dsse-envelope",
            f"dev.sigstore.bundle.predicateType={predicate}",
        )
        words = [word for note in notes for word in ("--annotation", note)]
        return self.attach(digest, f"bundle.json:{BUNDLE}", *words)

    def add_layers(self, digest: str, *layers: tuple[bytes, Mapping[str, str]]) -> None:
        """As version 2 has all signatures of a manifest."""
        made = [
            {**self.front.blob(self.name, content), "mediaType": SIMPLE, "annotations": dict(notes)}
            for content, notes in layers
        ]
        self.front.push(self.name, f"{digest.replace(':', '-')}.sig", made)

    def sign(self, by: Signer, digest: str, *, version: int = 3, of: str | None = None) -> None:
        """Sign a manifest; ``of``: the digest that is signed, if it is another."""
        if version == 3:
            self.add_bundle(digest, json.dumps(by.bundle(statement(of or digest))).encode())
        else:
            message = payload(of or digest)
            self.add_layers(digest, (message, by.notes(message)))
