"""TLS of the server from a mounted Secret, and clients who are known by their certificates."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway.names import CLIENT_CA_FILE
from slipway_server.rpc import open_inference_pb2 as oip
from tests.server.running import Server
from tests.server.test_access import Mounted, X, asked, bearer, eventually, hash_of, raw_request
from tests.server.test_grpc import GOOD, SERVICE, request

Dirs = Callable[[str], Path]
APP = "spiffe://example.org/ns/shop/sa/checkout"


class Authority:
    """Signs certificates with any names, as trustme does not."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
        made = self._builder(self._name, self._key.public_key(), 3600)
        made = made.add_extension(x509.BasicConstraints(True, None), True)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        signs = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage)
        self._own = made.add_extension(signs, True).sign(self._key, hashes.SHA256())
        self.pem = self._own.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, *names: x509.GeneralName, cn: str = "app", seconds: float = 3600) -> tuple[str, str]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
        made = self._builder(subject, key.public_key(), seconds)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
        )
        certificate = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return certificate.decode(), key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def _builder(self, subject: x509.Name, key: Any, seconds: float) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(seconds=seconds))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        )


def uri(value: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(value)


def dns(value: str) -> x509.GeneralName:
    return x509.DNSName(value)


class Secured:
    """A server with TLS, an API key, and an authority whose clients are known by their certificates."""

    def __init__(self, root: Path, dirs: Dirs) -> None:
        self.root, self.key = root, secrets.token_urlsafe(32)
        self.own, self.clients = Authority(), Authority()
        self.tls, self.keys, self.issuers = (Mounted(root / name) for name in ("tls", "keys", "issuers"))
        self.renew()
        self.keys.put(app=hash_of(self.key))
        self.issuers.put(**{CLIENT_CA_FILE: self.clients.pem})
        rules = [
            {"callers": [APP, "key:app", "spiffe://example.org/ns/all/*"], "actions": ["Infer", "Metadata"]},
            {"callers": ["dns:batch.example.com"], "actions": ["Infer"]},
        ]
        environment = {
            "SLIPWAY_TLS_DIR": str(self.tls.directory),
            "SLIPWAY_ACCESS_KEYS_DIR": str(self.keys.directory),
            "SLIPWAY_ACCESS_ISSUERS_DIR": str(self.issuers.directory),
        }
        access = {"allow": rules, "tls": True, "clientCertificates": True}
        self.server = Server(dirs("identity"), environment=environment, access=access)
        self.url = f"https://localhost:{self.server.http_port}"
        eventually(self.is_ready, 20)

    def renew(self) -> None:
        certificate, key = self.own.issue(dns("localhost"), cn="server")
        self.tls.put(**{"tls.crt": certificate, "tls.key": key, "ca.crt": self.own.pem})

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/health/ready", verify=self.context()).status_code == 200
        except httpx.TransportError:
            return False

    def context(self, shown: tuple[str, str] | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=self.own.pem)
        if shown is not None:
            path = self.root / f"{secrets.token_hex(4)}.pem"
            path.write_text("".join(shown))
            made.load_cert_chain(path)
        return made

    def code(self, *names: x509.GeneralName, path: str = "infer", **headers: str) -> int:
        """What a client with a certificate of these names is answered."""
        return self.answer(self.context(self.clients.issue(*names)), path, **headers)

    def answer(self, context: ssl.SSLContext, path: str = "infer", **headers: str) -> int:
        with httpx.Client(verify=context) as client:
            if path == "infer":
                url = f"{self.url}{self.server.infer_path}"
                return client.post(url, json={"inputs": [X]}, headers=headers).status_code
            return client.get(f"{self.url}{path}", headers=headers).status_code

    def is_taken(self, shown: tuple[str, str]) -> bool:
        try:
            return self.answer(self.context(shown)) == 200
        except httpx.TransportError:
            return False

    def status(self, shown: tuple[str, str] | None, *metadata: tuple[str, str]) -> grpc.StatusCode:
        certificate, key = shown or (None, None)
        credentials = grpc.ssl_channel_credentials(
            self.own.pem.encode(), key and key.encode(), certificate and certificate.encode()
        )
        with grpc.secure_channel(f"localhost:{self.server.grpc_port}", credentials) as made:
            call = made.unary_unary(f"{SERVICE}/ModelInfer", None, oip.ModelInferResponse.FromString)
            try:
                call(request(GOOD).SerializeToString(), timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                return error.code()  # type: ignore[no-any-return]
        return grpc.StatusCode.OK

    def open(self, shown: tuple[str, str] | None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.server.http_port), timeout=10)
        return self.context(shown).wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, model_dirs: Dirs) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"), model_dirs)
    yield made
    made.server.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("names", "infer", "metadata"),
    [
        ([uri(APP)], 200, 200),
        ([uri("spiffe://example.org/ns/all/sa/x")], 200, 200),
        ([uri("spiffe://example.org/ns/allx/sa/x")], 403, 403),
        ([uri("spiffe://example.com/ns/shop/sa/checkout")], 403, 403),
        ([uri(f"{APP}/more")], 403, 403),
        ([dns("batch.example.com")], 200, 403),
        ([dns("BATCH.example.com")], 200, 403),
        ([dns("other.example.com"), dns("batch.example.com")], 200, 403),
        ([dns("other.example.com")], 403, 403),
        # With a URI it is that one, or nobody.
        ([uri("spiffe://example.org/other"), dns("batch.example.com")], 403, 403),
        ([uri(APP), uri("spiffe://example.org/other")], 401, 401),
        ([uri("https://batch.example.com"), dns("batch.example.com")], 401, 401),
        ([dns("*.example.com")], 401, 401),
        ([x509.RFC822Name("batch@example.com")], 401, 401),
        ([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], 401, 401),
        ([], 401, 401),
    ],
)
def test_a_certificate_names_its_caller_by_spiffe_or_by_dns_and_by_nothing_else(
    secured: Secured, names: list[x509.GeneralName], infer: int, metadata: int
) -> None:
    assert secured.code(*names) == infer
    assert secured.code(*names, path="/v2/models/fraud") == metadata
    assert secured.code(*names, path="/v2/health/ready") == 200
    expected = {200: grpc.StatusCode.OK, 401: grpc.StatusCode.UNAUTHENTICATED}
    status = secured.status(secured.clients.issue(*names))
    assert status is expected.get(infer, grpc.StatusCode.PERMISSION_DENIED)


def test_a_common_name_is_nobody_and_probes_need_no_certificate(secured: Secured) -> None:
    for name in ("dns:batch.example.com", "batch.example.com", APP):
        assert secured.answer(secured.context(secured.clients.issue(cn=name[:64]))) == 401
    assert secured.answer(secured.context(), "/v2/health/live") == 200
    assert secured.answer(secured.context()) == 401
    assert secured.status(None) is grpc.StatusCode.UNAUTHENTICATED
    # Not by the clear, and metrics as before.
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secured.server.http_port}/v2/health/live")
    assert httpx.get(f"{secured.server.admin}/metrics").status_code == 200


def test_certificates_of_others_are_no_connection(secured: Secured) -> None:
    for shown in (
        Authority().issue(uri(APP)),
        secured.own.issue(uri(APP)),
        secured.clients.issue(uri(APP), seconds=-60),
    ):
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            secured.answer(secured.context(shown))
        assert secured.status(shown) is grpc.StatusCode.UNAVAILABLE


def test_a_key_that_is_shown_counts_more_than_the_certificate_and_has_to_be_good(secured: Secured) -> None:
    batch = dns("batch.example.com")
    assert secured.code(batch, path="/v2/models/fraud", **bearer(secured.key)) == 200
    assert secured.code(uri(APP), **bearer("wrong")) == 401
    assert secured.answer(secured.context(), **bearer(secured.key)) == 200
    metadata = ("authorization", f"Bearer {secured.key}")
    assert secured.status(None, metadata) is grpc.StatusCode.OK
    wrong = ("authorization", "Bearer wrong")
    assert secured.status(secured.clients.issue(batch), wrong) is grpc.StatusCode.UNAUTHENTICATED


def test_the_same_bytes_are_another_caller_on_another_connection(secured: Secured) -> None:
    shown = {name: secured.clients.issue(name) for name in (uri(APP), dns("other.example.com"))}
    content, keyed = raw_request(secured.server, None), raw_request(secured.server, secured.key)
    with (
        secured.open(shown[uri(APP)]) as good,
        secured.open(shown[dns("other.example.com")]) as bad,
        secured.open(None) as none,
    ):
        for _ in range(5):
            assert [asked(each, content) for each in (good, bad, none)] == [200, 403, 401]
            assert [asked(each, keyed) for each in (good, bad, none)] == [200] * 3


def test_the_servers_certificate_is_renewed_without_an_end_to_connections(secured: Secured) -> None:
    content = raw_request(secured.server, secured.key)

    def serial() -> Any:
        with secured.open(None) as connection:
            return (connection.getpeercert() or {})["serialNumber"]

    with secured.open(None) as kept:
        assert asked(kept, content) == 200
        first = serial()
        secured.renew()
        eventually(lambda: serial() != first, 5)
        assert asked(kept, content) == 200
        # What is no certificate changes nothing.
        second = serial()
        secured.tls.put(**{"tls.crt": "x", "tls.key": "y"})
        time.sleep(1.5)
        assert serial() == second
        assert secured.answer(secured.context(), **bearer(secured.key)) == 200
        secured.renew()
        eventually(lambda: serial() != second, 5)


def test_an_authority_that_is_taken_out_names_nobody_any_more_on_open_connections_too(
    secured: Secured,
) -> None:
    shown, other = secured.clients.issue(uri(APP)), Authority()
    content = raw_request(secured.server, None)
    for instead in ({CLIENT_CA_FILE: other.pem}, {CLIENT_CA_FILE: "nothing"}, {}):
        with secured.open(shown) as kept:
            assert asked(kept, content) == 200
            secured.issuers.put(**instead)
            # An idle connection is closed.
            kept.settimeout(5)
            assert kept.recv(1) == b""
        try:
            assert secured.answer(secured.context(shown)) == 401
        except (httpx.TransportError, ssl.SSLError):
            assert instead.get(CLIENT_CA_FILE) == other.pem
        assert secured.answer(secured.context(), **bearer(secured.key)) == 200
        if instead.get(CLIENT_CA_FILE) == other.pem:
            eventually(lambda: secured.is_taken(other.issue(uri(APP))), 5)
        secured.issuers.put(**{CLIENT_CA_FILE: secured.clients.pem})
        eventually(lambda: secured.is_taken(shown), 5)


def test_a_certificate_that_expires_names_nobody_on_a_connection_that_is_open(secured: Secured) -> None:
    content = raw_request(secured.server, None)
    with secured.open(secured.clients.issue(uri(APP), seconds=3)) as kept:
        assert asked(kept, content) == 200
        time.sleep(3.2)
        assert asked(kept, content) == 401
