"""What is to be served: a ModelDeployment, or no more than a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slipway.api.types import MAX_NAME_LENGTH, ModelDeploymentSpec
from slipway.local.errors import LocalError

#: Names of files that say nothing of what is in them.
_NO_NAMES = frozenset({"", "model", "index", "latest"})


@dataclass(frozen=True)
class Wanted:
    """One model to serve.

    Attributes:
        name: by which clients ask for it.
        spec: of the ModelDeployment, or all defaults.
        path: of the model on this machine, which is served instead of what the spec names; or None.
    """

    name: str
    spec: ModelDeploymentSpec
    path: Path | None = None

    @property
    def called(self) -> str:
        """What messages call the model."""
        return str(self.path) if self.path is not None else self.spec.model.uri


def of_model(given: str, name: str | None = None) -> Wanted:
    """A model without a ModelDeployment: a URI, or a file or folder of this machine.

    Raises:
        LocalError: where there is no such file.
    """
    if "://" in given:
        spec = _spec({"model": {"uri": given}}, given)
        return Wanted(name or _name_of(given.partition("://")[2]), spec)
    path = _path(given)
    spec = _spec({"model": {"uri": path.as_uri()}}, given)
    return Wanted(name or _name_of(path.as_posix()), spec, path)


def of_manifest(manifest: Mapping[str, Any], model: str | None = None, name: str | None = None) -> Wanted:
    """A ModelDeployment, with another model if one is given.

    Raises:
        LocalError: where the spec cannot be read, or there is no such file.
    """
    found = str(manifest["metadata"]["name"])
    spec = dict(manifest.get("spec") or {})
    path = None
    if model is not None:
        if "://" not in model:
            path = _path(model)
        uri = model if path is None else path.as_uri()
        spec["model"] = {**(spec.get("model") or {}), "uri": uri, "digest": None}
    return Wanted(name or found, _spec(spec, found), path)


def _path(given: str) -> Path:
    path = Path(given).expanduser()
    if not path.exists():
        raise LocalError(
            f"there is no file {given}: name an ONNX model or a folder with one, or a URI such as "
            "mlflow://fraud@champion"
        )
    return path.resolve()


def _spec(content: Mapping[str, Any], where: str) -> ModelDeploymentSpec:
    try:
        return ModelDeploymentSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["spec", *map(str, first["loc"])])
        raise LocalError(f"{where}: {field}: {first['msg']}") from error


def _name_of(path: str) -> str:
    """A name as a ModelDeployment may have it, from the end of a path that says something."""
    for part in reversed(re.split("[@?#]", path)[0].split("/")):
        stem = part.partition(":")[0].removesuffix(".onnx")
        if stem.isdigit() or stem.lower() in _NO_NAMES:
            continue
        word = re.sub("[^a-z0-9]+", "-", stem.lower())[:MAX_NAME_LENGTH].strip("-")
        if word and word[0].isalpha():
            return word
    return "model"
