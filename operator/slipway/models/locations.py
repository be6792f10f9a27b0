"""Where others say that files are: MLflow's ``s3://``, ``gs://`` and ``wasbs://`` locations of artifacts."""

from __future__ import annotations

import re

from slipway.models.az import AzSource
from slipway.models.buckets import Bucket
from slipway.models.credentials import Credentials
from slipway.models.gs import GsSource
from slipway.models.s3 import S3Source

#: Unlike Slipway's own URIs these hold keys as they are, without quoting.
_LOCATION = re.compile(r"(?P<scheme>s3a?|gs|wasbs?|abfss?)://(?P<place>[^/]+)/(?P<key>.+)", re.DOTALL)
_CONTAINER = re.compile(r"(?P<container>[^@]+)@(?P<account>[a-z0-9]{3,24})\.(?:blob|dfs)\..+")


def bucket_of(location: str, credentials: Credentials) -> tuple[Bucket, str] | None:
    """The bucket of a location and the key of the folder in it; None for what is in no bucket."""
    match = _LOCATION.fullmatch(location)
    if match is None:
        return None
    scheme, place, key = match["scheme"], match["place"], match["key"].strip("/")
    if scheme.startswith("s3"):
        return S3Source(credentials).bucket(place), key
    if scheme == "gs":
        return GsSource(credentials).bucket(place), key
    container = _CONTAINER.fullmatch(place)
    if container is None:
        return None
    return AzSource(credentials).container(container["account"], container["container"]), key
