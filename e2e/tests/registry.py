"""The cluster's MLflow, used as a data scientist uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

#: What MLflow otherwise asks and tells when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.onnx
import mlflow.sklearn
import onnx
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

#: MLflow's client keeps the run that is under way in a global variable.
_one_at_a_time = Lock()


@dataclass(frozen=True)
class Registry:
    """An MLflow server reached at `url`."""

    url: str

    def register(self, name: str, model: onnx.ModelProto, alias: str | None = None) -> str:
        """Log a model and register it as the next version of a name; returns that version."""
        with _one_at_a_time:
            mlflow.set_tracking_uri(self.url)
            with mlflow.start_run():
                # Given requirements spare MLflow from finding them out, which takes half a minute.
                logged = mlflow.onnx.log_model(
                    model, name="model", registered_model_name=name, pip_requirements=["onnx", "onnxruntime"]
                )
        version = str(logged.registered_model_version)
        if alias:
            self.set_alias(name, alias, version)
        return version

    def register_scikit_learn(self, name: str, model: object, alias: str) -> str:
        """Log a model with MLflow's own flavor, as a pickle, under an alias; returns its version."""
        with _one_at_a_time:
            mlflow.set_tracking_uri(self.url)
            with mlflow.start_run():
                logged = mlflow.sklearn.log_model(
                    model,
                    name="model",
                    registered_model_name=name,
                    pip_requirements=["scikit-learn"],
                    serialization_format="pickle",
                )
        version = str(logged.registered_model_version)
        self.set_alias(name, alias, version)
        return version

    @staticmethod
    def save(model: onnx.ModelProto, folder: Path) -> None:
        """Write a folder as MLflow has one of a model, which may be changed before it is registered."""
        mlflow.onnx.save_model(model, str(folder), pip_requirements=["onnx", "onnxruntime"])

    def register_files(self, name: str, folder: Path) -> str:
        """Log a folder's files as they are and register them as the next version of a name; returns it."""
        client = MlflowClient(self.url)
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(folder), "model")
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{run.info.artifact_uri}/model"
        return str(client.create_model_version(name, source=source, run_id=run.info.run_id).version)

    def has(self, name: str, alias: str) -> bool:
        """Whether an alias of a registered model means a version."""
        try:
            MlflowClient(self.url).get_model_version_by_alias(name, alias)
        except MlflowException:
            return False
        return True

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias of a registered model mean this version."""
        MlflowClient(self.url).set_registered_model_alias(name, alias, version)
