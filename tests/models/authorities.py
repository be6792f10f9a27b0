"""Authorities of the tests: one that issues certificates, and a Sigstore of our own with its logs' keys."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
ISSUER = "https://token.actions.example.com"
WORKFLOW = "https://github.com/acme/fraud/.github/workflows/release.yml@refs/heads/main"
_ISSUER_V1 = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SCTS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
EMAIL, URI, DNS = x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*kinds)


def usage(*, sign: bool = False, issue: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign and not issue,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issue,
        crl_sign=issue,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Leaf:
    """What a certificate for a signer says; ``signs``: None where it does not say what its key is for."""

    names: Sequence[x509.GeneralName] = (EMAIL("release@example.com"),)
    begins: timedelta = -DAY
    ends: timedelta = DAY
    signs: bool | None = True
    purposes: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,)
    issuer: str | None = None
    more: Sequence[x509.UnrecognizedExtension] = ()


@dataclass
class Authority:
    """Issues certificates; ``above`` is the authority that vouches for it, none for a root."""

    name: str
    above: Authority | None = None
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        above = self.above
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(above.subject if above else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * DAY)
            .not_valid_after(now + 400 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(issue=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        signer = above.key if above else self.key
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        self.certificate = builder.sign(signer, hashes.SHA256())

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    def builder(self, leaf: Leaf, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + leaf.begins)
            .not_valid_after(now + leaf.ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if leaf.signs is not None:
            builder = builder.add_extension(usage(sign=leaf.signs), critical=True)
        if leaf.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(leaf.names), critical=True)
        for extension in leaf.more:
            builder = builder.add_extension(extension, critical=False)
        if leaf.purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.purposes), critical=False)
        if leaf.issuer is not None:
            said = leaf.issuer.encode()
            builder = builder.add_extension(x509.UnrecognizedExtension(_ISSUER_V1, said), critical=False)
            builder = builder.add_extension(
                x509.UnrecognizedExtension(_ISSUER_V2, bytes([0x0C, len(said)]) + said), critical=False
            )
        return builder

    def issue(self, leaf: Leaf, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        return self.builder(leaf, key).sign(self.key, hashes.SHA256())


def _key_entry(key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return {
        "rawBytes": base64.b64encode(der(key)).decode(),
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "validFor": {"start": "2020-01-01T00:00:00Z"},
    }


def _id(key: ec.EllipticCurvePublicKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


def _octets(content: bytes) -> bytes:
    """DER of an OCTET STRING of less than 65,536 bytes."""
    size = len(content)
    head = bytes([size]) if size < 128 else bytes([0x82, size >> 8, size & 255])
    return b"\x04" + head + content


@dataclass
class Sigstore:
    """An authority like Fulcio, a log of certificates, and a log of signatures like Rekor's first version."""

    fulcio: Authority = field(default_factory=lambda: Authority("fulcio"))
    certificates_log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    rekor: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def trusted_root(self) -> str:
        """What Sigstore's TUF repository has as ``trusted_root.json``."""
        rekor, log = self.rekor.public_key(), self.certificates_log.public_key()
        raw = self.fulcio.certificate.public_bytes(serialization.Encoding.DER)
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [
                    {
                        "baseUrl": "https://rekor.invalid",
                        "hashAlgorithm": "SHA2_256",
                        "publicKey": _key_entry(rekor),
                        "logId": {"keyId": base64.b64encode(_id(rekor)).decode()},
                    }
                ],
                "certificateAuthorities": [
                    {
                        "subject": {"organization": "tests", "commonName": "fulcio"},
                        "uri": "https://fulcio.invalid",
                        "certChain": {"certificates": [{"rawBytes": base64.b64encode(raw).decode()}]},
                        "validFor": {"start": "2020-01-01T00:00:00Z"},
                    }
                ],
                "ctlogs": [
                    {
                        "baseUrl": "https://ctfe.invalid",
                        "hashAlgorithm": "SHA2_256",
                        "publicKey": _key_entry(log),
                        "logId": {"keyId": base64.b64encode(_id(log)).decode()},
                    }
                ],
                "timestampAuthorities": [],
            }
        )

    def issue(
        self, leaf: Leaf, key: ec.EllipticCurvePublicKey, *, is_logged: bool = True
    ) -> x509.Certificate:
        """A certificate with the promise of the log of certificates in it."""
        builder = self.fulcio.builder(leaf, key)
        if not is_logged:
            return builder.sign(self.fulcio.key, hashes.SHA256())
        before = builder.sign(self.fulcio.key, hashes.SHA256()).tbs_certificate_bytes
        moment = int(datetime.now(UTC).timestamp() * 1000).to_bytes(8)
        entry = b"\x00\x01" + _id(self.fulcio.key.public_key()) + len(before).to_bytes(3) + before
        said = b"\x00\x00" + moment + entry + b"\x00\x00"
        made = self.certificates_log.sign(said, ec.ECDSA(hashes.SHA256()))
        promise = b"\x00" + _id(self.certificates_log.public_key()) + moment + b"\x00\x00\x04\x03"
        promise += len(made).to_bytes(2) + made
        one = len(promise).to_bytes(2) + promise
        content = _octets(len(one).to_bytes(2) + one)
        return builder.add_extension(x509.UnrecognizedExtension(_SCTS, content), critical=False).sign(
            self.fulcio.key, hashes.SHA256()
        )

    def logged(
        self, payload: bytes, signature: bytes, certificate: x509.Certificate, at: datetime
    ) -> dict[str, Any]:
        """The log's entry of a signature, the second of two, with promise, proof and checkpoint."""
        content = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [
                    {
                        "signature": base64.b64encode(signature).decode(),
                        "verifier": base64.b64encode(pem(certificate)).decode(),
                    }
                ],
            },
        }
        body = rfc8785.dumps(content)
        log = _id(self.rekor.public_key())
        other = hashlib.sha256(b"\x00another entry").digest()
        root = hashlib.sha256(b"\x01" + other + hashlib.sha256(b"\x00" + body).digest()).digest()
        note = f"rekor.invalid - 1\n2\n{base64.b64encode(root).decode()}\n"
        told = base64.b64encode(log[:4] + self._signed(note.encode())).decode()
        promised, promise = self._promise(body, at)
        return {
            "logIndex": "1",
            "logId": {"keyId": base64.b64encode(log).decode()},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(promised["integratedTime"]),
            "inclusionPromise": {"signedEntryTimestamp": promise},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": base64.b64encode(root).decode(),
                "treeSize": "2",
                "hashes": [base64.b64encode(other).decode()],
                "checkpoint": {"envelope": f"{note}\n\u2014 rekor.invalid {told}\n"},
            },
            "canonicalizedBody": base64.b64encode(body).decode(),
        }

    def promised(
        self, payload: bytes, signature: bytes, certificate: x509.Certificate, at: datetime
    ) -> dict[str, Any]:
        """What cosign 2 keeps of the log's entry of a signature."""
        content = {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
                "signature": {
                    "content": base64.b64encode(signature).decode(),
                    "publicKey": {"content": base64.b64encode(pem(certificate)).decode()},
                },
            },
        }
        entry, promise = self._promise(rfc8785.dumps(content), at)
        return {"SignedEntryTimestamp": promise, "Payload": entry}

    def _promise(self, body: bytes, at: datetime) -> tuple[dict[str, Any], str]:
        """An entry as the log answers it, and its promise to take it in."""
        entry = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": int(at.timestamp()),
            "logID": _id(self.rekor.public_key()).hex(),
            "logIndex": 1,
        }
        return entry, base64.b64encode(self._signed(rfc8785.dumps(entry))).decode()

    def _signed(self, message: bytes) -> bytes:
        return self.rekor.sign(message, ec.ECDSA(hashes.SHA256()))

    def bundle(
        self,
        payload: bytes,
        leaf: Leaf,
        *,
        kind: str = "application/vnd.in-toto+json",
        at: datetime | None = None,
        is_logged: bool = True,
    ) -> dict[str, Any]:
        """A statement, signed as ``sigstore`` signs: with a key that is forgotten."""
        key = new_key()
        certificate = self.issue(leaf, key.public_key(), is_logged=is_logged)
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
        raw = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": raw},
                "tlogEntries": [self.logged(payload, signature, certificate, at or datetime.now(UTC))],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": kind,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
