"""``gs://BUCKET/KEY[#GENERATION]``: Google Cloud Storage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from obstore.store import GCSStore

from slipway.contract import ModelFault
from slipway.models.bucket_faults import Words
from slipway.models.buckets import (
    Bucket,
    BucketSource,
    Pinning,
    client_options,
    https_endpoint,
    opened,
    retries,
)
from slipway.models.faults import ModelError
from slipway.models.google_identity import CONFIGURATION_ENV, FederatedGoogle

if TYPE_CHECKING:
    from obstore.store import GCSConfig

_URI = re.compile(
    r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<path>[^?#]+)(?:#(?P<version>[1-9][0-9]{0,19}))?"
)
_KEY = "GOOGLE_SERVICE_ACCOUNT_KEY"
_ENDPOINT = "GOOGLE_ENDPOINT_URL"


class GsSource(BucketSource):
    """Buckets of Google Cloud Storage, entered with a service account's key, or without any."""

    uri = _URI
    form = (
        "gs://BUCKET/KEY, with #GENERATION at its end for one version; for example "
        "gs://models/fraud/7/model.onnx, or gs://models/fraud/7/ for a folder with one .onnx file"
    )

    def bucket(self, name: str) -> Bucket:
        key, endpoint = self._credentials.gs_key, https_endpoint(self._credentials.gs_endpoint, _ENDPOINT)
        identity = self._credentials.identity
        if identity is not None:
            endpoint = https_endpoint(identity.get(_ENDPOINT), _ENDPOINT)
        provider = self._federated()
        words = Words(
            bucket=f"the bucket {name!r}",
            host=endpoint.netloc.decode() if endpoint is not None else "storage.googleapis.com",
            sent=bool(key) or identity is not None,
            account=identity.service_account if identity is not None else "",
            refused=lambda: provider.fault if provider is not None else None,
            keys=f"{_KEY} (the JSON file of a service account's key)",
            endpoint=_ENDPOINT,
        )
        config: GCSConfig = {"bucket": name}
        if key:
            config["service_account_key"] = _checked(key)
        elif identity is None:
            # Else the client would ask the node's metadata for an identity that is not ours.
            config["skip_signature"] = True
        if endpoint is not None:
            config["base_url"] = str(endpoint).rstrip("/")
        client = client_options(self._credentials)
        store = opened(
            lambda: GCSStore(
                config=config,
                client_options=client,
                retry_config=retries(),
                credential_provider=provider,
            ),
            words,
        )
        return Bucket(store, Pinning(f"gs://{name}", "#{}"), words)

    def _federated(self) -> FederatedGoogle | None:
        """By a credential configuration; without one the client asks the node's metadata who the pod is."""
        identity = self._credentials.identity
        configuration = identity.get(CONFIGURATION_ENV) if identity is not None else ""
        if not configuration:
            return None
        trust = self._credentials.trust()
        return FederatedGoogle(Path(configuration), lambda: httpx.Client(verify=trust))


def _checked(key: str) -> str:
    try:
        given = json.loads(key)
    except ValueError:
        given = None
    kind = given.get("type") if isinstance(given, dict) else None
    if kind != "service_account":
        what = f"of the type {str(kind)[:40]!r}" if kind else "no JSON object with a type"
        raise ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"{_KEY} of the credentials Secret is {what}: put the whole JSON file of a service account's key "
            "there (type service_account)",
        )
    return key
