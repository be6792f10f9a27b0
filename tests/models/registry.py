"""What the tests' MLflow server holds, logged with MLflow's own client as a data scientist does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import mlflow.onnx
import mlflow.sklearn
import onnx
from mlflow.models.model import ModelInfo
from mlflow.tracking import MlflowClient

from slipway.profile import Profile
from slipway.profiling import log_profile
from tests.models.examples import classifier, onnx_classifier, wide_model
from tests.models.servers import Mlflow

ADMIN = ("admin", "admin-of-the-tests")
READER = ("reader", "may-read-all-but-one")
#: A name that must be quoted in addresses.
#: Models whose artifacts MLflow does not hand out, by their location.
UNPROXIED = {
    "in-s3": "s3://models/mlflow 1/artifacts",
    "in-gs": "gs://models/mlflow/1/artifacts",
    "in-azure": "wasbs://models@slipwaytests.blob.core.windows.net/mlflow/1/artifacts",
    "lost-in-s3": "s3://models/nowhere/artifacts",
}
ODD_NAME = "Kredit-Ausfälle 100% (neu)"


def authentication(folder: Path) -> dict[str, str]:
    """Environment of a server with MLflow's basic authentication, where whoever has an account may read."""
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Otherwise each request costs a slow hash of the password.
        "auth_cache_ttl_seconds = 600\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
        "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "hdfs,wasbs",
    }


def fill(server: Mlflow) -> None:
    """``fraud`` with two versions and the alias champion on 1, and one model for each way to go wrong.

    The reader may read all but ``salaries``.
    """
    with _tracking(server.url, *ADMIN):
        client = MlflowClient()
        _log(onnx_classifier(1.0), "fraud")
        _log(onnx_classifier(0.1), "fraud")
        client.set_registered_model_alias("fraud", "champion", "1")
        _log(onnx_classifier(1.0), ODD_NAME)
        client.set_registered_model_alias(ODD_NAME, "champion", "1")
        _log(wide_model(), "wide")
        _log(onnx_classifier(1.0), "salaries")
        mlflow.sklearn.log_model(
            classifier(),
            name="model",
            registered_model_name="pickled",
            pip_requirements=["scikit-learn"],
        )
        client.create_registered_model("elsewhere")
        client.create_model_version("elsewhere", source="hdfs://namenode/models/elsewhere")
        for name, location in UNPROXIED.items():
            client.create_registered_model(name)
            client.create_model_version(name, source=location)
        _log(onnx_classifier(1.0), "lost")
        location = client.get_model_version_download_uri("lost", "1")
        shutil.rmtree(server.artifacts / location.partition(":/")[2].strip("/"))
    with httpx.Client(base_url=f"{server.url}/api", auth=ADMIN) as admin:
        username, password = READER
        user = {"username": username, "password": password}
        admin.post("/2.0/mlflow/users/create", json=user).raise_for_status()
        admin.post(
            "/3.0/mlflow/users/permissions/grant",
            json={
                "username": username,
                "resource_type": "registered_model",
                "resource_id": "salaries",
                "permission": "DENY",
            },
        ).raise_for_status()


def move_alias(server: Mlflow, name: str, alias: str, version: str) -> None:
    """Let an alias mean a version from now on."""
    with _tracking(server.url, *ADMIN):
        MlflowClient().set_registered_model_alias(name, alias, version)


def log_folder(server: Mlflow, name: str, folder: Path) -> Path:
    """Log files and register them as the first version of a model; gives where MLflow keeps them."""
    with _tracking(server.url, *ADMIN):
        client = MlflowClient()
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(folder), "whole")
        client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/whole"
        client.create_model_version(name, source=source, run_id=run.info.run_id)
    return server.artifacts / source.partition(":/")[2].strip("/")


def register(server: Mlflow, name: str, source: str) -> None:
    """Register the first version of a model, whose files are at a place that MLflow did not choose."""
    with _tracking(server.url, *ADMIN):
        client = MlflowClient()
        client.create_registered_model(name)
        client.create_model_version(name, source=source)


def log_scikit_learn(server: Mlflow, model: object, name: str, alias: str = "") -> None:
    """Log a model with MLflow's own flavor, as a pickle, and register it."""
    with _tracking(server.url, *ADMIN):
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            pip_requirements=["scikit-learn"],
            serialization_format="pickle",
        )
        if alias:
            version = str(logged.registered_model_version)
            MlflowClient().set_registered_model_alias(name, alias, version)


def saved(folder: Path) -> dict[str, bytes]:
    """The files of a model as MLflow keeps them, by their path."""
    mlflow.onnx.save_model(onnx_classifier(1.0), str(folder), pip_requirements=["onnx", "onnxruntime"])
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def log_with_profile(server: Mlflow, model: onnx.ModelProto, name: str, profile: Profile) -> Profile:
    """Log a model and a profile beside it; gives the profile as it was kept."""
    with _tracking(server.url, *ADMIN):
        return log_profile(profile, _log(model, name))


def _log(model: onnx.ModelProto, name: str) -> ModelInfo:
    # Given requirements spare MLflow from finding them out, which takes a process and half a minute.
    return mlflow.onnx.log_model(
        model, name="model", registered_model_name=name, pip_requirements=["onnx", "onnxruntime"]
    )


@contextmanager
def _tracking(url: str, username: str = "", password: str = "") -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    account = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
    os.environ.update({name: value for name, value in account.items() if value})
    mlflow.set_tracking_uri(url)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        for name in account:
            os.environ.pop(name, None)
