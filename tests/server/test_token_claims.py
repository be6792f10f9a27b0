"""Claims are never taken that a library of JWT, which reads the whole token by itself, would refuse."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.access.tokens import SKEW, Issuers, TokenError
from slipway_server.settings import Access, AccessRule, Issuer
from tests.server.tokens import AUDIENCE, ISSUER, Signer, key_set

NOW = time.time()
SIGNER = Signer("EdDSA")
TIMES = st.one_of(
    st.sampled_from([None, True, False, "", "soon", "99999999999", [], {}, 1e300, -1e300, 2**70, 0, -1]),
    st.floats(NOW - 200, NOW + 200).filter(
        lambda at: all(abs(abs(at - NOW) - edge) > 20 for edge in (0, SKEW))
    ),
    st.integers(int(NOW) - 100_000, int(NOW) - 1000),
    st.integers(int(NOW) + 1000, int(NOW) + 100_000),
)
TEXTS = st.sampled_from(["shop", "", None, 1, True, ["shop"], {}, 1.5])
AUDIENCES = st.one_of(
    st.sampled_from([AUDIENCE, "other", "", None, 1, {}, [], True]),
    st.lists(st.sampled_from([AUDIENCE, "other", 1, None, ["x"]]), max_size=3),
)


def issuers(folder: Path, claim: str = "sub") -> Issuers:
    (folder / "sso.json").write_text(key_set(SIGNER.jwk()))
    sso = Issuer("sso", ISSUER, (AUDIENCE,), claim)
    rules = (AccessRule(("*",), ("Infer",)),)
    return Issuers(Access(rules, apiKeys=False, issuers=(sso,)), folder)


def signed(claims: str) -> bytes:
    """A token with these claims, whatever they are."""
    parts = [json.dumps({"alg": "EdDSA", "kid": "k1"}), claims]
    text = b".".join(urlsafe_b64encode(part.encode()).rstrip(b"=") for part in parts)
    return text + b"." + urlsafe_b64encode(SIGNER.private.sign(text)).rstrip(b"=")


def named(found: Issuers, token: bytes) -> str | None:
    try:
        return found.verify(found.claimed(token, time.time())).caller
    except TokenError:
        return None


@settings(deadline=None, max_examples=400)
@given(
    st.fixed_dictionaries(
        {},
        optional={"exp": TIMES, "nbf": TIMES, "iat": TIMES, "aud": AUDIENCES, "sub": TEXTS, "jti": TEXTS},
    )
)
def test_whatever_is_taken_the_library_takes_too(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]
) -> None:
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": int(NOW) + 50_000, "team": "risk"}
    token = signed(json.dumps(good | changed))
    taken = named(issuers(tmp_path_factory.mktemp("keys"), "team"), token)
    try:
        jwt.decode(
            token,
            SIGNER.private.public_key(),
            algorithms=["EdDSA"],
            audience=[AUDIENCE],
            issuer=ISSUER,
            leeway=SKEW,
            options={"require": ["exp", "iss", "aud"]},
        )
    except Exception:
        assert taken is None, changed
    if not changed:
        assert taken == "jwt:sso:risk"


@pytest.mark.parametrize(
    "claims",
    ['"exp":1e999', '"nbf":1e999', '"iat":1e999', '"exp":-1e999', '"exp":NaN', '"nbf":"1"', '"iat":true'],
)
def test_a_time_that_is_none_is_no_time(tmp_path: Path, claims: str) -> None:
    good = f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"shop","exp":{int(NOW) + 5000}'
    assert named(issuers(tmp_path), signed(good + "}")) == "jwt:sso:shop"
    assert named(issuers(tmp_path), signed(f"{good},{claims}}}")) is None


def test_no_byte_of_what_is_signed_or_of_the_signature_may_change(tmp_path: Path) -> None:
    found = issuers(tmp_path)
    token = SIGNER.token().encode()
    assert named(found, token) == "jwt:sso:shop"
    head, claims, signature = token.split(b".")
    for part, others in ((claims, (head, signature)), (signature, (head, claims))):
        for place in range(0, len(part) - 2, 3):
            changed = part[:place] + (b"A" if part[place : place + 1] != b"A" else b"B") + part[place + 1 :]
            parts = [others[0], changed, others[1]] if part is claims else [*others, changed]
            assert named(found, b".".join(parts)) is None
    assert named(found, b".".join([head, claims, signature[:-4]])) is None
    assert named(found, token + b"AAAA") is None
