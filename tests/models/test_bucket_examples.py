"""The examples of buckets lead to a model of a real store, with the keys that they name and no others."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from slipway.names import CREDENTIAL_ENV_PREFIX
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.stores import S3

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_of_s3_resolves(slipway_model: SlipwayModel, s3: S3) -> None:
    text = (EXAMPLES / "s3.yaml").read_text()
    uri = yaml.safe_load(text)["spec"]["model"]["uri"]
    s3.put("models", uri.removeprefix("s3://models/"), onnx_classifier().SerializeToString())
    keys = s3.keys()
    assert {name.removeprefix(CREDENTIAL_ENV_PREFIX) for name in keys} <= set(re.findall("[A-Z_]{7,}", text))
    slipway_model.resolved(uri, **keys)
