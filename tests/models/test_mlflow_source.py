from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import onnxruntime
import pytest

from e2e.ledger import hold
from slipway.contract import MLFLOW_TRACKING_URI_ENV, ModelFault
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.registry import ADMIN, ODD_NAME, READER, UNPROXIED, move_alias, saved
from tests.models.servers import Mlflow, Reply, WebServer, web_server
from tests.models.stores import S3, Azure, Gs
from tests.ports import free_port

ABSENT = "sha256:" + "0" * 64


def _account(username: str, password: str) -> dict[str, str]:
    return {
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_USERNAME": username,
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_PASSWORD": password,
    }


@pytest.fixture
def here(mlflow: Mlflow) -> dict[str, str]:
    """The environment of an installation with a default tracking server, for the reader."""
    return {MLFLOW_TRACKING_URI_ENV: mlflow.url, **_account(*READER)}


def test_an_alias_is_pinned_to_its_version_and_digest(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    by_alias = slipway_model.resolved("mlflow://fraud@champion", **here)
    assert by_alias.uri == "mlflow://fraud/1"
    assert by_alias.version == "1"
    assert by_alias.createdAt is not None
    age = datetime.now(UTC) - datetime.fromisoformat(by_alias.createdAt)
    assert timedelta(seconds=-5) < age < timedelta(hours=2)
    assert slipway_model.resolved("mlflow://fraud/1", **here) == by_alias
    assert slipway_model.resolved("mlflow://fraud/2", **here).digest != by_alias.digest


def test_a_moved_alias_means_the_new_version_and_the_old_one_can_still_be_fetched(
    slipway_model: SlipwayModel, here: dict[str, str], mlflow: Mlflow
) -> None:
    move_alias(mlflow, "fraud", "moving", "1")
    before = slipway_model.resolved("mlflow://fraud@moving", **here)
    move_alias(mlflow, "fraud", "moving", "2")
    after = slipway_model.resolved("mlflow://fraud@moving", **here)
    assert (before.version, after.version) == ("1", "2")
    assert before.digest != after.digest

    fetched = slipway_model.fetched(before.uri, before.digest, **here)
    assert fetched.digest == digest_of(slipway_model.model_dir) == before.digest


def test_the_fetched_model_predicts(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved("mlflow://fraud@champion", **here)
    fetched = slipway_model.fetched(resolution.uri, resolution.digest, **here)
    files = list(slipway_model.model_dir.iterdir())
    assert [file.name for file in files] == ["model.onnx"]
    assert fetched.bytes == resolution.bytes == files[0].stat().st_size
    session = onnxruntime.InferenceSession(files[0])
    assert session.run(None, {"X": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)})[0].tolist() == [0]


def test_weights_beside_the_model_are_part_of_it(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved("mlflow://wide/1", **here)
    slipway_model.fetched(resolution.uri, resolution.digest, **here)
    names = sorted(file.name for file in slipway_model.model_dir.iterdir())
    assert len(names) == 2
    assert "model.onnx" in names
    lines = "".join(
        f"{hashlib.sha256((slipway_model.model_dir / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
    )
    assert resolution.digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    session = onnxruntime.InferenceSession(slipway_model.model_dir / "model.onnx")
    assert session.run(None, {"x": np.zeros((2, 64), np.float32)})[0].shape == (2, 64)


def test_names_with_special_characters_are_quoted(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved(f"mlflow://{quote(ODD_NAME)}@champion", **here)
    assert resolution.uri == f"mlflow://{quote(ODD_NAME)}/1"
    slipway_model.fetched(resolution.uri, resolution.digest, **here)


def test_the_secret_names_another_tracking_server(slipway_model: SlipwayModel, mlflow: Mlflow) -> None:
    resolution = slipway_model.resolved(
        "mlflow://fraud/1",
        SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_URI=mlflow.url + "/\n",
        **{MLFLOW_TRACKING_URI_ENV: f"http://127.0.0.1:{free_port()}", **_account(*READER)},
    )
    assert resolution.version == "1"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("mlflow://froud@champion", "no registered model 'froud'; it has: fraud, "),
        ("mlflow://froud/1", "no registered model 'froud'; it has: fraud, "),
        ("mlflow://fraud@challenger", "no alias 'challenger'; it has: champion (1)"),
        ("mlflow://fraud/7", "no version 7; it has: 2, 1"),
        ("mlflow://lost/1", "its file MLmodel is not in the artifact store"),
    ],
)
def test_what_does_not_exist_is_said_with_what_does(
    slipway_model: SlipwayModel, here: dict[str, str], uri: str, says: str
) -> None:
    failure = slipway_model.not_resolved(uri, **{**here, **_account(*ADMIN)})
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert says in failure.message


def test_a_model_without_onnx_is_refused_and_told_how_to_get_one(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    failure = slipway_model.not_resolved("mlflow://pickled/1", **here)
    assert failure.reason == ModelFault.UNSUPPORTED_FLAVOR
    assert "flavors python_function, sklearn" in failure.message
    assert "mlflow.onnx.log_model" in failure.message
    assert "pickled" in failure.message


def test_a_store_that_mlflow_does_not_proxy_is_named(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    failure = slipway_model.not_resolved("mlflow://elsewhere/1", **here)
    assert failure.reason == ModelFault.UNSUPPORTED_ARTIFACT_STORE
    assert "in hdfs" in failure.message
    assert "--serve-artifacts" in failure.message


@pytest.mark.parametrize("name", ["in-s3", "in-gs", "in-azure"])
def test_artifacts_that_mlflow_does_not_hand_out_are_read_from_their_bucket(
    slipway_model: SlipwayModel,
    here: dict[str, str],
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    store: S3 | Gs | Azure = request.getfixturevalue(
        {"in-s3": "s3", "in-gs": "gs", "in-azure": "azure"}[name]
    )
    folder = UNPROXIED[name].partition("://")[2].partition("/")[2]
    for path, content in saved(tmp_path / "saved").items():
        put = store.put if not isinstance(store, S3) else partial(store.put, "models")
        put(f"{folder}/{path}", content)
    resolution = slipway_model.resolved(f"mlflow://{name}/1", **here, **store.keys())
    assert resolution.uri == f"mlflow://{name}/1"
    assert resolution.digest == slipway_model.resolved("mlflow://fraud/1", **here).digest
    slipway_model.fetched(resolution.uri, resolution.digest, **here, **store.keys())
    assert [file.name for file in slipway_model.model_dir.iterdir()] == ["model.onnx"]


def test_artifacts_that_are_not_in_their_bucket_are_missed_by_the_models_name(
    slipway_model: SlipwayModel, here: dict[str, str], s3: S3
) -> None:
    failure = slipway_model.not_resolved("mlflow://lost-in-s3/1", **here, **s3.keys())
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert "version 1 of 'lost-in-s3' is registered in MLflow, but its file MLmodel is not" in failure.message
    denied = slipway_model.not_resolved("mlflow://lost-in-s3/1", **here, **s3.keys("nobody"))
    assert denied.reason == ModelFault.MODEL_ACCESS_DENIED


@pytest.mark.parametrize(
    "answer",
    [
        # As MLflow answers through FastAPI (3.17), and through Flask.
        '{"detail": "Artifact serving is disabled. Run `mlflow server` with `--serve-artifacts` to enable."}',
        "Endpoint: /api/2.0/mlflow-artifacts/artifacts/<path:artifact_path> disabled due to the mlflow "
        "server running with `--no-serve-artifacts`. To enable artifacts server functionality, run "
        "`mlflow server` with `--serve-artifacts`",
    ],
)
@pytest.mark.usefixtures("without_retries")
def test_a_proxy_that_was_turned_off_is_told_from_one_that_is_unwell(
    slipway_model: SlipwayModel, answer: str
) -> None:
    with web_server() as server:
        artifacts = _answer_as_mlflow(server)
        server.replies[f"{artifacts}/MLmodel"] = Reply(answer.encode(), 503)
        failure = slipway_model.not_resolved("mlflow://fraud/1", **{MLFLOW_TRACKING_URI_ENV: server.url})
    assert failure.reason == ModelFault.UNSUPPORTED_ARTIFACT_STORE
    assert "without --serve-artifacts" in failure.message


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [(True, ModelFault.REGISTRY_UNREACHABLE), (False, ModelFault.MODEL_TRUNCATED)],
)
def test_a_broken_connection_is_told_from_a_short_file(
    slipway_model: SlipwayModel, breaks: bool, reason: ModelFault
) -> None:
    model = onnx_classifier().SerializeToString()
    with web_server() as server:
        artifacts = _answer_as_mlflow(server)
        server.replies[f"{artifacts}/MLmodel"] = Reply(b"flavors: {onnx: {data: model.onnx}}")
        server.replies[f"{artifacts}/model.onnx"] = Reply(
            model, announced=len(model) + 1, pause=0.5, breaks=breaks
        )
        failure = slipway_model.not_resolved("mlflow://fraud/1", **{MLFLOW_TRACKING_URI_ENV: server.url})
    assert failure.reason == reason
    assert "broke off" in failure.message


def _answer_as_mlflow(server: WebServer) -> str:
    """Let a server answer for ``fraud`` in version 1; gives the path of its artifacts."""
    api = "/api/2.0/mlflow/model-versions"
    version = {"name": "fraud", "version": "1", "status": "READY"}
    server.replies[f"{api}/get"] = Reply(json.dumps({"model_version": version}).encode())
    location = {"artifact_uri": "mlflow-artifacts:/0/m-1/artifacts"}
    server.replies[f"{api}/get-download-uri"] = Reply(json.dumps(location).encode())
    return "/api/2.0/mlflow-artifacts/artifacts/0/m-1/artifacts"


def test_a_digest_given_by_the_user_is_checked(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved("mlflow://fraud/1", **here)
    assert slipway_model.resolved("mlflow://fraud@champion", resolution.digest, **here) == resolution
    failure = slipway_model.not_resolved("mlflow://fraud/2", resolution.digest, **here)
    assert failure.reason == ModelFault.DIGEST_MISMATCH
    assert resolution.digest in failure.message


@pytest.mark.parametrize(
    ("account", "says"),
    [
        ({}, "wants credentials, and none were sent (HTTP 401)"),
        (_account(READER[0], "not-the-password"), "refused the credentials (HTTP 401)"),
    ],
)
def test_strangers_are_denied(
    slipway_model: SlipwayModel, mlflow: Mlflow, account: dict[str, str], says: str
) -> None:
    failure = slipway_model.not_resolved(
        "mlflow://fraud/1", **{MLFLOW_TRACKING_URI_ENV: mlflow.url}, **account
    )
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert says in failure.message
    assert "MLFLOW_TRACKING_USERNAME" in failure.message
    assert "not-the-password" not in failure.message


def test_a_model_that_the_account_may_not_read_is_denied(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    failure = slipway_model.not_resolved("mlflow://salaries/1", **here)
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert "HTTP 403" in failure.message


def test_a_name_that_mlflow_denies_may_also_be_missing(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    failure = slipway_model.not_resolved("mlflow://froud/1", **here)
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert "may deny a model that does not exist" in failure.message


def test_a_password_in_the_tracking_uri_is_used_and_not_shown(
    slipway_model: SlipwayModel, mlflow: Mlflow
) -> None:
    address = mlflow.url.replace("://", f"://{READER[0]}:{READER[1]}@")
    uri = {"SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_URI": address}
    assert slipway_model.resolved("mlflow://fraud/1", **uri).version == "1"
    failure = slipway_model.not_resolved("mlflow://salaries/1", **uri)
    assert READER[1] not in failure.message


@pytest.mark.timed
def test_a_registry_that_is_down_is_reported_soon(slipway_model: SlipwayModel) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    start = time.monotonic()
    failure = slipway_model.not_resolved("mlflow://fraud/1", **{MLFLOW_TRACKING_URI_ENV: address})
    hold("a registry that is down is reported", time.monotonic() - start, 20)
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert address in failure.message
    assert "Connection refused" in failure.message


def test_a_server_that_is_not_mlflow_is_noticed(slipway_model: SlipwayModel) -> None:
    with web_server() as other:
        failure = slipway_model.not_resolved(
            "mlflow://fraud@champion", **{MLFLOW_TRACKING_URI_ENV: other.url}
        )
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "check MLFLOW_TRACKING_URI" in failure.message


def test_a_missing_tracking_server_is_reported_with_where_to_name_one(slipway_model: SlipwayModel) -> None:
    failure = slipway_model.not_resolved("mlflow://fraud/1")
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "MLFLOW_TRACKING_URI" in failure.message


@pytest.mark.parametrize(
    "uri",
    ["mlflow://fraud", "mlflow://fraud/latest", "mlflow:///1", "mlflow://fraud@", "mlflow://a%2Fb/1"],
)
def test_other_forms_of_the_uri_are_refused_with_examples(slipway_model: SlipwayModel, uri: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "mlflow://fraud@champion" in failure.message


def test_files_that_are_there_are_kept_although_the_registry_is_down(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    resolution = slipway_model.resolved("mlflow://wide/1", **here)
    first = slipway_model.fetched(resolution.uri, resolution.digest, **here)
    down = {**here, MLFLOW_TRACKING_URI_ENV: f"http://127.0.0.1:{free_port()}"}
    assert slipway_model.fetched(resolution.uri, resolution.digest, **down) == first


def test_leftovers_and_damaged_files_are_replaced(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved("mlflow://fraud/1", **here)
    (slipway_model.model_dir / "model.onnx").write_bytes(b"half a mod")
    leftover = slipway_model.model_dir / ".incoming-x" / "deep"
    leftover.mkdir(parents=True)
    (leftover / "weights.bin").write_bytes(b"old")
    slipway_model.fetched(resolution.uri, resolution.digest, **here)
    assert digest_of(slipway_model.model_dir) == resolution.digest
    assert [file.name for file in slipway_model.model_dir.iterdir()] == ["model.onnx"]


def test_a_version_whose_files_were_replaced_is_not_served(
    slipway_model: SlipwayModel, here: dict[str, str]
) -> None:
    failure = slipway_model.not_fetched("mlflow://fraud/1", ABSENT, **here)
    assert failure.reason == ModelFault.DIGEST_MISMATCH
    assert list(slipway_model.model_dir.iterdir()) == []


def test_credentials_do_not_follow_a_redirect_to_another_host(slipway_model: SlipwayModel) -> None:
    with web_server() as first, web_server() as second:
        path = "/api/2.0/mlflow/model-versions/get"
        first.replies[path] = Reply(status=302, headers={"Location": second.url + path})
        slipway_model.not_resolved(
            "mlflow://fraud/1",
            SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_URI=first.url,
            SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_TOKEN="secret-token",
        )
        assert first.asked[0][1] == "Bearer secret-token"
        assert [authorization for _, authorization in second.asked] == [None]


def test_secrets_that_a_server_echoes_stay_out_of_messages_and_logs(
    slipway_model: SlipwayModel, started: Callable[..., subprocess.Popen[str]]
) -> None:
    with web_server() as echo:
        body = b'{"error_code": "X", "message": "bad token secret-token"}'
        echo.replies["/api/2.0/mlflow/model-versions/get"] = Reply(body, 500)
        process = started(
            "resolve",
            {"uri": "mlflow://fraud/1"},
            SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_URI=echo.url,
            SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_TOKEN="secret-token",
        )
        output, _ = process.communicate(timeout=120)
    assert "trying again" in output
    assert "bad token ***" in output
    assert "bad token ***" in slipway_model.last_words.read_text()
    assert "secret-token" not in output + slipway_model.last_words.read_text()


def test_files_are_readable_by_other_users(slipway_model: SlipwayModel, here: dict[str, str]) -> None:
    resolution = slipway_model.resolved("mlflow://fraud/1", **here)
    slipway_model.fetched(resolution.uri, resolution.digest, **here)
    file: Path = slipway_model.model_dir / "model.onnx"
    assert file.stat().st_mode & 0o777 == 0o444
