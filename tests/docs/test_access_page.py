"""What the page on access prints of a spec, told to a real model server: who is let in, and who is not.

The page's commands are typed in tests/policies/test_access_page.py, on a real API server.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx
import pytest

from e2e.snippets import Block
from slipway.core.objects.issuer_keys import key_set_text, source_of
from tests.docs.access import NAME, Pod, X, access_of, printed
from tests.server.test_access import eventually, hash_of
from tests.server.test_certificates import Authority, dns, uri
from tests.server.tokens import Signer, key_set

KEYS, ISSUER, ISSUER_BY_ADDRESS, SERVICE_ACCOUNTS, TLS = printed()
FEEDBACK = {"token": "x", "label": 1}


def test_keys_let_in_those_whom_a_rule_names_for_what_it_names(tmp_path: Path) -> None:
    hashes = {"shop": hash_of("s" * 43), "back-office": hash_of("b" * 43), "batch": hash_of("c" * 43)}
    with Pod(tmp_path, access_of(KEYS), {"fraud-keys": hashes}) as pod:
        pod.server.wait_until_ready()
        feedback = f"/v2/models/{NAME}/feedback"
        for key, infers, labels in (("s", 200, 403), ("b", 200, 400), ("c", 403, 403)):
            assert pod.code(key * 43) == infers, key
            # It is no answer's token: whoever may send labels learns so.
            assert pod.code(key * 43, feedback, FEEDBACK) == labels, key
            assert pod.code(key * 43, f"/v2/models/{NAME}") == 200, key
        assert pod.code() == pod.code("x" * 43) == pod.code(None, f"/v2/models/{NAME}") == 401


@pytest.mark.parametrize("block", [ISSUER, ISSUER_BY_ADDRESS], ids=str)
def test_tokens_of_an_issuer_let_in_whom_they_name(block: Block, tmp_path: Path) -> None:
    access = access_of(block)
    signer, [issuer] = Signer(), access.issuers
    by_reference = issuer.jwks.uri is None
    # Whoever keeps it: what the operator reads at an address it puts there as it was shown.
    kept = source_of(issuer, NAME).configMapKeyRef
    assert kept is not None
    objects = {kept.name: {kept.key: key_set_text(json.loads(key_set(signer.jwk())))}}
    good = {"iss": "https://sso.example.com", "aud": "fraud.payments.example.com", "groups": ["risk", "all"]}
    with Pod(tmp_path, access, objects) as pod:
        pod.server.wait_until_ready()
        assert pod.code(signer.token(good, sub="checkout")) == 200
        # The second block has no rules, and asks for no claim.
        assert pod.code(signer.token(good, sub="other")) == (403 if by_reference else 200)
        groups = signer.token({**good, "groups": ["sales"]}, sub="checkout")
        assert pod.code(groups) == (401 if by_reference else 200)
        for wrong in ({"aud": "another"}, {"iss": "https://sso.example.com/"}, {"exp": 1}):
            assert pod.code(signer.token({**good, **wrong}, sub="checkout")) == 401, wrong
        assert pod.code(Signer().token(good, sub="checkout")) == pod.code() == 401


def test_certificates_let_in_whom_they_name_and_keys_go_on(tmp_path: Path) -> None:
    own, clients = Authority(), Authority()
    certificate, key = own.issue(dns("localhost"), cn="server")
    objects = {
        "fraud-keys": {"shop": hash_of("s" * 43)},
        "fraud-tls": {"tls.crt": certificate, "tls.key": key},
        "clients-ca": {"ca.crt": clients.pem},
    }
    with Pod(tmp_path, access_of(TLS), objects) as pod:
        where = f"https://localhost:{pod.server.http_port}"

        def code(name: str | None = None, key: str | None = None, path: str = "") -> int:
            context = ssl.create_default_context(cadata=own.pem)
            if name is not None:
                (tmp_path / "client.pem").write_text("".join(clients.issue(uri(name))))
                context.load_cert_chain(tmp_path / "client.pem")
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            with httpx.Client(verify=context, headers=headers) as client:
                if path:
                    return client.get(f"{where}{path}").status_code
                return client.post(f"{where}{pod.server.infer_path}", json=X).status_code

        def is_ready() -> bool:
            try:
                return code(path="/v2/health/ready") == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, 30)
        assert code("spiffe://example.org/ns/shop/sa/checkout") == code(key="s" * 43) == 200
        assert code("spiffe://example.org/ns/shop/sa/other") == 403
        assert code() == code(key="x" * 43) == 401
        with pytest.raises(httpx.TransportError):
            pod.code("s" * 43)
