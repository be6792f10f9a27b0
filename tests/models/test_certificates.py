"""A model that a certificate, or Sigstore, has to vouch for is resolved if it does, and only then."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from model_signing import hashing
from model_signing import signing as oms_signing
from model_signing import verifying as oms
from sigstore.errors import Error
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify import policy as policies

from e2e import snippets
from slipway.cli.main import main
from slipway.contract import (
    AUTHORITIES_ENV,
    TRUST_ROOT_ENV,
    Failed,
    Failure,
    ModelFault,
    Resolution,
    Resolved,
)
from tests.models.authorities import (
    DAY,
    DNS,
    EMAIL,
    ISSUER,
    MINUTE,
    URI,
    WORKFLOW,
    Authority,
    Leaf,
    Sigstore,
    new_key,
    pem,
    private_pem,
)
from tests.models.conftest import SlipwayModel
from tests.models.test_signature import bundle, changed, flipped, statement
from tests.models.test_signature import pem as public_pem

URI_OF_MODEL = "pvc://models/fraud/model.onnx"
EMAIL_OF_RELEASES = {"kind": "email", "value": "release@example.com"}
WORKFLOW_OF_RELEASES = {"kind": "uri", "value": WORKFLOW, "issuer": ISSUER}
RELEASES = Leaf()
#: A subject alternative name of X.400.
UNKNOWN_NAME = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x02\xa3\x00")
#: Of a certificate by Sigstore: minutes.
BRIEF = Leaf(names=[URI(WORKFLOW)], begins=-MINUTE, ends=9 * MINUTE, issuer=ISSUER)
ROOT, OTHERS = Authority("root"), Authority("others")
BETWEEN = Authority("between", above=ROOT)
SIGSTORE, ANOTHER = Sigstore(), Sigstore()
KEY = new_key()


@pytest.fixture
def folder(slipway_model: SlipwayModel, wide_model: Path) -> Path:
    """A model with weights next to it, unsigned."""
    return Path(shutil.copytree(wide_model, slipway_model.claim / "fraud"))


def asked(slipway_model: SlipwayModel, identity: dict[str, str], **given: str) -> Resolution | Failure:
    task = {"uri": URI_OF_MODEL, "isSigned": True, "identities": [identity]}
    outcome = slipway_model("resolve", task, **given).outcome
    if isinstance(outcome, Failed):
        return outcome.failure
    assert isinstance(outcome, Resolved)
    return outcome.resolution


def by_certificate(
    slipway_model: SlipwayModel,
    authorities: bytes | None = None,
    identity: dict[str, str] = EMAIL_OF_RELEASES,
) -> Resolution | Failure:
    trusted = pem(ROOT.certificate) if authorities is None else authorities
    return asked(slipway_model, identity, **{AUTHORITIES_ENV: trusted.decode()})


def keyless(
    slipway_model: SlipwayModel,
    root: str | None = None,
    identity: dict[str, str] = WORKFLOW_OF_RELEASES,
) -> Resolution | Failure:
    return asked(slipway_model, identity, **{TRUST_ROOT_ENV: root or SIGSTORE.trusted_root()})


def certify(
    folder: Path,
    leaf: Leaf = RELEASES,
    by: Authority = BETWEEN,
    between: tuple[x509.Certificate, ...] = (BETWEEN.certificate,),
    key: ec.EllipticCurvePrivateKey = KEY,
) -> None:
    """Sign a folder by a certificate, as OpenSSF Model Signing does."""
    certificate = by.issue(leaf, key.public_key())
    (folder / "model.sig").unlink(missing_ok=True)
    place = folder.parent
    (place / "key.pem").write_bytes(private_pem(key))
    (place / "leaf.pem").write_bytes(pem(certificate))
    # The library takes no empty chain.
    (place / "chain.pem").write_bytes(pem(*(between or [certificate])))
    oms_signing.Config().use_certificate_signer(
        private_key=place / "key.pem",
        signing_certificate=place / "leaf.pem",
        certificate_chain=[place / "chain.pem"],
    ).set_hashing_config(hashing.Config().set_ignored_paths(paths=[folder / "model.sig"])).sign(
        folder, folder / "model.sig"
    )


def oms_verify(folder: Path, root: Authority) -> None:
    """By OpenSSF Model Signing itself; raises where it is not as it was signed."""
    (folder.parent / "root.pem").write_bytes(pem(root.certificate))
    config = oms.Config().use_certificate_verifier(certificate_chain=[folder.parent / "root.pem"])
    config.verify(folder, folder / "model.sig")


@pytest.mark.parametrize(
    ("leaf", "identity"),
    [
        (Leaf(), EMAIL_OF_RELEASES),
        (Leaf(purposes=()), EMAIL_OF_RELEASES),
        (Leaf(names=[DNS("ci.example.com")]), {"kind": "dns", "value": "ci.example.com"}),
        (
            Leaf(names=[EMAIL("other@example.com"), URI("spiffe://example.com/release")]),
            {"kind": "uri", "value": "spiffe://example.com/release"},
        ),
    ],
    ids=["e-mail", "for no purpose alone", "DNS", "URI"],
)
def test_what_model_signing_signed_by_a_certificate_is_resolved_with_whom_it_names(
    slipway_model: SlipwayModel, folder: Path, leaf: Leaf, identity: dict[str, str]
) -> None:
    certify(folder, leaf)
    oms_verify(folder, ROOT)
    found = by_certificate(slipway_model, identity=identity)
    assert isinstance(found, Resolution), found
    assert found.signedBy == f"{identity['kind']}:{identity['value']}"


def test_an_authority_below_the_root_may_be_trusted_alone(slipway_model: SlipwayModel, folder: Path) -> None:
    certify(folder, between=())
    assert isinstance(by_certificate(slipway_model), Failure)
    found = by_certificate(slipway_model, pem(OTHERS.certificate, BETWEEN.certificate))
    assert isinstance(found, Resolution), found


def of_certificate(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A bundle by a certificate with a change in it."""

    def do(folder: Path) -> None:
        certify(folder)
        found = json.loads((folder / "model.sig").read_text())
        change(found)
        (folder / "model.sig").write_text(json.dumps(found))

    return do


def then(first: Callable[[Path], object], second: Callable[[Path], object]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        first(folder)
        second(folder)

    return do


def signed_by_another_key(found: dict[str, Any]) -> None:
    payload = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    found["dsseEnvelope"] = bundle(payload, new_key())["dsseEnvelope"]


def other_statement(found: dict[str, Any]) -> None:
    payload = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"] = []
    found["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def certificates_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = found["verificationMaterial"]["x509CertificateChain"]["certificates"]
    return listed


CERTIFIED_BADLY: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte of the weights": (then(certify, flipped("weights.bin")), "for another weights.bin"),
    "another authority": (partial(certify, by=OTHERS, between=()), "no valid chain leads"),
    "an authority by the same name": (
        partial(certify, by=Authority("between", above=Authority("root")), between=()),
        "no valid chain leads",
    ),
    "no authority between": (partial(certify, between=()), "no valid chain leads"),
    "a certificate that has ended": (partial(certify, leaf=Leaf(begins=-2 * DAY, ends=-DAY)), "ended at"),
    "a certificate that has not begun": (partial(certify, leaf=Leaf(begins=DAY, ends=2 * DAY)), "begins at"),
    "another identity": (
        partial(certify, leaf=Leaf(names=[EMAIL("mallory@example.com")])),
        "its certificate is of email:mallory@example.com, and no such identity is accepted",
    ),
    "the address as another kind of name": (
        partial(certify, leaf=Leaf(names=[URI("release@example.com")])),
        "its certificate is of uri:release@example.com",
    ),
    "nobody's name": (partial(certify, leaf=Leaf(names=[])), "does not count"),
    "a name of a kind that nobody knows": (
        partial(certify, leaf=Leaf(names=[], more=[UNKNOWN_NAME])),
        "its certificate cannot be read",
    ),
    "a certificate that encrypts": (partial(certify, leaf=Leaf(signs=False)), "lacks digitalSignature"),
    "a certificate that is for nothing said": (
        partial(certify, leaf=Leaf(signs=None)),
        "lacks digitalSignature",
    ),
    "a certificate of a server": (
        partial(certify, leaf=Leaf(purposes=[ExtendedKeyUsageOID.SERVER_AUTH])),
        "lacks codeSigning",
    ),
    "an authority that signs itself": (
        lambda folder: of_certificate(lambda found: certificates_of(found).pop(0))(folder),
        "does not count",
    ),
    "another key": (of_certificate(signed_by_another_key), "not made by the key of its certificate"),
    "another statement": (of_certificate(other_statement), "not made by the key of its certificate"),
    "no certificates": (of_certificate(lambda found: certificates_of(found).clear()), "not one to 10"),
    "many certificates": (
        of_certificate(lambda found: certificates_of(found).extend(certificates_of(found) * 10)),
        "not one to 10",
    ),
    "a certificate that is none": (
        of_certificate(lambda found: certificates_of(found)[0].update(rawBytes="AAAA")),
        "cannot be read",
    ),
    "a key": (lambda folder: changed()(folder), "no verificationMaterial"),
}


@pytest.mark.parametrize("case", CERTIFIED_BADLY)
def test_what_a_certificate_does_not_vouch_for_is_not_resolved(
    slipway_model: SlipwayModel, folder: Path, case: str
) -> None:
    spoil, words = CERTIFIED_BADLY[case]
    spoil(folder)
    found = by_certificate(slipway_model)
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID
    assert words in found.message, found.message


@pytest.mark.parametrize("given", [b"", b"none", public_pem(KEY).encode()], ids=["nothing", "words", "a key"])
def test_without_a_usable_authority_nothing_is_resolved(
    slipway_model: SlipwayModel, folder: Path, given: bytes
) -> None:
    certify(folder)
    found = by_certificate(slipway_model, given)
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID
    assert "certificate.authorities has no usable certificate" in found.message


def log(folder: Path, leaf: Leaf = BRIEF, by: Sigstore = SIGSTORE, **more: Any) -> None:
    """Sign a folder as Sigstore does."""
    payload = json.dumps(statement(folder)).encode()
    (folder / "model.sig").write_text(json.dumps(by.bundle(payload, leaf, **more)))


def sigstore_takes(folder: Path, identity: str = WORKFLOW, issuer: str = ISSUER) -> bool:
    """Whether Sigstore's own library verifies it by our trust root."""
    place = folder.parent / "trusted_root.json"
    place.write_text(SIGSTORE.trusted_root())
    try:
        Verifier(trusted_root=TrustedRoot.from_file(str(place))).verify_dsse(
            Bundle.from_json((folder / "model.sig").read_text()),
            policies.Identity(identity=identity, issuer=issuer),
        )
    except (Error, x509.ExtensionNotFound):
        return False
    return True


@pytest.mark.parametrize(
    ("leaf", "identity"),
    [
        (BRIEF, WORKFLOW_OF_RELEASES),
        (replace(BRIEF, names=[EMAIL("release@example.com")]), {**EMAIL_OF_RELEASES, "issuer": ISSUER}),
        # The certificate ended weeks ago; the log has it that it was valid then.
        (replace(BRIEF, begins=-30 * DAY - MINUTE, ends=-30 * DAY + 9 * MINUTE), WORKFLOW_OF_RELEASES),
    ],
    ids=["a workflow", "a person", "weeks ago"],
)
def test_what_sigstore_takes_is_resolved_with_the_identity_and_its_issuer(
    slipway_model: SlipwayModel, folder: Path, leaf: Leaf, identity: dict[str, str]
) -> None:
    log(folder, leaf, at=datetime.now(UTC) + leaf.begins + MINUTE)
    assert sigstore_takes(folder, identity["value"])
    found = keyless(slipway_model, identity=identity)
    assert isinstance(found, Resolution), found
    assert found.signedBy == f"{identity['kind']}:{identity['value']} by {ISSUER}"


def in_log(change: Callable[[dict[str, Any]], object], of: str = "tlogEntries") -> Callable[[Path], None]:
    """A bundle of Sigstore with a change in its entry of the log, or in all that it is verified by."""

    def do(folder: Path) -> None:
        log(folder)
        found = json.loads((folder / "model.sig").read_text())
        material = found["verificationMaterial"]
        change(material[of][0] if of == "tlogEntries" else material)
        (folder / "model.sig").write_text(json.dumps(found))

    return do


def of_another(folder: Path) -> None:
    """The log's entry of another signature."""
    log(folder)
    found = json.loads((folder / "model.sig").read_text())
    log(folder)
    other = json.loads((folder / "model.sig").read_text())
    found["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    (folder / "model.sig").write_text(json.dumps(found))


def flip(place: dict[str, Any], name: str) -> None:
    raw = bytearray(base64.b64decode(place[name]))
    raw[-1] ^= 1
    place[name] = base64.b64encode(raw).decode()


def earlier(found: dict[str, Any]) -> None:
    """As if it had been logged half a minute before."""
    found["integratedTime"] = str(int(found["integratedTime"]) - 30)


#: What Sigstore's library refuses is refused; the last value: whether it would take it.
LOGGED_BADLY: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "a flipped byte of the weights": (then(log, flipped("weights.bin")), "for another weights.bin", True),
    "another kind of payload": (partial(log, kind="text/plain"), "'text/plain'", True),
    "another Sigstore": (partial(log, by=ANOTHER), "Sigstore does not accept it", False),
    "an authority of its own, and the real logs": (
        partial(log, by=Sigstore(Authority("fulcio"), SIGSTORE.certificates_log, SIGSTORE.rekor)),
        "Sigstore does not accept it",
        False,
    ),
    "a log of signatures of its own": (
        partial(log, by=Sigstore(SIGSTORE.fulcio, SIGSTORE.certificates_log, new_key())),
        "invalid log entry",
        False,
    ),
    "a log of certificates of its own": (
        partial(log, by=Sigstore(SIGSTORE.fulcio, new_key(), SIGSTORE.rekor)),
        "SCT",
        False,
    ),
    "a certificate that nobody logged": (partial(log, is_logged=False), "SCT", False),
    "another identity": (
        partial(log, leaf=replace(BRIEF, names=[URI(WORKFLOW.replace("main", "mine"))])),
        "no such identity is accepted",
        False,
    ),
    "another issuer": (
        partial(log, leaf=replace(BRIEF, issuer="https://issuer.example.com")),
        "none of the issuers",
        False,
    ),
    "no issuer": (partial(log, leaf=replace(BRIEF, issuer=None)), "none of the issuers", False),
    "a certificate that encrypts": (
        partial(log, leaf=replace(BRIEF, signs=False)),
        "digital signature",
        False,
    ),
    "a certificate of a server": (
        partial(log, leaf=replace(BRIEF, purposes=[ExtendedKeyUsageOID.SERVER_AUTH])),
        "code signing",
        False,
    ),
    "logged after the certificate had ended": (
        partial(log, at=datetime.now(UTC) + DAY),
        "Sigstore does not accept it",
        False,
    ),
    "no entry of the log": (
        in_log(lambda found: found.update(tlogEntries=[]), "all"),
        "exactly one log entry",
        False,
    ),
    "no promise of the log": (in_log(lambda found: found.pop("inclusionPromise")), "promise", False),
    "no proof of the log": (in_log(lambda found: found.pop("inclusionProof")), "inclusionProof", False),
    "another promise": (
        in_log(lambda found: flip(found["inclusionPromise"], "signedEntryTimestamp")),
        "inclusion promise",
        False,
    ),
    "another time": (in_log(earlier), "inclusion promise", False),
    "another proof": (in_log(lambda found: flip(found["inclusionProof"], "rootHash")), "root hash", False),
    "the entry of another signature": (of_another, "do not match", False),
    "no certificate": (
        in_log(lambda found: found.pop("certificate"), "all"),
        "certificate must be set",
        False,
    ),
    "a certificate that is none": (
        in_log(lambda found: found["certificate"].update(rawBytes="AAAA"), "all"),
        "Sigstore cannot read it",
        False,
    ),
    "a key": (lambda folder: changed()(folder), "failed to load bundle", False),
    "words": (lambda folder: (folder / "model.sig").write_text("<html>"), "failed to load bundle", False),
}


@pytest.mark.parametrize("case", LOGGED_BADLY)
def test_what_sigstore_does_not_vouch_for_is_not_resolved(
    slipway_model: SlipwayModel, folder: Path, case: str
) -> None:
    spoil, words, taken = LOGGED_BADLY[case]
    spoil(folder)
    if case != "a certificate that is none":  # the library itself ends with an error of another kind
        assert sigstore_takes(folder) == taken
    found = keyless(slipway_model)
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID
    assert words in found.message, found.message


@pytest.mark.parametrize("root", ["{}", "none", '{"mediaType": "other"}'])
def test_without_a_usable_trust_root_nothing_is_resolved(
    slipway_model: SlipwayModel, folder: Path, root: str
) -> None:
    log(folder)
    found = keyless(slipway_model, root)
    assert isinstance(found, Failure)
    assert found.reason == ModelFault.SIGNATURE_INVALID
    assert "keyless.trustRoot is no trust root that can be used" in found.message


def test_one_way_does_not_stand_for_another(slipway_model: SlipwayModel, folder: Path) -> None:
    certify(folder)
    assert isinstance(keyless(slipway_model), Failure)
    log(folder)
    authority = pem(SIGSTORE.fulcio.certificate)
    same = {"kind": "uri", "value": WORKFLOW}
    assert isinstance(by_certificate(slipway_model, authority, same), Resolution), "an authority like others"
    assert isinstance(by_certificate(slipway_model, authority, WORKFLOW_OF_RELEASES), Failure)


def signed_by_command(folder: Path, leaf: Leaf = RELEASES, key: ec.EllipticCurvePrivateKey = KEY) -> int:
    """The exit code of ``slipway sign`` with a certificate for the tests' key."""
    place = folder.parent
    (place / "key.pem").write_bytes(private_pem(key))
    (place / "certificate.pem").write_bytes(pem(BETWEEN.issue(leaf, KEY.public_key()), BETWEEN.certificate))
    (place / "ca.pem").write_bytes(pem(ROOT.certificate))
    signing = ["--key", str(place / "key.pem"), "--certificate", str(place / "certificate.pem")]
    return main(["sign", str(folder), *signing])


def test_what_the_command_signs_by_a_certificate_is_resolved_and_the_library_verifies_it(
    slipway_model: SlipwayModel, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signed_by_command(folder) == 0
    assert "2 files signed by email:release@example.com" in capsys.readouterr().out
    oms_verify(folder, ROOT)
    assert isinstance(by_certificate(slipway_model), Resolution)
    verify = ["verify", str(folder), "--authorities", str(folder.parent / "ca.pem"), "--identity"]
    assert main([*verify, "email:release@example.com"]) == 0
    assert "signed by email:release@example.com" in capsys.readouterr().out
    assert main([*verify, "dns:release.example.com"]) == 1
    assert "no such identity is accepted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("leaf", "key", "words"),
    [
        (RELEASES, new_key(), "its first certificate is of another key"),
        (Leaf(begins=-2 * DAY, ends=-DAY), KEY, "its certificate ended at"),
        (Leaf(purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), KEY, "lacks codeSigning"),
        (Leaf(names=[]), KEY, "names nobody"),
    ],
    ids=["another key", "ended", "of a server", "nobody's"],
)
def test_what_nobody_would_accept_is_not_signed(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    leaf: Leaf,
    key: ec.EllipticCurvePrivateKey,
    words: str,
) -> None:
    assert signed_by_command(folder, leaf, key) == 1
    assert words in capsys.readouterr().err
    assert not (folder / "model.sig").exists()


def test_the_command_verifies_by_a_trust_root(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(folder)
    root = folder.parent / "trusted_root.json"
    root.write_text(SIGSTORE.trusted_root())
    [printed] = [
        one.text
        for one in snippets.inline_commands("docs/security.md", "slipway")
        if "--trust-root" in one.text
    ]
    here = {"fraud": str(folder), "trusted_root.json": str(root), "URL": ISSUER, "uri:URI": f"uri:{WORKFLOW}"}
    assert main([here.get(word, word) for word in printed.split()[1:]]) == 0
    assert f"signed by uri:{WORKFLOW} by {ISSUER}" in capsys.readouterr().out
    verify = ["verify", str(folder), "--trust-root", str(root), "--identity", f"uri:{WORKFLOW}"]
    assert main([*verify, "--issuer", ISSUER]) == 0
    assert f"signed by uri:{WORKFLOW} by {ISSUER}" in capsys.readouterr().out
    assert main([*verify, "--issuer", "https://issuer.example.com"]) == 1
    assert "none of the issuers" in capsys.readouterr().err
    assert main(verify) == 1
    assert "--trust-root needs --issuer" in capsys.readouterr().err
    assert main(["verify", str(folder), "--trust-root", str(root), "--issuer", ISSUER]) == 1
    assert "need --identity" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*verify, "--identity", "release@example.com"])
    assert "is none of email:ADDRESS, uri:URI and dns:NAME" in capsys.readouterr().err


def test_who_wants_no_keyless_signature_does_not_pay_for_its_library() -> None:
    program = (
        "import sys, slipway.models.main, slipway.models.signature, slipway.models.certificates;"
        "print({'sigstore', 'requests', 'tuf', 'rfc3161_client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
