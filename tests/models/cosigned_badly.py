"""Signers of manifests, and what is no signature by them, for each way to trust somebody."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.models.authorities import EMAIL, ISSUER, MINUTE, URI, WORKFLOW, Authority, Leaf, Sigstore, new_key
from tests.models.cosigned import (
    CERTIFICATE,
    ENTRY,
    SIGNATURE,
    ByCertificate,
    ByKey,
    Keyless,
    Repository,
    Signer,
    payload,
    statement,
)

OURS, THEIRS = ByKey(new_key()), ByKey(new_key())
ROOT = Authority("root")
BETWEEN = Authority("between", above=ROOT)
RELEASES = ByCertificate(ROOT, BETWEEN, Leaf(), {"kind": "email", "value": "release@example.com"})
SIGSTORE, ANOTHER = Sigstore(), Sigstore()
BRIEF = Leaf(names=[URI(WORKFLOW)], begins=-MINUTE, ends=9 * MINUTE, issuer=ISSUER)
KEYLESS = Keyless(SIGSTORE, BRIEF, {"kind": "uri", "value": WORKFLOW, "issuer": ISSUER})
SIGNERS: dict[str, Signer] = {"a key": OURS, "a certificate": RELEASES, "Sigstore": KEYLESS}


def flipped(content: bytes) -> bytes:
    """The same with another last letter of what is signed."""
    place = content.rindex(b'"')
    return content[: place - 1] + bytes([content[place - 1] ^ 1]) + content[place:]


def of_bundle(
    change: Callable[[dict[str, Any]], object], by: Signer = OURS
) -> Callable[[Repository, str], None]:
    """A bundle with a change in it."""

    def do(there: Repository, digest: str) -> None:
        made = by.bundle(statement(digest))
        change(made)
        there.add_bundle(digest, json.dumps(made).encode())

    return do


def of_statement(**parts: Any) -> Callable[[Repository, str], None]:
    """A statement with other parts, signed by the right key."""
    return lambda there, digest: (
        there.add_bundle(digest, json.dumps(OURS.bundle(statement(digest, **parts))).encode()) and None
    )


def content(text: bytes) -> Callable[[Repository, str], None]:
    return lambda there, digest: there.add_bundle(digest, text) and None


def of_layer(
    change: Callable[[bytes, dict[str, str]], tuple[bytes, dict[str, str]]], by: Signer = OURS
) -> Callable[[Repository, str], None]:
    """A signature of version 2 with a change in its payload or its annotations, after it was signed."""

    def do(there: Repository, digest: str) -> None:
        message = payload(digest)
        there.add_layers(digest, change(message, by.notes(message)))

    return do


def noted(by: Signer = OURS, **other: str | None) -> Callable[[Repository, str], None]:
    """With other annotations, or without some."""
    called = {"signature": SIGNATURE, "certificate": CERTIFICATE, "entry": ENTRY}

    def change(message: bytes, notes: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        merged = {**notes, **{called[name]: value for name, value in other.items()}}
        return message, {name: value for name, value in merged.items() if value is not None}

    return of_layer(change, by)


def of_type(kind: str) -> Callable[[Repository, str], None]:
    def do(there: Repository, digest: str) -> None:
        message = payload(digest, kind)
        there.add_layers(digest, (message, OURS.notes(message)))

    return do


def signed(by: Signer, version: int, of: str | None = None) -> Callable[[Repository, str], None]:
    return lambda there, digest: there.sign(by, digest, version=version, of=of)


def entry(by: Keyless, change: Callable[[dict[str, Any]], object]) -> Callable[[Repository, str], None]:
    """Version 2's entry of the log with a change in it."""

    def do(message: bytes, notes: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        found = json.loads(notes[ENTRY])
        change(found)
        return message, {**notes, ENTRY: json.dumps(found)}

    return of_layer(do, by)


def entry_of_another(there: Repository, digest: str) -> None:
    """A good entry of the log and its promise, for the same key's signature of something else."""
    message = payload(digest)
    notes, other = KEYLESS.notes(message), KEYLESS.notes(payload(OTHER))
    there.add_layers(digest, (message, {**notes, ENTRY: other[ENTRY]}))


OTHER = f"sha256:{'0' * 64}"
#: By a trust: what is done, and words of the message.
BAD: dict[str, dict[str, tuple[Callable[[Repository, str], None], str]]] = {
    "a key": {
        "another key": (signed(THEIRS, 3), "none of the keys"),
        "another key, 2": (signed(THEIRS, 2), "none of the keys"),
        "another digest": (signed(OURS, 3, OTHER), f"it is for {OTHER}"),
        "another digest, 2": (signed(OURS, 2, OTHER), f"it is for {OTHER}"),
        "a statement of nothing": (of_statement(subject=[]), "it is for nothing"),
        "a subject without a sum": (of_statement(subject=[{"digest": {"sha512": "0"}}]), "it is for nothing"),
        "a subject that is none": (of_statement(subject="sha256"), "it is for nothing"),
        "a digest that is none": (of_statement(subject=[{"digest": "sha256"}]), "it is for nothing"),
        "the result of a scan": (of_statement(predicateType="https://cosign.sigstore.dev/v/1"), "is not of"),
        "another statement": (of_statement(_type="https://in-toto.io/Statement/v0.1"), "no statement of"),
        "a flipped byte, 2": (of_layer(lambda text, notes: (flipped(text), notes)), "none of the keys"),
        "another payload": (
            of_bundle(lambda made: made["dsseEnvelope"].update(payload="e30=")),
            "none of the keys",
        ),
        "another type": (
            of_bundle(lambda made: made["dsseEnvelope"].update(payloadType="text/plain")),
            "text/plain",
        ),
        "another type, 2": (of_type("atomic container signature"), "its type is not"),
        "two signatures in one": (
            of_bundle(lambda made: made["dsseEnvelope"]["signatures"].append({"sig": ""})),
            "not exactly one",
        ),
        "no envelope": (content(b"{}"), "no dsseEnvelope"),
        "nothing": (content(b""), "not as cosign writes it"),
        "no JSON": (content(b"<html>"), "not as cosign writes it"),
        "deep brackets": (content(b"[" * 100_000), "not as cosign writes it"),
        "too large": (content(b" " * 5_000_000), "more than 4 MiB"),
        "too large, 2": (of_layer(lambda _, notes: (b" " * 5_000_000, notes)), "more than 4 MiB"),
        "garbage as a signature": (noted(signature="%"), "not base64"),
        "garbage in base64": (noted(signature="AAAA"), "none of the keys"),
        "no signature": (noted(signature=None), "a part of it is missing"),
        "no payload": (
            lambda there, digest: there.add_layers(digest, (b"[]", OURS.notes(b"[]"))),
            "it has no critical",
        ),
        "a payload that is no JSON": (
            lambda there, digest: there.add_layers(digest, (b"\xff", OURS.notes(b"\xff"))),
            "not as cosign writes it",
        ),
    },
    "a certificate": {
        "no certificate": (signed(OURS, 3), "it has no certificate"),
        "no certificate, 2": (signed(OURS, 2), "it has no certificate"),
        "another authority": (
            signed(replace(RELEASES, root=(other := Authority("other")), between=other), 3),
            "no valid chain",
        ),
        "another authority, 2": (signed(replace(RELEASES, root=other, between=other), 2), "no valid chain"),
        "another name": (
            signed(replace(RELEASES, leaf=Leaf(names=[EMAIL("x@example.com")])), 3),
            "no such identity",
        ),
        "another name, 2": (
            signed(replace(RELEASES, leaf=Leaf(names=[EMAIL("x@example.com")])), 2),
            "no such identity",
        ),
        "ended": (signed(replace(RELEASES, leaf=Leaf(ends=-MINUTE)), 3), "its certificate ended at"),
        "ended, 2": (signed(replace(RELEASES, leaf=Leaf(ends=-MINUTE)), 2), "its certificate ended at"),
        "a certificate that is none": (
            noted(RELEASES, certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "cannot be read",
        ),
        "signed by another key": (
            noted(RELEASES, **{"signature": OURS.notes(b"x")[SIGNATURE]}),
            "not made by the key",
        ),
    },
    "Sigstore": {
        "by a key": (signed(OURS, 3), "Sigstore"),
        "by a key, 2": (signed(OURS, 2), "it has no certificate"),
        "another Sigstore": (signed(replace(KEYLESS, sigstore=ANOTHER), 3), "Sigstore does not accept it"),
        "another Sigstore, 2": (signed(replace(KEYLESS, sigstore=ANOTHER), 2), "Sigstore does not accept it"),
        "another log, 2": (signed(replace(KEYLESS, log=ANOTHER), 2), "invalid inclusion promise"),
        "another digest": (signed(KEYLESS, 3, OTHER), f"it is for {OTHER}"),
        "another digest, 2": (signed(KEYLESS, 2, OTHER), f"it is for {OTHER}"),
        "another issuer": (
            signed(replace(KEYLESS, leaf=replace(BRIEF, issuer="https://else.example.com")), 3),
            "none of the issuers",
        ),
        "another issuer, 2": (
            signed(replace(KEYLESS, leaf=replace(BRIEF, issuer="https://else.example.com")), 2),
            "none of the issuers",
        ),
        "another workflow, 2": (
            signed(replace(KEYLESS, leaf=replace(BRIEF, names=[URI(f"{WORKFLOW}2")])), 2),
            "no such identity",
        ),
        "recorded too late, 2": (
            signed(replace(KEYLESS, at=datetime.now(UTC) + 60 * MINUTE), 2),
            "Sigstore does not accept it",
        ),
        "a certificate that no log has, 2": (signed(replace(KEYLESS, is_logged=False), 2), "SCT"),
        "a flipped byte, 2": (
            of_layer(lambda text, notes: (flipped(text), notes), KEYLESS),
            "does not accept it",
        ),
        "another signature, 2": (noted(KEYLESS, signature=OURS.notes(b"x")[SIGNATURE]), "does not accept it"),
        "no entry, 2": (noted(KEYLESS, entry=None), "no log promised"),
        "an entry that is none, 2": (noted(KEYLESS, entry="[]"), "it has no Payload"),
        "an entry that is no JSON, 2": (noted(KEYLESS, entry="{"), "not as cosign writes it"),
        "the entry of something else, 2": (entry_of_another, "inconsistent"),
        "an earlier time, 2": (
            entry(KEYLESS, lambda found: found["Payload"].update(integratedTime=1)),
            "does not accept it",
        ),
        "a time that nobody signed, 2": (
            entry(
                KEYLESS,
                lambda found: found["Payload"].update(integratedTime=found["Payload"]["integratedTime"] + 1),
            ),
            "invalid inclusion promise",
        ),
        "no promise, 2": (
            entry(KEYLESS, lambda found: found.pop("SignedEntryTimestamp")),
            "Sigstore",
        ),
        "no time, 2": (entry(KEYLESS, lambda found: found["Payload"].update(integratedTime=0)), "Sigstore"),
        "no log, 2": (entry(KEYLESS, lambda found: found["Payload"].pop("logID")), "Sigstore cannot read it"),
    },
}
CASES = [(by, case) for by, cases in BAD.items() for case in cases]
