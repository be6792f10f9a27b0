"""Where a model was built is believed if whoever may sign it says so of just this model, and only then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from model_signing import verifying as oms

from slipway.cli.main import main
from slipway.contract import Failed, Failure, ModelFault, Resolution, Resolved
from slipway.digest import digest_of
from slipway.models.provenance import repository_of
from tests.models import test_signing
from tests.models.attested import (
    BUILDER,
    COMMIT,
    GIT,
    GITHUB,
    IMAGE,
    PROVENANCE,
    SLSA,
    SOURCE,
    WANTED,
    attest,
    attestation,
    predicate,
    sign,
    sums_of,
)
from tests.models.conftest import SlipwayModel
from tests.models.cosigned import Repository, Signer
from tests.models.cosigned import statement as signature_of
from tests.models.cosigned_badly import ANOTHER, KEYLESS, OURS, RELEASES, SIGNERS, THEIRS
from tests.models.test_cosign import repository
from tests.models.test_signature import pem

URI = "pvc://models/fraud/model.onnx"
OTHER = "0" * 64
Bad = tuple[Callable[[Path], object], str]


@pytest.fixture
def folder(slipway_model: SlipwayModel, wide_model: Path) -> Path:
    """A model with weights next to it, signed with our key, and without provenance."""
    copied = Path(shutil.copytree(wide_model, slipway_model.claim / "fraud"))
    sign(copied, OURS)
    return copied


@pytest.fixture
def there(
    referring: str, authority: trustme.CA, request: pytest.FixtureRequest, without_retries: None
) -> Iterator[Repository]:
    """A repository of the test's own."""
    del without_retries
    yield from repository(referring, authority, request)


def asked(
    slipway_model: SlipwayModel,
    by: Signer = OURS,
    wanted: Mapping[str, str] = WANTED,
    uri: str = URI,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> Resolution | Failure:
    identities, trusted = by.trusted()
    task = {"uri": uri, "isSigned": True, "identities": identities, "provenance": wanted, **more}
    outcome = slipway_model("resolve", task, **trusted, **(environment or {})).outcome
    if isinstance(outcome, Failed):
        return outcome.failure
    assert isinstance(outcome, Resolved)
    return outcome.resolution


def is_built(found: Resolution | Failure, builder: str = BUILDER, commit: str | None = COMMIT) -> None:
    assert isinstance(found, Resolution), found
    assert found.provenance is not None
    assert (found.provenance.builder, found.provenance.source) == (builder, SOURCE)
    assert found.provenance.commit == commit
    assert found.signedBy


def refused(
    found: Resolution | Failure, *words: str, reason: ModelFault = ModelFault.PROVENANCE_INVALID
) -> None:
    assert isinstance(found, Failure), found
    assert found.reason is reason, found
    assert all(word in found.message for word in words), found.message


@pytest.mark.parametrize("by", SIGNERS)
def test_what_the_build_attested_is_resolved_with_where_and_from_what(
    slipway_model: SlipwayModel, folder: Path, by: str
) -> None:
    sign(folder, SIGNERS[by])
    missing = asked(slipway_model, SIGNERS[by])
    refused(missing, PROVENANCE, "gh attestation download", reason=ModelFault.PROVENANCE_MISSING)
    attest(folder, SIGNERS[by])
    is_built(asked(slipway_model, SIGNERS[by]))


def test_provenance_stands_for_no_signature(slipway_model: SlipwayModel, folder: Path) -> None:
    attest(folder, OURS)
    (folder / "model.sig").unlink()
    refused(asked(slipway_model), "model.sig", reason=ModelFault.SIGNATURE_MISSING)


def flipped(part: str) -> Callable[[Path], None]:
    """The attestation with another byte in what is signed, or in the signature."""

    def flip(folder: Path) -> None:
        attest(folder, OURS)
        found = json.loads((folder / PROVENANCE).read_text())
        envelope = found["dsseEnvelope"]
        place, name = (envelope, part) if part == "payload" else (envelope["signatures"][0], part)
        middle = len(place[name]) // 2
        letter = "A" if place[name][middle] != "A" else "B"
        place[name] = place[name][:middle] + letter + place[name][middle + 1 :]
        (folder / PROVENANCE).write_text(json.dumps(found))

    return flip


def says(**more: Any) -> Callable[[Path], None]:
    return partial(attest, by=OURS, **more)


def content(text: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / PROVENANCE).write_bytes(text) and None


def about(*sums: str) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / PROVENANCE).write_text(json.dumps(OURS.bundle(attestation(*sums)))) and None
    )


def of_one_file(*others: str) -> Callable[[Path], None]:
    return lambda folder: about(*sums_of(folder, "model.onnx"), *others)(folder)


def unsigned(folder: Path) -> None:
    attest(folder, OURS)
    found = json.loads((folder / PROVENANCE).read_text())
    found["dsseEnvelope"]["signatures"] = []
    (folder / PROVENANCE).write_text(json.dumps(found))


def bare(folder: Path) -> None:
    """The statement itself, in no envelope."""
    said = attestation(*sums_of(folder, "model.onnx", "weights.bin"))
    (folder / PROVENANCE).write_text(json.dumps(said))


def many(folder: Path) -> None:
    attest(folder, THEIRS)
    line = (folder / PROVENANCE).read_text()
    attest(folder, OURS)
    (folder / PROVENANCE).write_text("\n".join([*[line] * 50, (folder / PROVENANCE).read_text()]))


BAD: dict[str, Bad] = {
    "another key": (partial(attest, by=THEIRS), "none of the keys"),
    "a flipped byte of the statement": (flipped("payload"), "none of the keys"),
    "a flipped byte of the signature": (flipped("sig"), "none of the keys"),
    "unsigned": (unsigned, "not exactly one signature"),
    "no envelope": (bare, "no dsseEnvelope"),
    "another model": (about(OTHER), f"it is about sha256:{OTHER}, and not about sha256:"),
    "nothing": (about(), "it is about nothing"),
    "one file of two": (of_one_file(), "it is not about weights.bin"),
    "two subjects, of which one is not the model's": (of_one_file(OTHER), "it is not about weights.bin"),
    "subjects that are none": (says(subject="sha256"), "it is about nothing"),
    "a subject without a sum": (says(subject=[{"digest": {"sha512": OTHER}}]), "it is about"),
    "another builder": (
        says(predicate=predicate(builder="https://builds.example.com")),
        "it was built by 'https://builds.example.com', and spec.model.verify.provenance.builder is",
    ),
    "the builder at another ref": (
        says(predicate=predicate(builder=BUILDER.replace("main", "mine"))),
        "refs/heads/mine",
    ),
    "a longer builder": (says(predicate=predicate(builder=f"{BUILDER}@x")), "main@x"),
    "no builder": (says(predicate={**predicate(), "runDetails": {}}), "it has no builder"),
    "another source": (
        says(predicate=predicate({"source": "https://github.com/mallory/fraud"})),
        "it was built from https://github.com/mallory/fraud, and spec.model.verify.provenance.source is",
    ),
    "another host": (
        says(predicate=predicate({"source": f"https://example.com/{SOURCE}"})),
        "it was built from https://example.com/",
    ),
    "a source that is not encrypted": (
        says(predicate=predicate({"source": f"http://{SOURCE}"})),
        "it was built from http://",
    ),
    "another repository, with ours among what it was made of": (
        says(predicate=predicate({"workflow": {"repository": "https://github.com/mallory/fraud"}})),
        "github.com/mallory/fraud",
    ),
    "two repositories": (
        says(predicate=predicate({}, made_of=[GIT, {"uri": "git+https://github.com/mallory/fraud"}])),
        "github.com/mallory/fraud",
    ),
    "no source": (says(predicate=predicate({}, made_of=[IMAGE])), "no repository that it names"),
    "no definition": (says(predicate={"runDetails": predicate()["runDetails"]}), "no buildDefinition"),
    "no predicate": (says(predicate=[]), "no predicate"),
    "provenance of version 0.2": (
        says(predicateType="https://slsa.dev/provenance/v0.2"),
        "its statement is of 'https://slsa.dev/provenance/v0.2', and only https://slsa.dev/provenance/v1",
    ),
    "the result of a scan": (says(predicateType="https://cosign.sigstore.dev/attestation/vuln/v1"), "vuln"),
    "a signature of the model": (
        lambda folder: shutil.copy(folder / "model.sig", folder / PROVENANCE),
        "its statement is of 'https://model_signing/signature/v1.0'",
    ),
    "another statement": (says(_type="other"), "no statement of in-toto"),
    "another type of payload": (
        lambda folder: (folder / PROVENANCE).write_text(
            (folder / "model.sig").read_text().replace("in-toto+json", "text+json")
        ),
        "text+json",
    ),
    "too large": (content(b" " * 5_000_000), "more than 4 MiB"),
    "lines that are too many": (many, "none of the keys"),
    "lines that are too large": (content(b"{}\n" * 2_000_000), "more than 4 MiB"),
    "no JSON": (content(b"<html>"), "not a bundle of Sigstore"),
    "nothing at all": (content(b""), "not a bundle of Sigstore"),
    "deep brackets": (content(b"[" * 100_000), "not a bundle of Sigstore"),
    "lines that are none": (content(b"{\n{\n"), "not a bundle of Sigstore"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_nobody_who_is_trusted_says_of_this_model_is_not_believed(
    slipway_model: SlipwayModel, folder: Path, case: str
) -> None:
    spoil, words = BAD[case]
    spoil(folder)
    # The graph was looked at before, which takes longest.
    known = {"uri": URI, "version": "1", "digest": digest_of_model(folder), "bytes": 1, "signedBy": "x"}
    refused(asked(slipway_model, known=known), words, f"{PROVENANCE} does not count")


def digest_of_model(folder: Path) -> str:
    """Of its files alone."""
    bare = folder.parent / "bare"
    bare.mkdir()
    for name in ("model.onnx", "weights.bin"):
        shutil.copy(folder / name, bare)
    return digest_of(bare)


@pytest.mark.parametrize(
    ("by", "wrong", "words"),
    [
        (RELEASES, OURS, "it has no certificate"),
        (KEYLESS, OURS, "Sigstore"),
        (KEYLESS, SIGNERS["a certificate"], "Sigstore"),
    ],
    ids=["a key for a certificate", "a key for Sigstore", "a certificate for Sigstore"],
)
def test_one_way_does_not_stand_for_another(
    slipway_model: SlipwayModel, folder: Path, by: Signer, wrong: Signer, words: str
) -> None:
    sign(folder, by)
    attest(folder, wrong)
    refused(asked(slipway_model, by), words)


def test_another_sigstore_is_not_believed(slipway_model: SlipwayModel, folder: Path) -> None:
    sign(folder, KEYLESS)
    said = attestation(*sums_of(folder, "model.onnx", "weights.bin"))
    bundle = ANOTHER.bundle(json.dumps(said).encode(), KEYLESS.leaf)
    (folder / PROVENANCE).write_text(json.dumps(bundle))
    refused(asked(slipway_model, KEYLESS), "Sigstore does not accept it")


@pytest.mark.parametrize(
    ("given", "made_of", "commit"),
    [
        (GITHUB, [GIT], COMMIT),
        ({"source": f"https://{SOURCE}", "entryPoint": "build"}, [IMAGE, GIT], COMMIT),
        ({"source": {"uri": f"git+https://{SOURCE}@refs/tags/v1", "digest": {"sha1": COMMIT}}}, [], None),
        ({"sourceToBuild": {"repository": f"https://{SOURCE}", "ref": "refs/heads/main"}}, [], None),
        ({"runSpec": {}}, [IMAGE, {"uri": f"git+https://{SOURCE}.git", "digest": {"sha1": COMMIT}}], COMMIT),
    ],
    ids=["GitHub", "GitLab", "slsa-github-generator", "Google Cloud Build", "Tekton Chains"],
)
def test_the_source_is_found_where_each_builder_has_it(
    slipway_model: SlipwayModel,
    folder: Path,
    given: dict[str, Any],
    made_of: list[dict[str, Any]],
    commit: str | None,
) -> None:
    attest(folder, OURS, predicate=predicate(given, made_of=made_of))
    is_built(asked(slipway_model), commit=commit)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("github.com/acme/fraud", SOURCE),
        ("https://github.com/acme/fraud", SOURCE),
        ("https://GitHub.com/acme/fraud.git", SOURCE),
        ("git+https://github.com/acme/fraud@refs/heads/main", SOURCE),
        ("git+https://github.com/acme/fraud.git@refs/heads/a@b", SOURCE),
        ("ssh://git@github.com/acme/fraud.git#v1", SOURCE),
        ("https://github.com/acme/fraud/", SOURCE),
        ("https://github.com/Acme/fraud", "github.com/Acme/fraud"),
        ("https://github.com:8443/acme/fraud", "github.com:8443/acme/fraud"),
        ("https://github.com.example.com/acme/fraud", "github.com.example.com/acme/fraud"),
        ("https://github.com@example.com/acme/fraud", None),
        ("https://a:b@github.com/acme/fraud", None),
        ("http://github.com/acme/fraud", None),
        ("git+http://github.com/acme/fraud", None),
        ("file:///acme/fraud", None),
        ("github.com", None),
        ("", None),
    ],
)
def test_a_repository_is_the_same_by_each_of_its_addresses(uri: str, expected: str | None) -> None:
    assert repository_of(uri) == expected


@pytest.mark.parametrize("source", [f"https://{SOURCE}", f"{SOURCE}.git"])
def test_the_source_may_be_asked_for_by_any_address(
    slipway_model: SlipwayModel, folder: Path, source: str
) -> None:
    attest(folder, OURS)
    is_built(asked(slipway_model, wanted={**WANTED, "source": source}))


def test_a_builder_without_a_ref_is_that_builder_at_any(slipway_model: SlipwayModel, folder: Path) -> None:
    attest(folder, OURS)
    builder = BUILDER.partition("@")[0]
    is_built(asked(slipway_model, wanted={**WANTED, "builder": builder}))
    refused(asked(slipway_model, wanted={**WANTED, "builder": builder[:-1]}), "it was built by")


def test_of_a_file_of_bundles_one_has_to_count(slipway_model: SlipwayModel, folder: Path) -> None:
    """As ``gh attestation download`` writes them."""
    lines = []
    for by, more in ((THEIRS, {}), (OURS, {"predicateType": "https://spdx.dev/Document"}), (OURS, {})):
        attest(folder, by, **more)
        lines.append((folder / PROVENANCE).read_text())
    (folder / PROVENANCE).write_text("\n".join(lines) + "\n")
    is_built(asked(slipway_model))
    (folder / PROVENANCE).write_text("\n".join(lines[:2]) + "\n")
    refused(asked(slipway_model), "line 1 of", "line 2 of", "none of the keys", "spdx")


def test_a_bundle_may_be_written_over_lines(slipway_model: SlipwayModel, folder: Path) -> None:
    attest(folder, OURS, _type="https://in-toto.io/Statement/v0.1")
    (folder / PROVENANCE).write_text(json.dumps(json.loads((folder / PROVENANCE).read_text()), indent=2))
    is_built(asked(slipway_model))


def test_a_statement_may_be_about_the_digest_that_slipway_has(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    about(digest_of_model(folder).removeprefix("sha256:"))(folder)
    is_built(asked(slipway_model))


def test_a_later_look_finds_what_was_attested_and_nothing_else(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    plain = asked(slipway_model, provenance=None)
    assert isinstance(plain, Resolution)
    assert plain.provenance is None
    attest(folder, OURS)
    found = asked(slipway_model, known=plain.model_dump(mode="json"))
    is_built(found)
    assert isinstance(found, Resolution)
    assert asked(slipway_model, known=found.model_dump(mode="json")) == found
    (folder / PROVENANCE).unlink()
    gone = asked(slipway_model, known=plain.model_dump(mode="json"))
    refused(gone, "there is no", reason=ModelFault.PROVENANCE_MISSING)


def test_a_whole_folder_is_attested_file_by_file_and_the_attestation_is_none_of_them(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    task: dict[str, Any] = {"uri": "pvc://models/fraud", "folder": True}
    before = asked(slipway_model, **task, provenance=None)
    attest(folder, OURS)
    found = asked(slipway_model, **task)
    is_built(found)
    assert isinstance(found, Resolution)
    assert isinstance(before, Resolution)
    assert found.digest == before.digest
    (folder / "words.txt").write_text("a b c")
    sign(folder, OURS)
    refused(asked(slipway_model, **task), "it is not about words.txt")
    (folder / PROVENANCE).unlink()
    refused(asked(slipway_model, **task), PROVENANCE, reason=ModelFault.PROVENANCE_MISSING)


@pytest.mark.parametrize("by", SIGNERS)
def test_what_is_attached_to_a_manifest_is_read(
    slipway_model: SlipwayModel, there: Repository, wide_model: Path, by: str
) -> None:
    files = {path.name: path.read_bytes() for path in wide_model.iterdir()}
    digest, signer = there.push(files), SIGNERS[by]
    uri, environment = f"oci://{there.front.host}/{there.name}:v1", there.front.keys()

    def ask() -> Resolution | Failure:
        return asked(slipway_model, signer, uri=uri, environment=environment)

    def add(by: Signer, *sums: str, kind: str = SLSA) -> None:
        said = attestation(*sums, predicateType=kind)
        there.add_bundle(digest, json.dumps(by.bundle(said)).encode(), predicate=kind)

    there.add_bundle(digest, json.dumps(signer.bundle(signature_of(digest))).encode())
    add(signer, digest.removeprefix("sha256:"), kind="https://cosign.sigstore.dev/attestation/vuln/v1")
    refused(ask(), f"none is attached to {there.front.host}", reason=ModelFault.PROVENANCE_MISSING)
    add(THEIRS, digest.removeprefix("sha256:"))
    add(signer, OTHER)
    add(signer, digest.removeprefix("sha256:"), kind="https://slsa.dev/provenance/v0.2")
    refused(ask(), "the provenance sha256:", OTHER, "v0.2", "does not count")
    add(signer, digest.removeprefix("sha256:"))
    is_built(ask())


def test_the_command_says_where_a_model_was_built_and_signs_around_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = test_signing.save(OURS.key, tmp_path)
    attest(folder, OURS)
    assert main(["sign", str(folder), "--key", str(private)]) == 0
    oms.Config().use_elliptic_key_verifier(public_key=public).verify(folder, folder / "model.sig")
    assert public.read_text() == pem(OURS.key)
    verify = ["verify", str(folder), "--key", str(public)]
    wanted = ["--builder", BUILDER, "--source", SOURCE]
    for more in ([], ["--all"]):
        assert main([*verify, *more, *wanted]) == 0
        assert f"built by {BUILDER} from {SOURCE}@{COMMIT}" in capsys.readouterr().out
    assert main([*verify, "--builder", BUILDER, "--source", "github.com/acme/churn"]) == 1
    assert f"it was built from https://{SOURCE}" in capsys.readouterr().err
    assert main([*verify, "--builder", BUILDER]) == 1
    assert "go together" in capsys.readouterr().err
    (folder / PROVENANCE).unlink()
    assert main([*verify, *wanted]) == 1
    assert "gh attestation download" in capsys.readouterr().err
