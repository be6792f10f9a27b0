"""An issuer of ServiceAccounts' tokens, as a cluster is one, and services that take them for others."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.models.servers import listening
from tests.ports import free_port

AUDIENCE = "sts.amazonaws.com"
SUBJECT = "system:serviceaccount:payments:reader"


def _encoded(value: bytes | dict[str, object]) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(frozen=True)
class Issuer:
    """Signs tokens; ``url`` has the keys that prove them below ``/jwks``."""

    url: str
    key: rsa.RSAPrivateKey

    def token(
        self,
        subject: str = SUBJECT,
        audience: str = AUDIENCE,
        key: rsa.RSAPrivateKey | None = None,
        issued_by: str = "",
    ) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": issued_by or self.url,
            "sub": subject,
            "aud": audience if issued_by else [audience],
            "iat": now,
            "nbf": now - 5,
            "exp": now + 3600,
        }
        head = _encoded({"alg": "RS256", "typ": "JWT", "kid": "one"})
        signed = f"{head}.{_encoded(claims)}"
        mark = (key or self.key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(mark)}"

    def jwks(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        parts = {"n": numbers.n, "e": numbers.e}
        key: dict[str, object] = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": "one",
            **{
                name: _encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))
                for name, number in parts.items()
            },
        }
        return json.dumps({"keys": [key]}).encode()


def made_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@contextmanager
def issuer(authority: trustme.CA) -> Iterator[Issuer]:
    """One that is reached over TLS."""
    port = free_port()
    made = Issuer(f"https://localhost:{port}", made_key())
    pages = {
        "/jwks": made.jwks(),
        "/.well-known/openid-configuration": json.dumps(
            {
                "issuer": made.url,
                "jwks_uri": f"{made.url}/jwks",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        ).encode(),
    }
    with exchange(authority, lambda seen: (200, pages.get(seen.path, b"{}")), port):
        yield made


@dataclass(frozen=True)
class Seen:
    """A request to a service that exchanges tokens."""

    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Exchange:
    """A service and what it was asked."""

    url: str
    seen: list[Seen] = field(default_factory=list)


@contextmanager
def exchange(
    authority: trustme.CA, answer: Callable[[Seen], tuple[int, bytes]], port: int | None = None
) -> Iterator[Exchange]:
    """A service over TLS that answers as it is told."""
    port = port or free_port()
    service = Exchange(f"https://localhost:{port}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            service.seen.append(seen)
            status, content = answer(seen)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 12:00:00 GMT")
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with listening(port, Handler, authority):
        yield service


def roles(made: Issuer, authority_file: str, role: str = "reader") -> dict[str, object]:
    """For SeaweedFS: a role that reads the bucket ``models``, for the one ServiceAccount."""
    resources = ["arn:aws:s3:::models", "arn:aws:s3:::models/*"]
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "seaweedfs-sts",
            "signingKey": base64.b64encode(b"of the tests of Slipway only, 32 b").decode(),
        },
        "providers": [
            {
                "name": "kubernetes",
                "type": "oidc",
                "enabled": True,
                "config": {
                    "issuer": made.url,
                    "clientId": AUDIENCE,
                    "jwksUri": f"{made.url}/jwks",
                    "tlsCaCert": authority_file,
                },
            }
        ],
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roleStore": {"storeType": "memory"},
        "roles": [
            {
                "roleName": role,
                "roleArn": f"arn:aws:iam::role/{role}",
                "trustPolicy": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Federated": "kubernetes"},
                            "Action": ["sts:AssumeRoleWithWebIdentity"],
                            "Condition": {"StringEquals": {"oidc:sub": SUBJECT}},
                        }
                    ],
                },
                "attachedPolicies": ["read-models"],
            }
        ],
        "policies": [
            {
                "name": "read-models",
                "document": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": ["s3:GetObject", "s3:ListBucket", "s3:HeadObject"],
                            "Resource": resources,
                        }
                    ],
                },
            }
        ],
    }
