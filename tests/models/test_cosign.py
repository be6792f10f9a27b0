"""A model in a registry is resolved if cosign signed its manifest for whom is trusted, and only then."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from e2e import snippets
from slipway.cli.main import main
from slipway.contract import Failed, Failure, ModelFault, Resolution, Resolved
from slipway.digest import digest_of
from slipway.models.oci_attached import ARTIFACT_TYPE
from slipway.names import NO_PROFILE
from tests.models.authorities import ISSUER, WORKFLOW, private_pem
from tests.models.conftest import SlipwayModel
from tests.models.cosigned import (
    SIGNATURE,
    ByKey,
    Keyless,
    Repository,
    Signer,
    payload,
    statement,
)
from tests.models.cosigned_badly import ANOTHER, BAD, CASES, KEYLESS, OTHER, OURS, SIGNERS, SIGSTORE, THEIRS
from tests.models.examples import onnx_classifier, save_wide
from tests.models.registries import INDEX, MANIFEST, cosign_program, registry_front
from tests.models.test_oci_attached import profiled, proof_of
from tests.models.test_oci_source import archive, names
from tests.models.test_signature import pem
from tests.models.test_signature import sign as sign_files


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights next to it, and its profile."""
    made = tmp_path_factory.mktemp("made") / "fraud"
    save_wide(made)
    profiled(made)
    return made


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def repository(behind: str, authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[Repository]:
    scratch = request.getfixturevalue("tmp_path")
    with registry_front(behind, authority) as front:
        yield Repository(front, f"shop/{abs(hash(request.node.name)):x}", scratch)


@pytest.fixture
def there(referring: str, authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """A repository of the test's own, in a registry that lists what refers to a manifest."""
    yield from repository(referring, authority, request)


@pytest.fixture(params=["referring", "crane"])
def either(authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """The same, and in a registry for which a tag does."""
    yield from repository(request.getfixturevalue(request.param), authority, request)


Asked = Callable[..., Resolution | Failure]
Run = Callable[..., subprocess.CompletedProcess[str]]
KEYS = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
}
#: The words by which cosign 3 makes what cosign 2 made.
AS_2 = ("--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false")


@pytest.fixture
def ask(slipway_model: SlipwayModel) -> Asked:
    def ask(there: Repository, by: Signer = OURS, tag: str = "v1", **more: Any) -> Resolution | Failure:
        identities, environment = by.trusted()
        uri = f"oci://{there.front.host}/{there.name}:{tag}"
        task = {"uri": uri, "isSigned": True, "identities": identities, **more}
        outcome = slipway_model("resolve", task, **environment, **there.front.keys()).outcome
        if isinstance(outcome, Failed):
            return outcome.failure
        assert isinstance(outcome, Resolved)
        return outcome.resolution

    return ask


def refused(found: Resolution | Failure, *words: str) -> None:
    assert isinstance(found, Failure), found
    names(found, ModelFault.SIGNATURE_INVALID, *words)


@pytest.mark.parametrize("by", SIGNERS)
def test_what_cosign_3_signed_is_resolved_with_its_signer(
    either: Repository, files: dict[str, bytes], folder: Path, ask: Asked, by: str
) -> None:
    digest = either.push(files)
    missing = ask(either, SIGNERS[by])
    assert isinstance(missing, Failure)
    names(missing, ModelFault.SIGNATURE_MISSING, "model.sig", f"@{digest}", "cosign sign")
    either.sign(SIGNERS[by], digest)
    check(ask(either, SIGNERS[by]), by, folder)


@pytest.mark.parametrize("by", SIGNERS)
def test_what_cosign_2_signed_is_resolved_with_its_signer(
    there: Repository, files: dict[str, bytes], folder: Path, ask: Asked, by: str
) -> None:
    there.sign(SIGNERS[by], there.push(files), version=2)
    check(ask(there, SIGNERS[by]), by, folder)


def check(found: Resolution | Failure, by: str, folder: Path) -> None:
    """That model and profile are taken, with whoever signed."""
    assert isinstance(found, Resolution), found
    assert found.digest == digest_of(folder)
    assert found.profile == f"sha256:{hashlib.sha256((folder / 'profile.json').read_bytes()).hexdigest()}"
    assert found.signedBy is not None
    expected = {
        "a key": "sha256:",
        "a certificate": "email:release@example.com",
        "Sigstore": f"uri:{WORKFLOW} by {ISSUER}",
    }
    assert found.signedBy.startswith(expected[by])


@pytest.mark.parametrize(
    "by",
    [
        ByKey(ec.generate_private_key(ec.SECP384R1())),
        ByKey(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        ByKey(ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        ByKey(ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["P-384 by SHA-256", "P-384", "P-521", "Ed25519"],
)
def test_each_kind_of_key_signs_a_manifest(
    there: Repository, files: dict[str, bytes], ask: Asked, by: ByKey
) -> None:
    digest = there.push(files)
    there.sign(by, digest, version=2)
    assert isinstance(ask(there, by), Resolution)
    there.add_layers(digest)
    there.sign(by, digest)
    assert isinstance(ask(there, by), Resolution)


@pytest.mark.parametrize(("by", "case"), CASES, ids=[f"{by}: {case}" for by, case in CASES])
def test_what_cosign_did_not_sign_for_whom_is_trusted_is_not_resolved(
    there: Repository, files: dict[str, bytes], folder: Path, ask: Asked, by: str, case: str
) -> None:
    do, words = BAD[by][case]
    digest = there.push(files)
    do(there, digest)
    # The graph was looked at before, which takes longest.
    known = {"uri": "oci://r/m@", "version": "1", "digest": digest_of(folder), "bytes": 1, "signedBy": "x"}
    refused(ask(there, SIGNERS[by], known=known), words, "does not count")
    # One that counts is enough, whoever else signed.
    there.sign(SIGNERS[by], digest)
    found = ask(there, SIGNERS[by], known=known)
    assert isinstance(found, Resolution), found
    assert found.signedBy != "x"


def test_of_two_signatures_in_one_place_one_has_to_count(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    digest = there.push(files)
    message = payload(digest)
    there.add_layers(digest, (message, THEIRS.notes(message)), (message, OURS.notes(message)))
    assert isinstance(ask(there), Resolution)
    there.add_layers(digest, (message, THEIRS.notes(message)), (message, {SIGNATURE: "AAAA"}))
    refused(ask(there), "signature 1 of", "signature 2 of")


def test_a_signature_does_not_follow_a_tag_that_moves(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    one = there.push(files)
    there.sign(OURS, one)
    there.sign(OURS, one, version=2)
    known = ask(there)
    assert isinstance(known, Resolution)
    there.push({"model.onnx": onnx_classifier().SerializeToString()})
    again = {"known": known.model_dump(mode="json")}
    moved = ask(there, **again)
    assert isinstance(moved, Failure)
    names(moved, ModelFault.SIGNATURE_MISSING, "no signature by cosign")
    # What was signed counts as before, where the tag leads to it again.
    there.push(files)
    assert ask(there, **again) == known


def test_a_later_look_reads_no_signature(there: Repository, files: dict[str, bytes], ask: Asked) -> None:
    there.sign(OURS, there.push(files), version=2)
    known = ask(there)
    assert isinstance(known, Resolution)
    there.front.asked.clear()
    assert ask(there, known=known.model_dump(mode="json")) == known
    assert len(there.front.asked) == 2


def test_a_profile_from_elsewhere_is_not_covered(
    there: Repository, files: dict[str, bytes], folder: Path, ask: Asked
) -> None:
    digest = there.push({path: text for path, text in files.items() if path != "profile.json"})
    there.sign(OURS, digest)
    found = ask(there)
    assert isinstance(found, Resolution)
    assert found.profile == NO_PROFILE
    there.attach(digest, "profile.json", kind=ARTIFACT_TYPE, cwd=folder)
    refused(ask(there), "does not cover profile.json", "push it with the model")


def test_a_proof_counts_where_the_manifest_names_it(
    there: Repository, files: dict[str, bytes], folder: Path, ask: Asked
) -> None:
    proof = proof_of(digest_of(folder)).text()
    there.sign(OURS, there.push({**files, "conversion.json": proof}))
    found = ask(there)
    assert isinstance(found, Resolution)
    assert found.conversion is not None
    assert found.conversion.problem is None
    digest = there.push(files, "v2")
    there.sign(OURS, digest)
    (there.scratch / "conversion.json").write_bytes(proof)
    there.attach(digest, "conversion.json", kind=ARTIFACT_TYPE)
    found = ask(there, tag="v2")
    assert isinstance(found, Resolution)
    assert found.conversion is not None
    assert "no signature covers it" in str(found.conversion.problem)


def test_a_signature_of_the_files_and_one_of_the_manifest_are_worth_the_same(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    for path, text in files.items():
        (there.scratch / path).write_bytes(text)
    digest = there.push(files)
    sign_files(there.scratch, THEIRS.key)
    there.attach(digest, "model.sig", kind=ARTIFACT_TYPE)
    refused(ask(there), "model.sig", "none of the keys")
    there.sign(THEIRS, digest)
    refused(ask(there), "model.sig", "the signature sha256:")
    there.sign(OURS, digest, version=2)
    assert isinstance(ask(there), Resolution)


@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_folder_is_covered_by_its_manifest(
    there: Repository, files: dict[str, bytes], ask: Asked, version: int
) -> None:
    digest = there.push({**files, "tokens/words.txt": b"a b c"})
    missing = ask(there, folder=True)
    assert isinstance(missing, Failure)
    names(missing, ModelFault.SIGNATURE_MISSING, "cosign")
    there.sign(OURS, digest, version=version)
    found = ask(there, folder=True)
    assert isinstance(found, Resolution), found
    assert found.folder


def test_a_signature_of_an_index_is_one_of_what_it_names(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    chosen = there.push(files, "platform")
    listed = {"mediaType": MANIFEST, "digest": chosen, "size": 3}
    made = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}
    digest = there.front.put(there.name, "v1", made)
    there.sign(OURS, chosen)
    assert isinstance(ask(there), Failure)
    there.sign(OURS, digest)
    assert isinstance(ask(there), Resolution)


def test_results_of_scans_keep_no_signature_from_being_found(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    digest = there.push(files)
    kind = "https://cosign.sigstore.dev/attestation/vuln/v1"
    for day in range(3):
        said = statement(digest, predicateType=kind, predicate={"day": day})
        there.add_bundle(digest, json.dumps(OURS.bundle(said)).encode(), predicate=kind)
    missing = ask(there)
    assert isinstance(missing, Failure)
    assert missing.reason is ModelFault.SIGNATURE_MISSING
    there.sign(OURS, digest)
    assert isinstance(ask(there), Resolution)


def test_too_many_signatures_are_not_read(there: Repository, files: dict[str, bytes], ask: Asked) -> None:
    digest = there.push(files)
    message = payload(digest)
    there.add_layers(digest, *[(message, THEIRS.notes(message))] * 51)
    refused(ask(there), "more than 50 signatures", "cosign clean")


def test_a_signature_that_is_damaged_or_gone_does_not_count(
    there: Repository, files: dict[str, bytes], ask: Asked
) -> None:
    digest = there.push(files)
    message = payload(digest)
    notes = OURS.notes(message)
    there.add_layers(digest, (message, notes))
    blob = f"sha256:{hashlib.sha256(message).hexdigest()}"
    there.front.others[blob] = [message.replace(b"shop", b"shoq")]
    refused(ask(there), "answers with other bytes")
    assert isinstance(ask(there), Resolution)
    there.front.denies = blob
    found = ask(there)
    assert isinstance(found, Failure)
    assert found.reason is ModelFault.MODEL_ACCESS_DENIED


def test_a_registry_that_tells_of_other_files_than_a_layer_has_is_found_out(
    there: Repository, ask: Asked
) -> None:
    first = archive({"models/model.onnx": onnx_classifier().SerializeToString()})
    second = archive({"models/model.onnx": onnx_classifier(0.1).SerializeToString()})
    blobs = [there.front.blob(there.name, content) for content in (first, second)]
    layers = [{**blob, "mediaType": "application/vnd.oci.image.layer.v1.tar"} for blob in blobs]
    there.sign(OURS, there.front.push(there.name, "v1", layers))
    good = ask(there)
    assert isinstance(good, Resolution)
    # Of the second layer it is told, once, that it has nothing: the model below would be served. An archive
    # ends before its bytes do.
    nothing = archive({"models/README.md": b"nothing"})
    there.front.others[blobs[1]["digest"]] = [nothing + bytes(1024 * 1024)]
    found = ask(there)
    assert isinstance(found, Failure), found
    names(found, ModelFault.DIGEST_MISMATCH, "other bytes")


def test_the_command_verifies_what_cosign_signed(
    there: Repository,
    files: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in there.front.keys().items():
        monkeypatch.setenv(name, value)
    uri = f"oci://{there.front.host}/{there.name}:v1"
    key = there.scratch / "release.pub"
    key.write_text(pem(OURS.key))
    digest = there.push(files)
    assert main(["verify", uri, "--key", str(key)]) == 1
    assert "cosign" in capsys.readouterr().err
    there.sign(OURS, digest)
    assert main(["verify", uri, "--key", str(key)]) == 0
    assert f"{uri}: signed by sha256:" in capsys.readouterr().out
    assert main(["sign", uri, "--key", str(key)]) == 1
    assert "cosign sign" in capsys.readouterr().err


@pytest.fixture
def cosign(tmp_path: Path) -> Run:
    """Runs cosign with a home of its own; ``fails``: whether it has to fail."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*words: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "COSIGN_PASSWORD": "of the tests"}
        done = subprocess.run(
            [str(cosign_program()), *words],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, (words, done.stdout, done.stderr)
        return done

    return run


@pytest.fixture
def no_log(cosign: Run, tmp_path: Path) -> tuple[str, str]:
    """The words by which cosign records a signature nowhere."""
    cosign("signing-config", "create", "--out", str(tmp_path / "no-log.json"))
    return "--signing-config", str(tmp_path / "no-log.json")


def imported(cosign: Run, key: ec.EllipticCurvePrivateKey, folder: Path) -> str:
    """A private key as cosign keeps it."""
    (folder / "plain.key").write_bytes(private_pem(key))
    cosign(
        "import-key-pair", "--key", str(folder / "plain.key"), "--output-key-prefix", str(folder / "cosign")
    )
    return str(folder / "cosign.key")


@pytest.mark.long
@pytest.mark.parametrize("kind", KEYS)
def test_what_cosign_signs_by_a_key_is_resolved(
    either: Repository,
    files: dict[str, bytes],
    ask: Asked,
    cosign: Run,
    no_log: tuple[str, str],
    kind: str,
) -> None:
    key = imported(cosign, KEYS[kind], either.scratch)
    by = ByKey(KEYS[kind])
    for tag, words in {"v2": AS_2, "v3": no_log}.items():
        digest = either.push({**files, "README.md": tag.encode()}, tag)
        target = f"{either.front.behind}/{either.name}@{digest}"
        cosign("sign", "--yes", "--key", key, *words, target)
        found = ask(either, by, tag=tag)
        assert isinstance(found, Resolution), found
        refused(ask(either, THEIRS, tag=tag), "none of the keys")


@pytest.mark.long
@pytest.mark.parametrize("version", [2, 3])
def test_cosign_takes_what_the_tests_sign_by_a_key_and_refuses_what_the_resolver_refuses(
    either: Repository,
    files: dict[str, bytes],
    ask: Asked,
    cosign: Run,
    version: int,
) -> None:
    digest = either.push(files)
    (either.scratch / "key.pub").write_text(pem(OURS.key))
    target = f"{either.front.behind}/{either.name}@{digest}"
    words = ("--key", str(either.scratch / "key.pub"), "--insecure-ignore-tlog", *format_of(version), target)
    for by, of in ((THEIRS, digest), (OURS, OTHER)):
        either.sign(by, digest, version=version, of=of)
        cosign("verify", *words, fails=True)
        refused(ask(either))
    either.sign(OURS, digest, version=version)
    cosign("verify", *words)
    assert isinstance(ask(either), Resolution)


@pytest.mark.long
@pytest.mark.parametrize("version", [2, 3])
def test_cosign_takes_what_the_tests_sign_without_a_key_and_refuses_what_the_resolver_refuses(
    there: Repository,
    files: dict[str, bytes],
    ask: Asked,
    cosign: Run,
    version: int,
) -> None:
    digest = there.push(files)
    (there.scratch / "root.json").write_text(SIGSTORE.trusted_root())
    target = f"{there.front.behind}/{there.name}@{digest}"
    words = ["--trusted-root", str(there.scratch / "root.json"), "--certificate-identity", WORKFLOW]
    words += ["--certificate-oidc-issuer", ISSUER, *format_of(version), target]
    another = Keyless(ANOTHER, KEYLESS.leaf, KEYLESS.identity)
    for by, of in ((another, digest), (KEYLESS, OTHER)):
        there.sign(by, digest, version=version, of=of)
        cosign("verify", *words, fails=True)
        refused(ask(there, KEYLESS))
    there.sign(KEYLESS, digest, version=version)
    cosign("verify", *words)
    assert isinstance(ask(there, KEYLESS), Resolution)


def format_of(version: int) -> tuple[str, ...]:
    return (f"--new-bundle-format={'true' if version == 3 else 'false'}",)


@pytest.mark.long
def test_the_pages_commands_sign_as_printed(
    there: Repository,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    there.push(files, "v7")
    (tmp_path / "release.key").write_bytes(private_pem(KEYS["P-256"]))
    (tmp_path / "release.pub").write_text(pem(KEYS["P-256"]))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "cosign").symlink_to(cosign_program())
    (programs / "slipway").write_text(f'#!/bin/sh\nexec {sys.executable} -m slipway.cli.main "$@"\n')
    (programs / "slipway").chmod(0o755)
    (tmp_path / "home").mkdir()
    environment = {**os.environ, **there.front.keys(), "HOME": str(tmp_path / "home")}
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    named = [
        command
        for command in snippets.commands("docs/security.md")
        if command.program in ("export", "cosign") or "oci://" in command.text
    ]
    assert [command.program for command in named] == ["export", "cosign", "cosign", "cosign", "slipway"]
    # One is written to where it is, and the other is read from over TLS.
    lines = [
        command.text.replace("oci://ghcr.io/shop/fraud", f"oci://{there.front.host}/{there.name}").replace(
            "ghcr.io/shop/fraud", f"{there.front.behind}/{there.name}"
        )
        for command in named
    ]
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [line.partition(": ")[0].rpartition(":")[2] for line in named[-1].output.splitlines()]
    said = [line.partition(": ")[0].rpartition(":")[2] for line in done.stdout.splitlines()]
    assert said[-len(shown) :] == shown
