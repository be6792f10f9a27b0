"""A container that is to serve without credentials does not serve with any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.contract import WITHOUT_CREDENTIALS_ENV, ModelFault
from slipway_server.injected import injected
from tests.server.running import Server


@pytest.mark.parametrize(
    "name",
    [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AZURE_FEDERATED_TOKEN_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_a_server_that_is_given_an_identity_ends_and_names_it(
    model_dirs: Callable[[str], Path], name: str
) -> None:
    environment = {name: "/var/run/secrets/token", WITHOUT_CREDENTIALS_ENV: "true"}
    with Server(model_dirs("identity"), environment=environment) as server:
        assert server.wait() == 1
        outcome = server.last_words().outcome
        assert outcome.kind == "Failed"
        assert outcome.failure.reason is ModelFault.CREDENTIALS_INJECTED
        assert name in outcome.failure.message
        assert "container 'server'" in outcome.failure.message


def test_tokens_that_are_mounted_are_found_wherever_a_webhook_puts_them(tmp_path: Path) -> None:
    assert injected({}, tmp_path) == ""
    assert injected({"AWS_REGION": "eu-central-1", "AWS_ROLE_ARN": ""}, tmp_path / "none") == ""
    token = tmp_path / "eks.amazonaws.com/serviceaccount/token"
    token.parent.mkdir(parents=True)
    # As a kubelet writes it: through links.
    (token.parent / "..data").mkdir()
    (token.parent / "..data/token").write_text("x")
    token.symlink_to("..data/token")
    assert str(token) in injected({}, tmp_path)


def test_others_serve_as_they_did(model_dirs: Callable[[str], Path]) -> None:
    with Server(model_dirs("identity"), environment={"AWS_REGION": "x"}) as server:
        server.wait_until_ready()
