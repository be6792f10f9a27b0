"""The identity in a cloud that a webhook gives the pod's ServiceAccount: tokens to exchange, no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.contract import STORE_IDENTITY_ENV, ModelFault
from slipway.models.faults import ModelError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, S3Config

_S3_TOKEN, _S3_ROLE = "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"
_S3_AGENT, _S3_AGENT_TOKEN = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_AZURE = ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")


@dataclass(frozen=True)
class Identity:
    """A ServiceAccount, and what was put into the environment for it."""

    service_account: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Identity | None:
        """The identity that stores are to be entered by; None where they are not."""
        name = environment.get(STORE_IDENTITY_ENV, "")
        return cls(name, environment) if name else None

    def get(self, *names: str) -> str:
        """The first of these variables that has a value."""
        return next((found for name in names if (found := self.environment.get(name, "").strip())), "")

    def of_s3(self) -> S3Config:
        """What opens S3: a role to assume (IRSA), or the agent of EKS Pod Identity."""
        if self.get(_S3_ROLE) and self.get(_S3_TOKEN):
            config: S3Config = {
                "role_arn": self.get(_S3_ROLE),
                "web_identity_token_file": self._file(_S3_TOKEN),
                "role_session_name": self.get("AWS_ROLE_SESSION_NAME") or "slipway",
            }
            return config
        if self.get(_S3_AGENT):
            found: S3Config = {"container_credentials_full_uri": self.get(_S3_AGENT)}
            if self.get(_S3_AGENT_TOKEN):
                found["container_authorization_token_file"] = self._file(_S3_AGENT_TOKEN)
            return found
        raise self._missing(
            f"{_S3_ROLE} and {_S3_TOKEN}, or {_S3_AGENT}",
            "annotate it with eks.amazonaws.com/role-arn, or associate it with a role (EKS Pod Identity)",
        )

    def of_azure(self) -> AzureConfig:
        """What opens Azure: a token of the ServiceAccount that Entra ID trusts."""
        if not all(self.get(name) for name in _AZURE):
            raise self._missing(
                ", ".join(_AZURE),
                "annotate it with azure.workload.identity/client-id, and give pods the label "
                'azure.workload.identity/use: "true" by spec.runtime.pod.labels',
            )
        config: AzureConfig = {
            "federated_token_file": self._file(_AZURE[0]),
            "client_id": self.get(_AZURE[1]),
            "tenant_id": self.get(_AZURE[2]),
        }
        if self.get("AZURE_AUTHORITY_HOST"):
            config["authority_host"] = self.get("AZURE_AUTHORITY_HOST")
        return config

    def _file(self, name: str) -> str:
        path = self.get(name)
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"{name} of the ServiceAccount {self.service_account!r} names {path[:200]}, which cannot be "
                f"read ({error.strerror}): see what puts it there, and that the user 65532 may read it",
            ) from None
        return path

    def _missing(self, names: str, fix: str) -> ModelError:
        return ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"the ServiceAccount {self.service_account!r} has no identity for this store, as the pod has no "
            f"{names}: {fix}, and look that the webhook for it runs",
        )
