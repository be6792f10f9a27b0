"""The commands of the page on access, as printed, on a real API server; a real model server follows them."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import snippets
from slipway.core.objects.cluster_keys import as_text, cluster_keys
from tests.docs.access import NAME, NAMESPACE, PAGE, Pod, access_of, printed
from tests.policies.conftest import Installed
from tests.policies.reader import Reader
from tests.server.test_access import eventually
from tests.unit.core.tables import OWNER

KEYS, _, _, SERVICE_ACCOUNTS, _ = printed()
#: In the order of the page; a command that is named first and explained later stands twice.
NEW, LIST, NEWER, REVOKE_OLD, REVOKE, TOKEN = (
    command.text for command in snippets.inline_commands(PAGE, "kubectl")
)


def _hashes(installed: Installed, namespace: str) -> dict[str, dict[str, str]]:
    """The Secret of the spec, as pods have it."""
    secret = access_of(KEYS).apiKeys.secretRef.name  # type: ignore[union-attr]
    live = installed.api.must("GET", f"/api/v1/namespaces/{namespace}/secrets/{secret}")
    return {secret: {name: b64decode(text).decode() for name, text in (live.get("data") or {}).items()}}


def test_keys_are_made_listed_replaced_and_revoked_as_the_page_says(
    installed: Installed, tmp_path: Path
) -> None:
    assert f"kubectl slipway key new {NAME} shop" == NEW == NEWER
    namespace = installed.namespace()
    installed.model(namespace, yaml.safe_load(KEYS.text))
    reader = Reader(installed.api, tmp_path, namespace)
    first = reader.types(NEW).strip()
    with Pod(tmp_path, access_of(KEYS), _hashes(installed, namespace)) as pod:
        pod.server.wait_until_ready()

        def follows(*codes: int) -> None:
            """A kubelet brings the Secret; from then on it takes a second."""
            pod.mount(_hashes(installed, namespace))
            eventually(lambda: tuple(pod.code(key) for key in (first, second, None)) == codes, 20)

        second = "x" * 43
        follows(200, 401, 401)
        assert reader.types(LIST).split() == [
            "CALLER",
            "KEY",
            "shop",
            sha256(first.encode()).hexdigest()[:12],
        ]
        second = reader.types(NEWER).strip()
        follows(200, 200, 401)
        assert "1 key of shop revoked, 1 left" in reader.types(REVOKE_OLD)
        follows(401, 200, 401)
        assert "none is left" in reader.types(REVOKE)
        # Where no usable key is left, whoever shows one is told so, and nobody is let in.
        follows(503, 503, 401)


@pytest.fixture
def shop(installed: Installed) -> str:
    """The namespace of the page's client, with two ServiceAccounts."""
    namespace = TOKEN.partition(" -n ")[2].split()[0]
    installed.api.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for name in ("checkout", "other"):
        where = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        installed.api.must("POST", where, {"metadata": {"name": name}})
    return namespace


def test_a_token_that_is_made_by_hand_as_the_page_says_lets_its_service_account_in(
    installed: Installed, shop: str, tmp_path: Path
) -> None:
    audience = f"--audience slipway.dev/{NAMESPACE}"
    assert f"kubectl create token checkout -n {shop} {audience}" == TOKEN
    shown: list[dict[str, Any]] = [
        installed.api.must("GET", path) for path in ("/.well-known/openid-configuration", "/openid/v1/jwks")
    ]
    keys = cluster_keys(OWNER, as_text(*shown))
    reader = Reader(installed.api, tmp_path)
    with Pod(tmp_path, access_of(SERVICE_ACCOUNTS), {keys["metadata"]["name"]: keys["data"]}) as pod:
        pod.server.wait_until_ready()
        assert pod.code(reader.types(TOKEN).strip()) == 200
        assert pod.code(reader.types(TOKEN.replace("checkout", "other")).strip()) == 403
        # Tokens for the API server, and for the models of another namespace.
        for other in (TOKEN.removesuffix(f" {audience}"), f"{TOKEN}-2"):
            assert pod.code(reader.types(other).strip()) == 401, other
        assert pod.code() == 401
