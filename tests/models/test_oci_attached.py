"""Profile, proof and signature that are attached to a model in a registry, as ``oras attach`` does it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trustme
import yaml

from e2e import snippets
from slipway.cli.main import main
from slipway.cli.schema import complaints
from slipway.contract import PUBLIC_KEYS_ENV, Failed, ModelFault, Resolution, Resolved
from slipway.conversion import Compared, Conversion, Rows, Source
from slipway.digest import digest_of, sha256_of
from slipway.models import oci, oci_memory
from slipway.models.oci_attached import ARTIFACT_TYPE
from slipway.names import NO_PROFILE
from slipway.profiling import make_profile
from tests.models.conftest import SlipwayModel
from tests.models.examples import save_wide
from tests.models.registries import MANIFEST, RegistryFront, oras_program, registry_front
from tests.models.test_looking_again import again
from tests.models.test_oci_source import names
from tests.models.test_signature import OURS, pem, sign
from tests.unit.cli.repository import manifest

Attach = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


@pytest.fixture(params=["api", "tag"])
def front(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[RegistryFront]:
    """A registry that lists what refers to a manifest, and one for which a tag does."""
    behind: str = request.getfixturevalue({"api": "referring", "tag": "crane"}[request.param])
    with registry_front(behind, authority) as front:
        yield front


def profiled(folder: Path, seed: int = 0) -> Path:
    rows = np.random.default_rng(seed).normal(size=(100, 64)).astype(np.float32)
    made = make_profile(pd.DataFrame(rows).rename(columns=str), folder / "model.onnx")
    (folder / "profile.json").write_bytes(made.text())
    return folder / "profile.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with weights next to it, and its profile."""
    save_wide(tmp_path / "fraud")
    profiled(tmp_path / "fraud")
    return tmp_path / "fraud"


def proof_of(digest: str) -> Conversion:
    compared = Compared(rows=3, labelsDiffer=0, largestDifference=0.0, beyond=0, refused=0)
    return Conversion(
        by="tests",
        at=datetime.now(UTC),
        original=Source(called="fraud.joblib", kind="LogisticRegression", digest=digest),
        modelDigest=digest,
        dataDigest=digest,
        versions={},
        tolerance=1e-4,
        compared={Rows.DATA: compared},
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    return f"shop/{abs(hash(request.node.name)):x}"


@pytest.fixture
def attach(front: RegistryFront, folder: Path, name: str) -> Attach:
    """Attaches files of the model's folder to its first version; gives the artifact's digest."""

    def oras(*words: str) -> str:
        command = [str(oras_program()), *words, "--plain-http", "--format", "json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["digest"])

    target = f"{front.behind}/{name}:v1"
    weights = [path.name for path in folder.iterdir() if path.name not in ("model.onnx", "profile.json")]
    oras("push", target, "model.onnx", *weights)

    def attach(*files: str, kind: str = ARTIFACT_TYPE) -> str:
        return oras("attach", "--artifact-type", kind, target, *files)

    return attach


@pytest.fixture
def uri(front: RegistryFront, name: str) -> str:
    return f"oci://{front.host}/{name}:v1"


def test_what_oras_pushes_and_attaches_is_read(
    slipway_model: SlipwayModel, front: RegistryFront, folder: Path, attach: Attach, uri: str
) -> None:
    bare = slipway_model.resolved(uri, **front.keys())
    assert bare.profile == NO_PROFILE
    assert bare.digest == digest_of(folder)
    made = attach("profile.json")
    found = slipway_model.resolved(uri, **front.keys())
    assert found.uri == f"{bare.uri}?attached={made}"
    assert found.profile == f"sha256:{sha256_of(folder / 'profile.json')}"
    assert found.digest == bare.digest
    slipway_model.fetched(found.uri, found.digest, **front.keys())
    assert (slipway_model.model_dir / "profile.json").read_bytes() == (folder / "profile.json").read_bytes()


def test_the_pages_command_attaches_a_profile(
    slipway_model: SlipwayModel, front: RegistryFront, folder: Path, attach: Attach, uri: str, name: str
) -> None:
    del attach
    (command,) = (each for each in snippets.commands("docs/model-sources.md") if each.program == "oras")
    text = command.text.replace("ghcr.io/shop/fraud:v7", f"{front.behind}/{name}:v1 --plain-http")
    subprocess.run(text.replace("oras", str(oras_program()), 1), shell=True, cwd=folder, check=True)
    found = slipway_model.resolved(uri, **front.keys())
    assert found.profile == f"sha256:{sha256_of(folder / 'profile.json')}"


def test_a_pinned_file_names_the_manifest_which_leads_to_what_is_attached(
    slipway_model: SlipwayModel,
    front: RegistryFront,
    attach: Attach,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attach("profile.json")
    before = slipway_model.resolved(uri, **front.keys())
    file = tmp_path / "fraud.yaml"
    file.write_text(manifest(model={"uri": uri}))
    monkeypatch.setenv("CA_CERT", front.authority)
    assert main(["pin", str(file)]) == 0
    found = yaml.safe_load(file.read_text())
    assert complaints(found) == []
    assert found["spec"]["model"]["uri"] == before.uri.partition("?")[0]
    assert slipway_model.resolved(**found["spec"]["model"], **front.keys()).uri == before.uri


def test_what_is_attached_later_takes_its_place_and_what_was_pinned_stays_there(
    slipway_model: SlipwayModel, front: RegistryFront, folder: Path, attach: Attach, uri: str
) -> None:
    attach("profile.json")
    known = slipway_model.resolved(uri, **front.keys())
    before = (folder / "profile.json").read_bytes()
    front.asked.clear()
    assert again(slipway_model, uri, known, **front.keys()) == known
    # One for the tag, and one for what refers to it, by the way that the last look found.
    assert len(front.asked) == 2
    profiled(folder, seed=1)
    # Which of two was made later is told by the second.
    later = attach("profile.json", "--annotation", "org.opencontainers.image.created=2099-01-01T00:00:00Z")
    moved = again(slipway_model, uri, known, **front.keys())
    assert moved.uri.endswith(f"?attached={later}")
    assert moved.profile == f"sha256:{sha256_of(folder / 'profile.json')}" != known.profile
    assert moved.digest == known.digest
    task = {"uri": known.uri, "digest": known.digest, "profile": known.profile}
    slipway_model("fetch", task, **front.keys())
    assert (slipway_model.model_dir / "profile.json").read_bytes() == before


def test_a_registry_without_the_referrers_api_is_asked_for_it_again_the_day_after(
    slipway_model: SlipwayModel,
    referring: str,
    crane: str,
    authority: trustme.CA,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever attaches to one that has it by then keeps the list under the tag no more."""
    name, files = "shop/upgraded", {path.name: path.read_bytes() for path in folder.iterdir()}
    profile = files.pop("profile.json")
    with registry_front(crane, authority) as front:
        uri = f"oci://{front.host}/{name}:v1"
        for front.behind in (referring, crane):
            digest = front.push(name, "v1", [front.file(name, path, text) for path, text in files.items()])
        known = slipway_model.resolved(uri, **front.keys())
        front.behind = referring
        subject = {"mediaType": MANIFEST, "digest": digest, "size": 3}
        layers = [front.file(name, "profile.json", profile)]
        front.push(name, "attached", layers, artifactType=ARTIFACT_TYPE, subject=subject)
        assert again(slipway_model, uri, known, **front.keys()) == known
        monkeypatch.setattr(oci_memory, "today", lambda: datetime.now(UTC).date() + timedelta(days=2))
        later = again(slipway_model, uri, known, **front.keys())
        assert later.profile == f"sha256:{hashlib.sha256(profile).hexdigest()}"
        # The same of one that still has none, which is noted for another day.
        front.behind = crane
        monkeypatch.setattr(oci, "today", oci_memory.today)
        front.asked.clear()
        noted = again(slipway_model, uri, known, **front.keys())
        assert len(front.asked) == 3
        assert noted == known.model_copy(update={"mark": noted.mark})
        front.asked.clear()
        assert again(slipway_model, uri, noted, **front.keys()) == noted
        assert len(front.asked) == 2


def test_a_proof_and_a_signature_may_be_attached_together(
    slipway_model: SlipwayModel, front: RegistryFront, folder: Path, attach: Attach, uri: str
) -> None:
    (folder / "conversion.json").write_bytes(proof_of(digest_of(folder)).text())
    sign(folder)

    def asked() -> Resolution | Failed:
        task = {"uri": uri, "isSigned": True}
        outcome = slipway_model("resolve", task, **{PUBLIC_KEYS_ENV: pem(OURS)}, **front.keys()).outcome
        assert isinstance(outcome, Resolved | Failed)
        return outcome.resolution if isinstance(outcome, Resolved) else outcome

    failed = asked()
    assert isinstance(failed, Failed)
    names(failed.failure, ModelFault.SIGNATURE_MISSING, "model.sig")
    attach("profile.json", "conversion.json", "model.sig")
    found = asked()
    assert isinstance(found, Resolution), found
    assert found.signedBy
    assert found.conversion is not None
    assert found.conversion.problem is None
    # Whoever may push alone changes nothing that is signed.
    profiled(folder, seed=1)
    attach("profile.json", "--annotation", "org.opencontainers.image.created=2099-01-01T00:00:00Z")
    failed = asked()
    assert isinstance(failed, Failed)
    names(failed.failure, ModelFault.SIGNATURE_INVALID, "profile.json")


def test_files_of_the_artifact_itself_and_artifacts_of_other_types_count_as_ever(
    slipway_model: SlipwayModel, front: RegistryFront, folder: Path, attach: Attach, uri: str, name: str
) -> None:
    attach("profile.json", kind="application/vnd.example.sbom")
    assert slipway_model.resolved(uri, **front.keys()).profile == NO_PROFILE
    layers = [front.file(name, path.name, path.read_bytes()) for path in folder.iterdir()]
    front.push(name, "v1", layers)
    own = f"sha256:{sha256_of(folder / 'profile.json')}"
    profiled(folder, seed=1)
    attach("profile.json")
    assert slipway_model.resolved(uri, **front.keys()).profile == own


def test_an_artifact_that_is_gone_and_one_that_speaks_of_another_manifest(
    slipway_model: SlipwayModel, front: RegistryFront, attach: Attach, uri: str, name: str
) -> None:
    made = attach("profile.json")
    known = slipway_model.resolved(uri, **front.keys())
    forged = front.push(
        name,
        "forged",
        [front.file(name, "profile.json", b"{}")],
        artifactType=ARTIFACT_TYPE,
        subject={"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 3},
    )
    gone = known.uri.replace(made, f"sha256:{'1' * 64},{forged}")
    task = {"uri": gone, "digest": known.digest, "profile": known.profile}
    shutil.rmtree(slipway_model.model_dir)
    slipway_model.model_dir.mkdir()
    outcome = slipway_model("fetch", task, **front.keys()).outcome
    assert isinstance(outcome, Failed)
    names(outcome.failure, ModelFault.DIGEST_MISMATCH, "profile.json", "is gone")


def test_too_many_artifacts_are_not_read(
    slipway_model: SlipwayModel, referring: str, authority: trustme.CA, folder: Path
) -> None:
    with registry_front(referring, authority) as front:
        layers = [front.file("shop/many", path.name, path.read_bytes()) for path in folder.iterdir()]
        digest = front.push("shop/many", "v1", layers)
        subject = {"mediaType": MANIFEST, "digest": digest, "size": 3}
        for number in range(21):
            front.push("shop/many", f"a{number}", [], subject=subject, annotations={"n": str(number)})
        failure = slipway_model.not_resolved(f"oci://{front.host}/shop/many:v1", **front.keys())
    names(failure, ModelFault.INVALID_MODEL_URI, "more than 20 artifacts", "oras discover")


def test_a_registry_that_denies_its_lists_is_read_by_its_tags(
    slipway_model: SlipwayModel, crane: str, authority: trustme.CA, folder: Path
) -> None:
    with registry_front(crane, authority) as front:
        layers = [front.file("shop/denied", path.name, path.read_bytes()) for path in folder.iterdir()]
        front.push("shop/denied", "v1", layers)
        front.denies = "/referrers/"
        slipway_model.resolved(f"oci://{front.host}/shop/denied:v1", **front.keys())
