"""A server of one's own gets all files at a URI from each kind of store: plain ones, within bounds."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e import snippets
from slipway.contract import PUBLIC_KEYS_ENV, Failed, Failure, ModelFault, Resolved
from slipway.models import folder
from slipway.models.folder import DEEPEST, MOST_FILES
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.folders import (
    FILES,
    PLACES,
    TASK,
    brought,
    content,
    fetched,
    refused,
    resolved,
    write,
)
from tests.models.test_signature import OURS, THEIRS, pem, sign

#: In the folder.
[BY_HAND] = [
    block.text for block in snippets.blocks("docs/servers-of-your-own.md") if "sha256sum" in block.text
]
#: Stores whose files can be taken away under a URI that goes on to name what is left.
CHANGING = ["volume", "s3", "gs", "azure", "mlflow", "mlflow-in-s3"]
everywhere = pytest.mark.parametrize("store", PLACES)


class _Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the files, computed by hand."""
    top = tmp_path_factory.mktemp("by-hand")
    write(top, {**FILES, **dict.fromkeys(("model.sig", "provenance.sigstore.json"), b"not part of it")})
    done = subprocess.run(["bash", "-c", BY_HAND], cwd=top, capture_output=True, text=True, check=True)
    return f"sha256:{done.stdout[:64]}"


@everywhere
def test_all_files_are_brought_wherever_they_are_by_the_same_digest_and_found_again(
    slipway_model: SlipwayModel, request: pytest.FixtureRequest, store: str, digest: str
) -> None:
    place = PLACES[store](request, "wholly")
    uri = place.put(FILES)
    assert brought(slipway_model, uri, **place.keys) == FILES
    found = resolved(slipway_model, uri, **place.keys)
    assert found.digest == digest
    assert resolved(slipway_model, uri, found, **place.keys) == found


@pytest.mark.parametrize("store", CHANGING)
def test_a_folder_that_changed_is_not_fetched_and_leaves_nothing(
    slipway_model: SlipwayModel, request: pytest.FixtureRequest, store: str
) -> None:
    place = PLACES[store](request, "changed")
    found = resolved(slipway_model, place.put(FILES), **place.keys)
    assert place.remove is not None
    place.remove("MLmodel")
    failure = fetched(slipway_model, found, **place.keys)
    assert isinstance(failure, Failure)
    assert failure.reason is ModelFault.DIGEST_MISMATCH
    assert content(slipway_model.model_dir) == {}


@everywhere
def test_a_folder_that_is_too_large_is_refused_wherever_it_is(
    slipway_model: SlipwayModel,
    request: pytest.FixtureRequest,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES[store](request, "large")
    uri = place.put(FILES)
    assert refused(slipway_model, uri, 20, **place.keys).reason is ModelFault.NO_SPACE
    monkeypatch.setattr(folder, "MOST_FILES", 4)
    failure = refused(slipway_model, uri, **place.keys)
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert "has more than 4 files" in failure.message


@pytest.mark.parametrize("store", [store for store in PLACES if not store.startswith("mlflow")])
def test_a_folder_that_is_not_there_is_told_of(
    slipway_model: SlipwayModel, request: pytest.FixtureRequest, store: str
) -> None:
    place = PLACES[store](request, "nothing")
    failure = refused(slipway_model, place.uri, **place.keys)
    assert failure.reason is ModelFault.MODEL_NOT_FOUND, failure


def test_no_pickle_is_loaded(slipway_model: SlipwayModel, tmp_path: Path) -> None:
    files = {"model.pkl": pickle.dumps(_Trap(tmp_path / "sprung"))}
    write(slipway_model.claim / "iris", files)
    assert brought(slipway_model, "pvc://models/iris") == files
    assert not (tmp_path / "sprung").exists()


def test_an_onnx_file_that_is_named_itself_comes_as_ever(slipway_model: SlipwayModel) -> None:
    write(slipway_model.claim, {"iris/model.onnx": onnx_classifier().SerializeToString(), "iris/more": b"1"})
    uri = "pvc://models/iris/model.onnx"
    found = resolved(slipway_model, uri)
    assert found.folder is False
    assert found.digest == slipway_model.resolved(uri).digest


@pytest.mark.parametrize("text", [b"", b"\x80\x04 a pickle", b"\x08\x0a" * 40, os.urandom(3_000_000)])
def test_a_file_that_is_only_called_as_onnx_models_are_is_brought_all_the_same(
    slipway_model: SlipwayModel, text: bytes
) -> None:
    files = {"model.onnx": text, "good/model.onnx": onnx_classifier().SerializeToString()}
    write(slipway_model.claim / "iris", files)
    assert brought(slipway_model, "pvc://models/iris") == files


def test_it_is_refused_where_the_spec_blocks_what_is_found(slipway_model: SlipwayModel) -> None:
    write(slipway_model.claim / "iris", {"model.onnx": b"\x80\x04 a pickle"})
    task: dict[str, Any] = {**TASK, "uri": "pvc://models/iris", "hazards": {"onFinding": "Block"}}
    outcome = slipway_model("resolve", task).outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason is ModelFault.NOT_AN_ONNX_MODEL


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "model.pkl", "."])
def test_links_are_refused(slipway_model: SlipwayModel, target: str) -> None:
    write(slipway_model.claim, {"other": b"1", "iris/model.pkl": b"2"})
    (slipway_model.claim / "iris/link").symlink_to(target)
    failure = refused(slipway_model, "pvc://models/iris")
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert "a symbolic link" in failure.message


def test_a_link_may_lead_to_a_folder_but_not_out_of_the_claim(
    slipway_model: SlipwayModel, tmp_path: Path
) -> None:
    write(slipway_model.claim, {"v7/model.pkl": b"7"})
    write(tmp_path / "elsewhere", {"secret": b"1"})
    (slipway_model.claim / "latest").symlink_to("v7")
    (slipway_model.claim / "out").symlink_to(tmp_path / "elsewhere")
    assert brought(slipway_model, "pvc://models/latest") == {"model.pkl": b"7"}
    for uri in ("pvc://models/out", "pvc://models/../elsewhere", "pvc://models/%2e%2e/elsewhere"):
        assert refused(slipway_model, uri).reason in (
            ModelFault.MODEL_ACCESS_DENIED,
            ModelFault.INVALID_MODEL_URI,
        )


def test_what_is_no_file_is_refused(slipway_model: SlipwayModel) -> None:
    write(slipway_model.claim / "iris", FILES)
    os.mkfifo(slipway_model.claim / "iris/pipe")
    failure = refused(slipway_model, "pvc://models/iris")
    assert "neither a file nor a folder" in failure.message


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({f"{number}": b"" for number in range(MOST_FILES + 1)}, f"more than {MOST_FILES} files"),
        ({"/".join("d" * DEEPEST) + "/model.pkl": b"1"}, "folders"),
        ({"a\\b": b"1"}, "backslash"),
        ({"a\nb": b"1"}, "cannot be printed"),
        ({"\u202egp.exe": b"1"}, "cannot be printed"),
        ({"/".join(["d" * 200] * 3): b"1"}, "a path of more than 512 bytes"),
    ],
)
def test_what_is_out_of_bounds_is_refused(
    slipway_model: SlipwayModel, files: dict[str, bytes], says: str
) -> None:
    write(slipway_model.claim / "iris", files)
    failure = refused(slipway_model, "pvc://models/iris")
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert says in failure.message


def test_a_name_that_is_no_text_is_refused(slipway_model: SlipwayModel) -> None:
    top = slipway_model.claim / "iris"
    top.mkdir()
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe")).write_bytes(b"1")
    assert "cannot be printed" in refused(slipway_model, "pvc://models/iris").message


def signed(slipway_model: SlipwayModel, uri: str, key: str) -> object:
    task: dict[str, Any] = {**TASK, "uri": uri, "isSigned": True}
    return slipway_model("resolve", task, **{PUBLIC_KEYS_ENV: key}).outcome


def test_a_signature_covers_all_files_of_a_folder(slipway_model: SlipwayModel) -> None:
    top = slipway_model.claim / "iris"
    write(top, FILES)
    unsigned = signed(slipway_model, "pvc://models/iris", pem(OURS))
    assert isinstance(unsigned, Failed)
    assert unsigned.failure.reason is ModelFault.SIGNATURE_MISSING
    sign(top)
    good = signed(slipway_model, "pvc://models/iris", pem(OURS))
    assert isinstance(good, Resolved), good
    assert good.resolution.signedBy is not None
    theirs = signed(slipway_model, "pvc://models/iris", pem(THEIRS))
    assert isinstance(theirs, Failed)
    (top / "MLmodel").unlink()
    less = signed(slipway_model, "pvc://models/iris", pem(OURS))
    assert isinstance(less, Failed)
    assert "it covers MLmodel, which are gone" in less.failure.message
    write(top, {**FILES, "more.py": b"import os"})
    more = signed(slipway_model, "pvc://models/iris", pem(OURS))
    assert isinstance(more, Failed)
    assert "it does not cover more.py" in more.failure.message


def test_a_file_that_is_named_itself_may_be_signed_with_its_folder(slipway_model: SlipwayModel) -> None:
    top = slipway_model.claim / "iris"
    write(top, FILES)
    sign(top)
    uri = "pvc://models/iris/model.pkl"
    assert isinstance(signed(slipway_model, uri, pem(OURS)), Resolved)
    (top / "model.pkl").write_bytes(b"another")
    changed = signed(slipway_model, uri, pem(OURS))
    assert isinstance(changed, Failed)
    assert changed.failure.reason is ModelFault.SIGNATURE_INVALID


def test_the_answer_says_that_it_is_of_a_folder(slipway_model: SlipwayModel) -> None:
    write(slipway_model.claim / "iris", FILES)
    resolved(slipway_model, "pvc://models/iris")
    said = json.loads(slipway_model.last_words.read_text())
    assert said["outcome"]["resolution"]["folder"] is True
