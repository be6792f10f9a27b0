"""Which source reads which scheme."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.contract import MLFLOW_TRACKING_URI_ENV, PVC_MOUNT_DIR, ModelFault
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError
from slipway.models.source import Source


@dataclass(frozen=True)
class Surroundings:
    """What a source is given beside the URI."""

    credentials: Credentials = field(default_factory=Credentials)
    mlflow_tracking_uri: str = ""
    pvc_mount: Path = Path(PVC_MOUNT_DIR)

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Surroundings:
        """Read them from environment variables."""
        return cls(
            credentials=Credentials.of(environment),
            mlflow_tracking_uri=environment.get(MLFLOW_TRACKING_URI_ENV, ""),
            pvc_mount=Path(environment.get("SLIPWAY_PVC_MOUNT_DIR", PVC_MOUNT_DIR)),
        )


# Each imports its own module when it is asked for: the start of a pod pays for no other store's client.


def _mlflow(around: Surroundings) -> Source:
    from slipway.models.mlflow import MlflowSource

    return MlflowSource(around.credentials, around.mlflow_tracking_uri)


def _https(around: Surroundings) -> Source:
    from slipway.models.https import HttpsSource

    return HttpsSource(around.credentials)


def _s3(around: Surroundings) -> Source:
    from slipway.models.s3 import S3Source

    return S3Source(around.credentials)


def _gs(around: Surroundings) -> Source:
    from slipway.models.gs import GsSource

    return GsSource(around.credentials)


def _az(around: Surroundings) -> Source:
    from slipway.models.az import AzSource

    return AzSource(around.credentials)


def _dvc(around: Surroundings) -> Source:
    from slipway.models.dvc import DvcSource

    return DvcSource(around.credentials)


def _oci(around: Surroundings) -> Source:
    from slipway.models.oci import OciSource

    return OciSource(around.credentials)


def _pvc(around: Surroundings) -> Source:
    from slipway.models.pvc import PvcSource

    return PvcSource(around.pvc_mount)


SOURCES: dict[str, Callable[[Surroundings], Source]] = {
    "mlflow": _mlflow,
    "https": _https,
    "s3": _s3,
    "gs": _gs,
    "az": _az,
    "dvc": _dvc,
    "oci": _oci,
    "pvc": _pvc,
}


def source_of(uri: str, around: Surroundings) -> Source:
    """The source for a URI's scheme; raises :class:`ModelError` with ``INVALID_MODEL_URI`` for others."""
    scheme = uri.partition("://")[0]
    if scheme not in SOURCES or "://" not in uri:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            "a model URI is one of mlflow://NAME@ALIAS, mlflow://NAME/VERSION, https://HOST/PATH/model.onnx, "
            "s3://BUCKET/KEY, gs://BUCKET/KEY, az://ACCOUNT/CONTAINER/KEY, dvc://HOST/ORG/REPO/PATH@REV, "
            "oci://REGISTRY/REPO:TAG and pvc://CLAIM/PATH, "
            f"but spec.model.uri begins with {uri[:40]!r}"
            + (", which is not encrypted: use https://" if scheme == "http" else ""),
        )
    return SOURCES[scheme](around)
