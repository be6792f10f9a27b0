"""``s3://BUCKET/KEY[?versionId=…]``: Amazon S3, and every store that speaks as it does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
from obstore.store import S3Store

from slipway.contract import ModelFault
from slipway.models.bucket_faults import Words
from slipway.models.buckets import Bucket, BucketSource, Pinning, client_options, endpoint, opened, retries
from slipway.models.faults import ModelError

if TYPE_CHECKING:
    from obstore.store import S3Config

_URI = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(?P<path>[^?#]+)(?:\?versionId=(?P<version>[^?&#]+))?"
)
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REGION = "us-east-1"


class S3Source(BucketSource):
    """Buckets of S3, entered with the keys of the Secret, or without any."""

    uri = _URI
    form = (
        "s3://BUCKET/KEY, with ?versionId=… at its end for one version; for example "
        "s3://models/fraud/7/model.onnx, or s3://models/fraud/7/ for a folder with one .onnx file"
    )

    def bucket(self, name: str) -> Bucket:
        login, identity = self._credentials.s3, self._credentials.identity
        if identity is not None:
            # What a webhook puts next to an identity, such as the region of the cluster.
            login = replace(
                login,
                region=identity.get("AWS_REGION", "AWS_DEFAULT_REGION"),
                endpoint=identity.get("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            )
        # Over plain HTTP no secret is sent, only signatures.
        address = endpoint(login.endpoint, "AWS_ENDPOINT_URL", ("https", "http"))
        style = login.addressing_style.lower() or "path"
        if style not in ("path", "virtual"):
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                "AWS_S3_ADDRESSING_STYLE of the credentials Secret must be path or virtual, "
                f"not {style[:20]!r}",
            )
        region = login.region or _REGION
        host = address or httpx.URL(f"https://s3.{region}.amazonaws.com")
        words = Words(
            bucket=f"the bucket {name!r}",
            host=host.netloc.decode(),
            sent=bool(login.access_key_id) or identity is not None,
            keys=_KEYS,
            endpoint="AWS_ENDPOINT_URL",
            account=identity.service_account if identity is not None else "",
        )
        if bool(login.access_key_id) != bool(login.secret_access_key):
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"the credentials Secret has one of {_KEYS} and not the other: give both, or none for a "
                "bucket that everybody may read",
            )
        config: S3Config = {
            "bucket": name,
            "region": region,
            "virtual_hosted_style_request": style == "virtual",
        }
        if address is not None:
            own = address.copy_with(host=f"{name}.{address.host}") if style == "virtual" else address
            config["endpoint"] = str(own).rstrip("/")
        if login.access_key_id:
            config["access_key_id"] = login.access_key_id
            config["secret_access_key"] = login.secret_access_key
        elif identity is not None:
            config.update(identity.of_s3())
        else:
            # Else the client would ask the node's metadata for an identity that is not ours.
            config["skip_signature"] = True
        if login.session_token:
            config["session_token"] = login.session_token
        client = client_options(self._credentials, address is not None and address.scheme == "http")
        store = opened(lambda: S3Store(config=config, client_options=client, retry_config=retries()), words)
        return Bucket(store, Pinning(f"s3://{name}", "?versionId={}"), words)
