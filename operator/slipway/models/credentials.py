"""What the credentials Secret holds, as ``envFrom`` with a prefix brings it into the container."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from slipway.contract import CREDENTIAL_ENV_PREFIX, ModelFault
from slipway.models.faults import ModelError
from slipway.models.identity import Identity

#: A secret shorter than this is not looked for in messages: it would blot out parts of ordinary words.
_SHORTEST_REDACTED = 4


#: Of a pull secret.
_PASSWORDS = re.compile(r'"(?:auth|password|identitytoken)"\s*:\s*"([^"]+)"')


@dataclass(frozen=True)
class Login:
    """A username and password, or a bearer token; with neither, requests go out without credentials."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def authorization(self) -> str | None:
        """The value of the ``Authorization`` header. A username wins over a token, as in MLflow's client."""
        if self.username:
            pair = f"{self.username}:{self.password}".encode()
            return "Basic " + base64.b64encode(pair).decode("ascii")
        return f"Bearer {self.token}" if self.token else None


@dataclass(frozen=True)
class S3Login:
    """How S3 is entered, and where it is; with no key at all, as everybody."""

    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""
    addressing_style: str = ""


@dataclass(frozen=True)
class AzureLogin:
    """How an account of Azure's is entered, and where its blobs are; with no key at all, as everybody."""

    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)
    endpoint: str = ""


@dataclass(frozen=True)
class Credentials:
    """Everything that one credentials Secret may hold; each key is optional."""

    tracking_uri: str = ""
    mlflow: Login = Login()
    http: Login = Login()
    git: Login = Login()
    dvc_remote: str = ""
    oci: Login = Login()
    pull_secret: str = field(default="", repr=False)
    s3: S3Login = S3Login()
    gs_key: str = field(default="", repr=False)
    gs_endpoint: str = ""
    azure: AzureLogin = AzureLogin()
    ca_certificates: str = field(default="", repr=False)
    #: Instead of a Secret.
    identity: Identity | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Credentials:
        """Read them from environment variables; a line break at the end of a value is dropped."""

        def key(*names: str) -> str:
            values = (environment.get(CREDENTIAL_ENV_PREFIX + name, "").strip() for name in names)
            return next((value for value in values if value), "")

        return cls(
            tracking_uri=key("MLFLOW_TRACKING_URI"),
            mlflow=Login(
                username=key("MLFLOW_TRACKING_USERNAME"),
                password=key("MLFLOW_TRACKING_PASSWORD"),
                token=key("MLFLOW_TRACKING_TOKEN"),
            ),
            http=Login(username=key("HTTP_USERNAME"), password=key("HTTP_PASSWORD"), token=key("HTTP_TOKEN")),
            git=Login(
                # A token is a password in Git: hosts take it with any name, GitHub's apps with this one.
                username=key("GIT_USERNAME") or ("x-access-token" if key("GIT_TOKEN") else ""),
                password=key("GIT_PASSWORD", "GIT_TOKEN"),
            ),
            dvc_remote=key("DVC_REMOTE_URL"),
            oci=Login(username=key("OCI_USERNAME"), password=key("OCI_PASSWORD")),
            pull_secret=key(".dockerconfigjson"),
            s3=S3Login(
                access_key_id=key("AWS_ACCESS_KEY_ID"),
                secret_access_key=key("AWS_SECRET_ACCESS_KEY"),
                session_token=key("AWS_SESSION_TOKEN"),
                region=key("AWS_REGION", "AWS_DEFAULT_REGION"),
                endpoint=key("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
                addressing_style=key("AWS_S3_ADDRESSING_STYLE"),
            ),
            gs_key=key("GOOGLE_SERVICE_ACCOUNT_KEY"),
            gs_endpoint=key("GOOGLE_ENDPOINT_URL"),
            azure=AzureLogin(
                key=key("AZURE_STORAGE_KEY"),
                sas=key("AZURE_STORAGE_SAS_TOKEN"),
                endpoint=key("AZURE_STORAGE_ENDPOINT"),
            ),
            ca_certificates=key("CA_CERT", "ca.crt"),
            identity=Identity.of(environment),
        )

    def trust(self) -> ssl.SSLContext:
        """The certificate authorities of the image (or of ``SSL_CERT_FILE``) and those of the Secret.

        Raises :class:`ModelError` where the Secret's are not PEM.
        """
        # A claim is read without a client of the web.
        import httpx

        context = httpx.create_ssl_context()
        if self.ca_certificates:
            try:
                context.load_verify_locations(cadata=self.ca_certificates)
            except (ssl.SSLError, ValueError) as error:
                raise ModelError(
                    ModelFault.MODEL_ACCESS_DENIED,
                    "the key CA_CERT (or ca.crt) of the credentials Secret is not a PEM certificate: "
                    "it must begin with -----BEGIN CERTIFICATE-----",
                ) from error
        return context

    def redacted(self, text: str) -> str:
        """The text without any secret of these credentials, whoever echoed it."""
        for secret in self._secrets():
            if len(secret) >= _SHORTEST_REDACTED:
                text = text.replace(secret, "***")
        return text

    def _secrets(self) -> Iterator[str]:
        for login in (self.mlflow, self.http, self.git, self.oci):
            yield from (login.password, login.token, (login.authorization() or "").partition(" ")[2])
        yield from _PASSWORDS.findall(self.pull_secret)
        yield from (self.s3.secret_access_key, self.s3.session_token, self.gs_key)
        yield from (self.azure.key, self.azure.sas, *parse_qs(self.azure.sas).get("sig", ()))
