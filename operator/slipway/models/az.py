"""``az://ACCOUNT/CONTAINER/KEY``: Azure Blob Storage."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from obstore.store import AzureStore

from slipway.contract import ModelFault, Resolution
from slipway.models.bucket_faults import Words, expired
from slipway.models.buckets import Bucket, Pinning, Place, client_options, https_endpoint, opened, retries
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError
from slipway.models.folder import Whole
from slipway.models.source import Located

if TYPE_CHECKING:
    from obstore.store import AzureConfig

_URI = re.compile(
    r"az://(?P<account>[a-z0-9]{3,24})/(?P<container>\$root|\$web|[a-z0-9](?:-?[a-z0-9]){2,62})/(?P<path>[^?#]+)"
)
_KEY, _SAS, _ENDPOINT = "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_ENDPOINT"


class AzSource:
    """Containers of Azure Blob Storage, entered with an account's key or a SAS token, or without any."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locate(self, uri: str) -> Located:
        container, place = self._read(uri)
        return container.locate(place)

    def whole(self, uri: str) -> Whole | None:
        container, place = self._read(uri)
        return container.whole(place)

    def _read(self, uri: str) -> tuple[Bucket, Place]:
        match = _URI.fullmatch(uri)
        place = Place.read(match["path"]) if match else None
        if match is None or place is None:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{uri!r} must be az://ACCOUNT/CONTAINER/KEY; for example "
                "az://lake/models/fraud/7/model.onnx, or az://lake/models/fraud/7/ for a folder with one "
                ".onnx file",
            )
        return self.container(match["account"], match["container"]), place

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """Finding it is as cheap, and gives its mark."""
        del uri, known
        return None

    def container(self, account: str, name: str) -> Bucket:
        """A container of an account."""
        login, identity = self._credentials.azure, self._credentials.identity
        given = login.endpoint if identity is None else identity.get(_ENDPOINT)
        endpoint = https_endpoint(given, _ENDPOINT)
        words = Words(
            bucket=f"the container {name!r} of the account {account!r}",
            host=endpoint.netloc.decode() if endpoint is not None else f"{account}.blob.core.windows.net",
            sent=bool(login.key or login.sas) or identity is not None,
            account=identity.service_account if identity is not None else "",
            keys=f"{_KEY} or {_SAS}",
            endpoint=_ENDPOINT,
        )
        config: AzureConfig = {"account_name": account, "container_name": name}
        if login.key:
            config["account_key"] = _checked(login.key)
        elif login.sas:
            sas = login.sas.removeprefix("?")
            _refuse_expired(sas, words)
            config["sas_key"] = sas
        elif identity is not None:
            config.update(identity.of_azure())
        else:
            # Else the client would ask the node's metadata for an identity that is not ours.
            config["skip_signature"] = True
        if endpoint is not None:
            config["endpoint"] = str(endpoint).rstrip("/")
        client = client_options(self._credentials)
        store = opened(
            lambda: AzureStore(config=config, client_options=client, retry_config=retries()), words
        )
        return Bucket(store, Pinning(f"az://{account}/{name}", ""), words)


def _checked(key: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"{_KEY} of the credentials Secret is not base64: copy the account's key as Azure shows it",
        ) from None
    return key


def _refuse_expired(sas: str, words: Words) -> None:
    """Azure denies an expired token in the same words as a wrong one, so its own end is read first."""
    ends = parse_qs(sas).get("se", [""])[0]
    try:
        moment = datetime.fromisoformat(ends)
    except ValueError:
        return
    if (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= datetime.now(UTC):
        raise expired(words, f"the SAS token ended at {ends}")
