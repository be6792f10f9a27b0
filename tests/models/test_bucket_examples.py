"""The examples of buckets lead to a model of a real store, with the keys that they name and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from slipway.names import CREDENTIAL_ENV_PREFIX
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.stores import S3, Azure, Gs

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_of_s3_resolves(slipway_model: SlipwayModel, s3: S3) -> None:
    _resolves("s3.yaml", slipway_model, lambda key, model: s3.put("models", key, model), s3.keys())


def test_the_example_of_google_resolves(slipway_model: SlipwayModel, gs: Gs) -> None:
    _resolves("gs.yaml", slipway_model, gs.put, gs.keys())


def test_the_example_of_azure_resolves(slipway_model: SlipwayModel, azure: Azure) -> None:
    _resolves("az.yaml", slipway_model, azure.put, azure.keys())


def _resolves(
    name: str, slipway_model: SlipwayModel, put: Callable[[str, bytes], object], keys: Mapping[str, str]
) -> None:
    text = (EXAMPLES / name).read_text()
    uri: str = yaml.safe_load(text)["spec"]["model"]["uri"]
    key = uri.partition("/models/")[2]
    put(f"{key}model.onnx" if key.endswith("/") else key, onnx_classifier().SerializeToString())
    assert {each.removeprefix(CREDENTIAL_ENV_PREFIX) for each in keys} <= set(
        re.findall("[A-Z0-9_]{7,}", text)
    )
    slipway_model.resolved(uri, **keys)
