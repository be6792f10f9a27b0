"""A look again costs a store two requests at most while nothing changed, and reads no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trustme

from slipway.contract import Resolution, Resolved
from slipway.models import buckets
from tests.models.conftest import DvcWork, SlipwayModel
from tests.models.examples import onnx_classifier, save_wide
from tests.models.registry import ADMIN, move_alias
from tests.models.relay import Line, relay
from tests.models.repositories import GitServer, git
from tests.models.servers import Mlflow
from tests.models.stores import S3, Azure, Gs

FIRST = onnx_classifier().SerializeToString()
SECOND = onnx_classifier(0.1).SerializeToString()


def again(slipway_model: SlipwayModel, uri: str, known: Resolution, **keys: str) -> Resolution:
    """What a look finds that is told what the one before found."""
    task = {"uri": uri, "known": known.model_dump(mode="json")}
    outcome = slipway_model("resolve", task, **keys).outcome
    assert isinstance(outcome, Resolved), outcome
    return outcome.resolution


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def made(dvc: DvcWork, host: GitServer) -> str:
    host.bare("shop/models", dvc.work)
    return f"dvc://{host.host}/shop/models"


@pytest.mark.parametrize("tail", ["/models/fraud.onnx@main", "/wide@main", "?artifact=fraud&stage=prod"])
def test_a_name_in_git_that_stands_costs_two_requests(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork, tail: str
) -> None:
    known = slipway_model.resolved(f"{made}{tail}", **host.keys())
    host.asked.clear()
    dvc.remote.asked.clear()
    assert again(slipway_model, f"{made}{tail}", known, **host.keys()) == known
    assert len(host.asked) == 2
    assert not dvc.remote.asked


def test_a_branch_that_moves_without_the_model_is_the_same_model_and_nothing_is_read(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork, tmp_path: Path
) -> None:
    uri = f"{made}/models/fraud.onnx@main"
    known = slipway_model.resolved(uri, **host.keys())
    work = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(host.folder / "shop/models"), str(work))
    (work / "README.md").write_text("Models of the shop.\n")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "a page")
    git(work, "push", "--quiet", "origin", "HEAD")
    dvc.remote.asked.clear()
    assert again(slipway_model, uri, known, **host.keys()) == known
    assert not dvc.remote.asked
    # With another model it is another one.
    git(work, "reset", "--quiet", "--hard", "origin/feature/second")
    git(work, "push", "--quiet", "--force", "origin", "HEAD:main")
    moved = again(slipway_model, uri, known, **host.keys())
    assert moved.digest == sha256(SECOND)
    assert moved.uri.endswith(f"@{git(work, 'rev-parse', 'HEAD')}")
    assert moved.mark != known.mark


def test_a_stage_that_is_given_to_another_version_is_followed_and_back_again(
    slipway_model: SlipwayModel, made: str, host: GitServer
) -> None:
    uri = f"{made}?artifact=fraud&stage=prod"
    known = slipway_model.resolved(uri, **host.keys())
    bare = host.folder / "shop/models"
    git(bare, "tag", "-a", "fraud#prod#7", "-m", "to prod", "fraud@v1.1.0^{commit}")
    moved = again(slipway_model, uri, known, **host.keys())
    assert (known.version, moved.version) == ("v1.0.0", "v1.1.0")
    git(bare, "tag", "-a", "fraud#prod!#8", "-m", "not that", "fraud@v1.1.0^{commit}")
    assert again(slipway_model, uri, moved, **host.keys()).version == "v1.0.0"


def test_an_alias_that_stands_costs_one_request_and_no_model(
    slipway_model: SlipwayModel, mlflow: Mlflow
) -> None:
    keys = dict(zip(("USERNAME", "PASSWORD"), ADMIN, strict=True))
    keys = {f"SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_{name}": value for name, value in keys.items()}
    with relay(mlflow.url) as line:
        keys["SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_URI"] = line.url
        known = slipway_model.resolved("mlflow://fraud@champion", **keys)
        line.carried = 0
        line.asked.clear()
        assert again(slipway_model, "mlflow://fraud@champion", known, **keys) == known
        assert line.carried < 4096
        assert len(line.asked) == 1
        move_alias(mlflow, "fraud", "champion", "2")
        try:
            assert again(slipway_model, "mlflow://fraud@champion", known, **keys).version == "2"
        finally:
            move_alias(mlflow, "fraud", "champion", "1")


PLACES = ["again/m.onnx", "again/"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bucket", ["models", "versions"])
def test_a_model_in_s3_is_followed(slipway_model: SlipwayModel, s3: S3, bucket: str, place: str) -> None:
    # The name of the host is signed.
    with relay(s3.plain_url) as line:
        keys = {**s3.keys(), "SLIPWAY_CREDENTIAL_AWS_ENDPOINT_URL": line.url}
        follows(slipway_model, f"s3://{bucket}/{place}", keys, line, partial(s3.put, bucket))


@pytest.mark.parametrize("place", PLACES)
def test_a_model_in_google_cloud_storage_is_followed(
    slipway_model: SlipwayModel, authority: trustme.CA, gs: Gs, place: str
) -> None:
    with relay(gs.url, authority=authority) as line:
        keys = {**gs.keys(), "SLIPWAY_CREDENTIAL_GOOGLE_ENDPOINT_URL": line.url}
        follows(slipway_model, f"gs://models/{place}", keys, line, gs.put)


@pytest.mark.parametrize("place", PLACES)
def test_a_model_in_azure_is_followed(
    slipway_model: SlipwayModel, authority: trustme.CA, azure: Azure, place: str
) -> None:
    with relay(azure.url, authority=authority) as line:
        keys = {**azure.keys(), "SLIPWAY_CREDENTIAL_AZURE_STORAGE_ENDPOINT": line.url}
        follows(slipway_model, f"az://slipwaytests/models/{place}", keys, line, azure.put)


def follows(
    slipway_model: SlipwayModel,
    uri: str,
    keys: dict[str, str],
    line: Line,
    put: Callable[[str, bytes], object],
) -> None:
    put("again/m.onnx", FIRST)
    put("again/profile.json", b"{}")
    known = slipway_model.resolved(uri, **keys)
    assert known.mark is not None
    line.asked.clear()
    assert again(slipway_model, uri, known, **keys) == known
    # A client may repeat a request that was lost on a busy machine.
    assert 1 <= len(set(line.asked)) <= 2, line.asked
    put("again/m.onnx", SECOND)
    changed = again(slipway_model, uri, known, **keys)
    assert changed.digest == sha256(SECOND)
    assert changed.mark != known.mark


def test_weights_next_to_a_model_in_s3_are_looked_at_too(
    slipway_model: SlipwayModel, s3: S3, tmp_path: Path
) -> None:
    with relay(s3.plain_url) as line:
        keys = {**s3.keys(), "SLIPWAY_CREDENTIAL_AWS_ENDPOINT_URL": line.url}
        follows_weights(slipway_model, "s3://models", keys, line, partial(s3.put, "models"), tmp_path)


def test_weights_next_to_a_model_in_google_cloud_storage_are_looked_at_too(
    slipway_model: SlipwayModel, authority: trustme.CA, gs: Gs, tmp_path: Path
) -> None:
    with relay(gs.url, authority=authority) as line:
        keys = {**gs.keys(), "SLIPWAY_CREDENTIAL_GOOGLE_ENDPOINT_URL": line.url}
        follows_weights(slipway_model, "gs://models", keys, line, gs.put, tmp_path)


def test_weights_next_to_a_model_in_azure_are_looked_at_too(
    slipway_model: SlipwayModel, authority: trustme.CA, azure: Azure, tmp_path: Path
) -> None:
    with relay(azure.url, authority=authority) as line:
        keys = {**azure.keys(), "SLIPWAY_CREDENTIAL_AZURE_STORAGE_ENDPOINT": line.url}
        follows_weights(slipway_model, "az://slipwaytests/models", keys, line, azure.put, tmp_path)


def follows_weights(
    slipway_model: SlipwayModel,
    root: str,
    keys: dict[str, str],
    line: Line,
    put: Callable[[str, bytes], object],
    folder: Path,
) -> None:
    """The graph may stay while its weights are trained again: a listing says that, and its ETag does not."""
    save_wide(folder / "wide")
    graph, weights = (folder / "wide/model.onnx").read_bytes(), (folder / "wide/weights.bin").read_bytes()
    for uri in (f"{root}/wide%20again/model.onnx", f"{root}/wide%20again/"):
        put("wide again/model.onnx", graph)
        put("wide again/weights.bin", weights)
        put("wide again/profile.json", b"{}")
        known = slipway_model.resolved(uri, **keys)
        assert known.mark is not None
        line.asked.clear()
        assert again(slipway_model, uri, known, **keys) == known
        # A client may repeat a request that was lost on a busy machine.
        assert len(set(line.asked)) == 2, line.asked
        put("wide again/weights.bin", bytes(reversed(weights)))
        trained = again(slipway_model, uri, known, **keys)
        assert trained.digest != known.digest
        assert trained.mark != known.mark
        put("wide again/profile.json", b"[]")
        beside = again(slipway_model, uri, trained, **keys)
        assert beside == trained.model_copy(update={"mark": beside.mark})
        # Without its weights it is another one again, by the same name.
        put("wide again/model.onnx", FIRST)
        assert again(slipway_model, uri, beside, **keys).digest == sha256(FIRST)


def test_of_weights_that_may_not_be_listed_or_are_one_of_many_files_the_model_is_read(
    slipway_model: SlipwayModel, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_wide(tmp_path / "wide")
    for path in (tmp_path / "wide").iterdir():
        s3.put("models", f"wide unlisted/{path.name}", path.read_bytes())
    uri = "s3://models/wide%20unlisted/model.onnx"
    read = slipway_model.resolved(uri, **s3.keys("getter"))
    assert read.mark is None
    assert again(slipway_model, uri, read, **s3.keys("getter")) == read
    known = slipway_model.resolved(uri, **s3.keys())
    assert known.mark is not None
    assert again(slipway_model, uri, known, **s3.keys("getter")) == read
    monkeypatch.setattr(buckets, "_PAGE", 2)
    assert again(slipway_model, uri, known, **s3.keys()) == read
