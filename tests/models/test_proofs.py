"""The proof of a conversion on its way from next to the model into the resolver's answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from slipway.contract import Proved, Resolution, Resolved, TerminationMessage
from slipway.conversion import LARGEST_PROOF, Conversion
from slipway.convert.make import convert
from slipway.convert.originals import original_of
from slipway.digest import sha256_of
from slipway.models.main import TERMINATION_LIMIT, last_words
from tests.models.conftest import SlipwayModel
from tests.models.servers import Reply, WebServer
from tests.models.test_signature import asked, sign

URI = "pvc://models/fraud/model.onnx"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and the proof that it was converted, as ``slipway convert`` writes them."""
    flowers = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=500).fit(flowers.data, flowers.target)
    folder = tmp_path_factory.mktemp("converted")
    convert(original_of(model, "flowers.joblib"), flowers.data).write(folder / "model.onnx")
    return folder


@pytest.fixture
def folder(slipway_model: SlipwayModel, converted: Path) -> Path:
    return Path(shutil.copytree(converted, slipway_model.claim / "fraud"))


def proof_in(slipway_model: SlipwayModel) -> Proved | None:
    return slipway_model.resolved(URI).conversion


def test_what_a_proof_says_is_part_of_the_answer_and_not_of_what_is_pinned(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    file = folder / "conversion.json"
    proof = Conversion.model_validate_json(file.read_bytes())
    found = slipway_model.resolved(URI)
    said = found.conversion
    assert said is not None
    assert said.problem is None
    assert said.digest == f"sha256:{sha256_of(file)}"
    assert said.modelDigest == found.digest == f"sha256:{sha256_of(folder / 'model.onnx')}"
    assert said.original == "sklearn.linear_model._logistic.LogisticRegression"
    assert said.convertedAt == proof.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (said.rows, said.labelsDiffer, said.tolerance) == (150, 0, "0.0001")
    assert float(said.largestDifference or "nan") < 1e-4
    edges = sum(of.rows for kind, of in proof.compared.items() if kind != "data")
    assert said.edgeRows == edges > 100
    file.unlink()
    assert slipway_model.resolved(URI) == found.model_copy(update={"conversion": None})


def changed(folder: Path, **fields: Any) -> None:
    file = folder / "conversion.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "of another model": (
        lambda folder: changed(folder, modelDigest=f"sha256:{'e' * 64}"),
        f"it is of the model sha256:{'e' * 64}, and not of this one",
    ),
    "of another version of the format": (
        lambda folder: changed(folder, schemaVersion=2),
        "it is not a proof of schema version 1 (schemaVersion: ",
    ),
    "with a field too many": (lambda folder: changed(folder, **{"\x1b[31mred": 1}), "([31mred: "),
    "without rows": (lambda folder: changed(folder, compared={}), "it has no rows"),
    "too large": (
        lambda folder: changed(folder, by="x" * LARGEST_PROOF),
        f"it has more than {LARGEST_PROOF} bytes",
    ),
}


@pytest.mark.parametrize(("change", "problem"), CHANGES.values(), ids=list(CHANGES))
def test_a_proof_that_proves_nothing_of_the_model_says_why_and_the_model_is_served(
    slipway_model: SlipwayModel, folder: Path, change: Callable[[Path], object], problem: str
) -> None:
    change(folder)
    said = proof_in(slipway_model)
    assert said is not None
    assert said.problem is not None
    assert problem in said.problem
    assert said.problem.isprintable()
    assert said.rows is said.original is said.largestDifference is None


@pytest.mark.parametrize(
    "text",
    [b"", b"<html></html>", b"{}", b"[1]", b'{"steps": 3}', b"[" * 100_000, b"<" * (LARGEST_PROOF + 9)],
)
def test_a_file_of_that_name_that_does_not_mean_to_be_a_proof_is_left_aside(
    slipway_model: SlipwayModel, folder: Path, text: bytes
) -> None:
    (folder / "conversion.json").write_bytes(text)
    assert proof_in(slipway_model) is None


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"]
)
def test_a_proof_of_any_time_has_one_that_kubernetes_takes_or_none(
    slipway_model: SlipwayModel, folder: Path, at: str
) -> None:
    changed(folder, at=at)
    said = proof_in(slipway_model)
    assert said is not None
    assert said.problem is None
    assert said.convertedAt in (None, "0001-01-01T00:00:00Z")


def test_where_a_signature_is_wanted_only_a_signed_proof_proves_something(
    slipway_model: SlipwayModel, folder: Path
) -> None:
    sign(folder)
    found = asked(slipway_model)
    assert isinstance(found, Resolution)
    assert found.conversion is not None
    assert found.conversion.problem is None
    changed(folder, by="somebody else")
    found = asked(slipway_model)
    assert isinstance(found, Resolution)
    assert found.conversion is not None
    assert "model.sig does not cover it as it is" in str(found.conversion.problem)


def test_a_store_that_fails_at_the_proof_alone_keeps_no_model_from_being_served(
    slipway_model: SlipwayModel, folder: Path, serve: Callable[[], WebServer], ca_certificate: str
) -> None:
    server = serve()
    server.replies["/model.onnx"] = Reply((folder / "model.onnx").read_bytes())
    server.replies["/conversion.json"] = Reply(b"disk on fire", 500)
    found = slipway_model.resolved(f"{server.url}/model.onnx", SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate)
    assert found.conversion == Proved(problem="it could not be read (RegistryUnreachable)")


def test_an_address_that_leaves_no_room_for_a_proof_comes_without_it() -> None:
    said = Proved(digest=f"sha256:{'a' * 64}", problem="€" * 300)
    found = Resolution(uri="🚢" * 850, version="1", digest=said.digest or "", bytes=1, conversion=said)
    words = last_words(TerminationMessage(outcome=Resolved(resolution=found)))
    assert len(words) <= TERMINATION_LIMIT
    assert b"conversion" not in words
    read = TerminationMessage.model_validate_json(words).outcome
    assert read == Resolved(resolution=found.model_copy(update={"conversion": None}))
