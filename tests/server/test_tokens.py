"""Tokens of issuers and of ServiceAccounts: who is let in by them, and who is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest

from slipway.contract import ModelFault
from slipway.names import CLUSTER_ISSUER
from slipway_server.access.gate import MOST_TOKEN_BYTES, Gate
from slipway_server.access.jwks import ALGORITHMS, MOST_BYTES, MOST_KEYS, read_key_set
from slipway_server.access.tokens import SKEW, Issuers, TokenError
from slipway_server.access.verified import MOST_TOKENS, WRONG_AT_ONCE, WRONG_PER_SECOND
from slipway_server.errors import Reason, RequestError
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.settings import Access, AccessLimits, AccessRule, CallerLimits, Issuer, RequiredClaim
from slipway_server.wire.head import Head
from tests.server.running import Server
from tests.server.test_access import (
    ALL,
    PATHS,
    Mounted,
    answered,
    asked,
    bearer,
    code_of,
    eventually,
    hash_of,
    infer,
    raw_request,
    refusals,
    talk,
)
from tests.server.test_grpc import GOOD, request
from tests.server.tokens import AUDIENCE, ISSUER, Signer, key_set

Dirs = Callable[[str], Path]
CLUSTER = "https://kubernetes.default.svc.cluster.local"
SERVICE_ACCOUNTS = "slipway.dev/payments"
SSO = Issuer("sso", ISSUER, (AUDIENCE, "other"))
EVERYBODY = (AccessRule(("*",), ALL),)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Doorkeeper:
    """A gate with one issuer and the cluster's own tokens, and a clock that a test turns."""

    def __init__(self, root: Path, *rules: AccessRule, **more: Any) -> None:
        self.signer, self.cluster = Signer(), Signer("RS256", "cluster-1")
        self.mounted = Mounted(root / "issuers")
        self.put(self.signer.jwk())
        access = Access(
            rules or EVERYBODY,
            **{"apiKeys": False, "issuers": (SSO,), "serviceAccountAudience": SERVICE_ACCOUNTS, **more},
        )
        self.clock = Clock()
        self.refused: list[Reason] = []
        self.gate = Gate(access, root / "keys", root / "issuers", self.refused.append, self.clock)

    def put(self, *keys: dict[str, Any]) -> None:
        self.mounted.put(
            **{
                "sso.json": key_set(*keys),
                f"{CLUSTER_ISSUER}.json": key_set(self.cluster.jwk(), issuer=CLUSTER),
            }
        )

    def name(self, token: str, peer: str = "") -> str:
        """The caller's name, or the status of the refusal."""
        head = head_of(token)
        head.peer = peer
        try:
            self.gate.admit(head, "Infer", 0.0)
        except RequestError as error:
            return str(error.status)
        return str(head.caller.name)

    def account(self, namespace: str = "shop", name: str = "checkout", **more: Any) -> str:
        claims = {
            "iss": CLUSTER,
            "aud": [SERVICE_ACCOUNTS],
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return self.cluster.token(claims, **more)


def head_of(token: str) -> Head:
    return Head("POST", b"/v2/models/fraud/infer", [(b"authorization", f"Bearer {token}".encode())])


@pytest.fixture
def keeper(tmp_path: Path) -> Doorkeeper:
    return Doorkeeper(tmp_path)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("kid", ["k", None])
def test_a_token_signed_in_each_way_that_is_taken_names_its_caller(
    keeper: Doorkeeper, algorithm: str, kid: str | None
) -> None:
    signer = Signer(algorithm, kid)
    keeper.put(signer.jwk())
    keeper.gate.follow(0.0)
    assert keeper.name(signer.token()) == "jwt:sso:shop"
    assert keeper.name(signer.token(aud=["x", "other"])) == "jwt:sso:shop"
    # From the second time on it is known by its hash.
    token = signer.token(sub="again")
    assert [keeper.name(token) for _ in range(3)] == ["jwt:sso:again"] * 3


def test_the_clusters_tokens_name_service_accounts_and_nothing_else(keeper: Doorkeeper) -> None:
    assert keeper.name(keeper.account()) == "system:serviceaccount:shop:checkout"
    for subject in ("system:serviceaccount:shop", "system:node:a", "system:serviceaccount:shop:a:b", "shop"):
        token = keeper.cluster.token({"iss": CLUSTER, "aud": SERVICE_ACCOUNTS, "sub": subject})
        assert keeper.name(token) == "401", subject
    # A token of the one issuer says nothing with the keys of the other.
    assert (
        keeper.name(keeper.signer.token(iss=CLUSTER, aud=SERVICE_ACCOUNTS, sub="system:serviceaccount:a:b"))
        == "401"
    )
    assert keeper.name(keeper.cluster.token()) == "401"
    # What an API server takes is nothing here.
    assert (
        keeper.name(
            keeper.cluster.token({"iss": CLUSTER, "aud": CLUSTER, "sub": "system:serviceaccount:a:b"})
        )
        == "401"
    )


def forged(algorithm: str, secret: bytes, **more: Any) -> str:
    """A token with a HMAC, as no library of good repute would make one."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60, **more}
    text = part({"alg": algorithm, "kid": "k1"}) + b"." + part(claims)
    mac = hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def bad_tokens(signer: Signer) -> Iterator[tuple[str, str]]:
    """Each with what is wrong with it."""
    good, now = signer.token(), time.time()
    head, claims, signature = good.split(".")
    other = signer.token(sub="admin").split(".")
    yield "no signature", f"{head}.{claims}."
    yield "two parts", f"{head}.{claims}"
    yield "four parts", f"{good}.{signature}"
    yield "five parts, as an encrypted one", f"{good}.{signature}.{signature}"
    yield "other claims", f"{head}.{other[1]}.{signature}"
    yield "a changed signature", good[:-8] + ("A" * 8 if good[-8:] != "A" * 8 else "B" * 8)
    yield "another key with the same id", Signer().token()
    yield "no such key", Signer(kid="k2").token()
    yield "expired", signer.token(exp=now - SKEW - 1)
    yield "expired long ago", signer.token(exp=0)
    yield "not yet good", signer.token(nbf=now + SKEW + 5)
    yield "issued tomorrow", signer.token(iat=now + 86_400)
    yield "another audience", signer.token(aud="fraud2")
    yield "other audiences", signer.token(aud=["a", "b"])
    yield "no audience", signer.token(aud=[])
    yield "another issuer", signer.token(iss="https://sso.example.com/")
    yield "no issuer's name", signer.token(iss="")
    for claim in ("exp", "aud", "iss", "sub"):
        yield f"without {claim}", signer.token(without=(claim,))
    for claim, values in {
        "exp": ["never", True, None, [1], "99999999999"],
        "nbf": ["soon", [1], {}],
        "aud": [1, None, {"fraud": 1}, [["fraud"]], True],
        "iss": [1, None, [ISSUER]],
        "sub": [1, None, "", [], "a\nb", "\0", "x" * 257],
    }.items():
        for value in values:
            made = jwt.api_jws.encode(
                json.dumps(
                    {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": now + 60, claim: value}
                ).encode(),
                signer.private,
                signer.algorithm,
                {"kid": "k1"},
            )
            yield f"{claim} is {value!r}"[:40], made
    yield "a header that is to be understood", signer.token(headers={"crit": ["exp"], "exp": 1})
    for header in ({"b64": True}, {"b64": False, "crit": ["b64"]}, {"crit": []}, {"kid": ["k1"]}):
        yield f"signed, with {header}", signed(signer, {"alg": "ES256", "kid": "k1", **header})
    yield "a key id that is no string", ".".join((_part({"alg": "ES256", "kid": 1}), claims, signature))
    yield "no algorithm", ".".join((_part({"kid": "k1"}), claims, signature))
    yield "an algorithm that is a list", ".".join((_part({"alg": ["ES256"], "kid": "k1"}), claims, signature))
    yield (
        "the algorithm of another curve",
        ".".join((_part({"alg": "ES384", "kid": "k1"}), claims, signature)),
    )
    for none in ("none", "None", "NONE", ""):
        yield f"algorithm {none!r}", ".".join((_part({"alg": none, "kid": "k1"}), claims, ""))
        yield f"algorithm {none!r}, signed", ".".join((_part({"alg": none, "kid": "k1"}), claims, signature))
    public = json.dumps(signer.jwk()).encode()
    for algorithm in ("HS256", "HS384", "HS512", "ES256"):
        yield f"{algorithm} with the public key", forged(algorithm, public)
        yield f"{algorithm} with nothing", forged(algorithm, b"")
    yield "claims that are a list", f"{head}.{_part([])}.{signature}"
    yield "claims that are no JSON", f"{head}.{'A' * 40}.{signature}"
    yield "deep claims", f"{head}.{base64.urlsafe_b64encode(b'[' * 3000).decode().rstrip('=')}.{signature}"
    yield "another alphabet", good.replace("-", "+").replace("_", "/") + "=="
    yield "too long", signer.token(more="x" * MOST_TOKEN_BYTES)
    yield "dots", ".."


def signed(signer: Signer, header: dict[str, Any]) -> str:
    """A token with any header, and a signature over it."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60}
    text = f"{_part(header)}.{_part(claims)}".encode()
    signature = jwt.get_algorithm_by_name("ES256").sign(text, signer.private)
    return f"{text.decode()}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_no_token_with_anything_wrong_in_it_lets_anybody_in(keeper: Doorkeeper) -> None:
    tokens = dict(bad_tokens(keeper.signer))
    assert keeper.name(keeper.signer.token()) == "jwt:sso:shop"
    assert keeper.name(signed(keeper.signer, {"alg": "ES256", "kid": "k1"})) == "jwt:sso:shop"
    for number, (what, token) in enumerate(tokens.items()):
        assert keeper.name(token, peer=str(number)) == "401", what
        # Neither does one that was shown before.
        assert keeper.name(token, peer=str(number)) == "401", what
    assert keeper.name(keeper.signer.token()) == "jwt:sso:shop"
    assert keeper.refused == [Reason.UNAUTHENTICATED] * len(tokens) * 2


def test_a_claim_that_is_required_is_checked_and_another_one_may_name_the_caller(tmp_path: Path) -> None:
    required = (RequiredClaim("groups", ("risk", "fraud")), RequiredClaim("tier", ("gold",)))
    sso = Issuer("sso", ISSUER, (AUDIENCE,), "email", required)
    keeper = Doorkeeper(tmp_path, issuers=(sso,))
    good: dict[str, Any] = {"email": "a@example.com", "groups": ["x", "risk"], "tier": "gold"}
    assert keeper.name(keeper.signer.token(good)) == "jwt:sso:a@example.com"
    assert keeper.name(keeper.signer.token(good, groups="fraud")) == "jwt:sso:a@example.com"
    for wrong in (
        {"groups": ["x"]},
        {"groups": []},
        {"groups": {"risk": 1}},
        {"groups": "risk,fraud"},
        {"tier": True},
        {"email": 5},
    ):
        assert keeper.name(keeper.signer.token({**good, **wrong})) == "401", wrong
    assert keeper.name(keeper.signer.token(good, without=("tier",))) == "401"
    assert keeper.name(keeper.signer.token(good, without=("email",))) == "401"


@pytest.mark.parametrize(
    ("rule", "let_in"),
    [
        ("system:serviceaccount:shop:checkout", {"account"}),
        ("system:serviceaccount:shop:*", {"account", "other"}),
        ("system:serviceaccount:*", {"account", "other"}),
        ("system:serviceaccount:sho:*", set()),
        ("jwt:sso:shop", {"token"}),
        ("jwt:sso:*", {"token"}),
        ("jwt:ss:*", set()),
        ("key:*", set()),
        ("*", {"account", "other", "token"}),
    ],
)
def test_rules_allow_callers_by_name_or_by_what_it_begins_with(
    tmp_path: Path, rule: str, let_in: set[str]
) -> None:
    keeper = Doorkeeper(tmp_path, AccessRule((rule,), ("Infer",)))
    tokens = {
        "account": keeper.account(),
        "other": keeper.account(name="other"),
        "token": keeper.signer.token(),
    }
    found = {what for what, token in tokens.items() if keeper.name(token) not in ("401", "403")}
    assert found == let_in
    assert {keeper.name(token) for what, token in tokens.items() if what not in let_in} <= {"403"}


def test_a_subject_cannot_pretend_to_be_a_caller_of_another_kind(tmp_path: Path) -> None:
    keeper = Doorkeeper(tmp_path, AccessRule(("key:app", "system:serviceaccount:a:b", "jwt:other:x"), ALL))
    for subject in ("key:app", "system:serviceaccount:a:b", "other:x", "jwt:other:x", "*", "anonymous"):
        assert keeper.name(keeper.signer.token(sub=subject)) == "403", subject


def test_a_token_that_expires_lets_nobody_in_any_more_and_whatever_was_remembered_of_it_is_dropped(
    keeper: Doorkeeper,
) -> None:
    dropped: list[None] = []
    keeper.gate.on_change.append(lambda: dropped.append(None))
    token, other = keeper.signer.token(exp=keeper.clock.now + 10), keeper.signer.token(sub="other")
    assert keeper.name(token) == "jwt:sso:shop"
    assert keeper.name(other) == "jwt:sso:other"
    head = head_of(token)
    keeper.gate.admit(head, "Infer", 0.0)
    keeper.clock.now += 10 + SKEW - 1
    keeper.gate.follow(0.0)
    assert keeper.gate.knows(head.caller)
    assert not dropped
    keeper.clock.now += 1.5
    keeper.gate.follow(0.0)
    assert not keeper.gate.knows(head.caller)
    assert len(dropped) == 1
    assert keeper.name(token) == "401"
    assert keeper.name(other) == "jwt:sso:other"


def test_keys_that_change_are_followed_and_tokens_of_the_old_ones_are_no_good(keeper: Doorkeeper) -> None:
    old, new = keeper.signer, Signer(kid="k2")
    token = old.token()
    assert keeper.name(token) == "jwt:sso:shop"
    keeper.put(old.jwk(), new.jwk())
    keeper.gate.follow(0.0)
    assert [keeper.name(token), keeper.name(new.token())] == ["jwt:sso:shop"] * 2
    keeper.put(new.jwk())
    keeper.gate.follow(0.0)
    assert [keeper.name(token), keeper.name(new.token())] == ["401", "jwt:sso:shop"]
    # Without keys nobody is let in, and it is said whose fault that is.
    for broken in ({}, {"sso.json": ""}, {"sso.json": '{"keys": []}'}, {"sso.json": "x" * (MOST_BYTES + 1)}):
        keeper.mounted.put(**broken)
        keeper.gate.follow(0.0)
        assert keeper.name(new.token()) in ("401", "503")
        assert keeper.name(keeper.account()) in ("401", "503")
    keeper.put(new.jwk())
    keeper.gate.follow(0.0)
    assert keeper.name(new.token()) == "jwt:sso:shop"


def test_bad_signatures_of_a_peer_are_looked_at_so_often_and_others_are_not_touched(
    keeper: Doorkeeper,
) -> None:
    wrong = Signer()

    def show(count: int, peer: str) -> list[str]:
        return [keeper.name(wrong.token(jti=secrets.token_hex(4)), peer) for _ in range(count)]

    known = keeper.signer.token(sub="known")
    assert keeper.name(known, "greedy") == "jwt:sso:known"
    assert set(show(int(WRONG_AT_ONCE), "greedy")) == {"401"}
    assert set(show(5, "greedy")) == {"429"}
    # Good ones that were seen before need no look, and other peers have budgets of their own.
    assert keeper.name(known, "greedy") == "jwt:sso:known"
    assert keeper.name(keeper.signer.token(), "modest") == "jwt:sso:shop"
    keeper.clock.now += 1.0
    assert show(int(WRONG_PER_SECOND) + 1, "greedy") == ["401"] * int(WRONG_PER_SECOND) + ["429"]
    # What is refused without a look costs nothing of it.
    assert keeper.name(wrong.token(aud="x"), "greedy") == "401"
    assert keeper.refused.count(Reason.RATE) == 6


def test_good_tokens_are_no_charge_and_what_is_remembered_of_them_is_bounded(tmp_path: Path) -> None:
    keeper = Doorkeeper(tmp_path)
    signer = keeper.signer
    for number in range(int(WRONG_AT_ONCE) + 50):
        assert keeper.name(signer.token(sub=f"s{number}"), "one") == f"jwt:sso:s{number}"
    verified = keeper.gate._verified
    assert verified is not None
    one = next(iter(verified.callers.values()))
    for number in range(MOST_TOKENS):
        verified.callers[str(number).encode()] = one
    assert keeper.name(signer.token(sub="last")) == "jwt:sso:last"
    assert len(verified.callers) == 1
    assert not keeper.gate.knows(one)


def test_a_caller_has_one_account_whatever_tokens_it_shows(tmp_path: Path) -> None:
    limits = AccessLimits(CallerLimits(requestsPerSecond=1, burst=3))
    keeper = Doorkeeper(tmp_path, limits=limits)
    tokens = [keeper.signer.token(jti=str(number)) for number in range(5)]
    assert [keeper.name(token) for token in tokens] == ["jwt:sso:shop"] * 3 + ["429"] * 2
    assert keeper.name(keeper.signer.token(sub="other")) == "jwt:sso:other"
    keeper.put(keeper.signer.jwk(), Signer(kid="k2").jwk())
    keeper.gate.follow(0.0)
    assert keeper.name(tokens[0]) == "429"


def test_of_two_headers_neither_is_believed_and_other_schemes_name_nobody(keeper: Doorkeeper) -> None:
    token = keeper.signer.token()
    for value in (f"Basic {token}", token, f"Bearer {token} {token}", f"Bearer {token}, Bearer {token}"):
        head = Head("POST", b"/", [(b"authorization", value.encode())])
        with pytest.raises(RequestError) as caught:
            keeper.gate.admit(head, "Infer", 0.0)
        assert caught.value.status == 401
    twice = [(b"authorization", f"Bearer {each}".encode()) for each in (token, keeper.signer.token(sub="b"))]
    with pytest.raises(RequestError):
        keeper.gate.admit(Head("POST", b"/", twice), "Infer", 0.0)


def test_keys_are_public_ones_for_signatures_and_no_others(tmp_path: Path) -> None:
    good, rsa = Signer(), Signer("RS256", "r")
    secret = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(good.private))
    path = tmp_path / "sso.json"
    wrong: list[Any] = [
        {**secret, "kid": "s"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "h"},
        {"kty": "oct", "kid": "h", "alg": "HS256"},
        good.jwk(kid="e", use="enc"),
        good.jwk(kid="o", key_ops=["sign"]),
        good.jwk(kid="a", alg="HS256"),
        good.jwk(kid="a", alg="ES384"),
        good.jwk(kid="b", crv="secp256k1"),
        good.jwk(kid="c", crv=["P-256"]),
        good.jwk(kid="x", x="AAAA"),
        good.jwk(kid=5),
        good.jwk(kid="i" * 300),
        rsa.jwk(kid="n", n="AQAB"),
        {**rsa.jwk(kid="m"), "n": None},
        "key",
        None,
        {},
    ]
    path.write_text(key_set(good.jwk(), *wrong, rsa.jwk()))
    found = read_key_set(path)
    assert {kid for kid, _ in found.keys} == {"k1", "r"}
    assert len(found.faults) == len(wrong)
    assert secret["d"] not in "".join(found.faults)
    # Keys for one way of signing are for no other.
    path.write_text(key_set(rsa.jwk(alg="PS256")))
    assert set(read_key_set(path).keys) == {("r", "PS256")}
    path.write_text(key_set(good.jwk(), Signer().jwk()))
    assert read_key_set(path).keys == {}
    path.write_text(key_set(*(good.jwk(kid=str(number)) for number in range(MOST_KEYS + 1))))
    assert read_key_set(path).keys == {}


def test_a_token_that_names_no_key_means_the_only_one_there_is(tmp_path: Path) -> None:
    keeper, one = Doorkeeper(tmp_path), Signer(kid=None)
    keeper.put(one.jwk())
    keeper.gate.follow(0.0)
    assert keeper.name(one.token()) == "jwt:sso:shop"
    assert keeper.name(one.token(headers={"kid": "k1"})) == "401"
    keeper.put(one.jwk(), keeper.signer.jwk())
    keeper.gate.follow(0.0)
    assert keeper.name(one.token()) == "401"


def test_until_the_clusters_issuer_is_known_its_tokens_are_told_to_come_again(tmp_path: Path) -> None:
    access = Access(EVERYBODY, apiKeys=False, serviceAccountAudience=SERVICE_ACCOUNTS)
    issuers = Issuers(access, tmp_path)
    assert not issuers.has_keys
    with pytest.raises(TokenError) as caught:
        issuers.claimed(Signer().token(iss=CLUSTER).encode(), time.time())
    assert caught.value.is_ours


class Serving:
    """A server with an API key, an issuer and the cluster's tokens."""

    def __init__(self, root: Path, dirs: Dirs, stack: str) -> None:
        self.key, self.signer, self.cluster = secrets.token_urlsafe(32), Signer(), Signer("RS256")
        self.keys, self.issuers = Mounted(root / "keys"), Mounted(root / "issuers")
        self.keys.put(app=hash_of(self.key))
        self.put_both()
        rules = [
            {"callers": ["jwt:sso:shop"], "actions": ["Infer"]},
            {"callers": ["key:app", "system:serviceaccount:shop:*"], "actions": ALL},
        ]
        access = {
            "allow": rules,
            "issuers": [{"name": "sso", "issuer": ISSUER, "audiences": [AUDIENCE]}],
            "serviceAccountAudience": SERVICE_ACCOUNTS,
        }
        environment = {
            "SLIPWAY_ACCESS_KEYS_DIR": str(self.keys.directory),
            "SLIPWAY_ACCESS_ISSUERS_DIR": str(self.issuers.directory),
        }
        self.server = Server(dirs("identity"), stack, environment=environment, access=access)

    def put_both(self) -> None:
        cluster = key_set(self.cluster.jwk(), issuer=CLUSTER)
        self.issuers.put(**{"sso.json": key_set(self.signer.jwk()), f"{CLUSTER_ISSUER}.json": cluster})

    def account(self) -> str:
        return self.cluster.token(
            iss=CLUSTER, aud=SERVICE_ACCOUNTS, sub="system:serviceaccount:shop:checkout"
        )


@pytest.fixture
def serving(tmp_path: Path, model_dirs: Dirs, stack: str) -> Iterator[Serving]:
    made = Serving(tmp_path, model_dirs, stack)
    yield made
    made.server.__exit__(None, None, None)


def test_tokens_are_taken_next_to_keys_on_every_path_by_rest_and_grpc(serving: Serving) -> None:
    server = serving.server.wait_until_ready()
    token, account, bad = serving.signer.token(), serving.account(), Signer().token()
    for method, path, body, action in PATHS:
        if action is None or action == "Feedback":
            continue

        def code(given: str) -> int:
            return server.client.request(method, path, json=body, headers=bearer(given)).status_code  # noqa: B023

        assert [code(given) for given in (serving.key, account)] == [200, 200], path
        assert code(token) == (200 if action == "Infer" else 403), path
        assert code(bad) == 401, path
    refused = infer(server, bad)
    assert refused.headers["www-authenticate"] == 'Bearer realm="slipway", error="invalid_token"'

    def status(given: str) -> grpc.StatusCode:
        metadata = ("authorization", f"Bearer {given}")
        return code_of(server, "ModelInfer", request(GOOD), oip.ModelInferResponse, metadata)

    assert [status(given) for given in (serving.key, account, token)] == [grpc.StatusCode.OK] * 3
    assert status(bad) is grpc.StatusCode.UNAUTHENTICATED
    message, metadata = oip.ModelMetadataRequest(name="fraud"), ("authorization", f"Bearer {token}")
    denied = code_of(server, "ModelMetadata", message, oip.ModelMetadataResponse, metadata)
    assert denied is grpc.StatusCode.PERMISSION_DENIED
    assert answered(server) > 0
    assert refusals(server, "unauthenticated") > 0
    text = httpx.get(f"{server.admin}/metrics").text + server.log.read_text()
    assert token not in text
    assert bad not in text


def test_each_request_of_a_connection_is_checked_by_its_own_token_and_keys_are_followed_on_it(
    serving: Serving,
) -> None:
    server = serving.server.wait_until_ready()
    good, bad = raw_request(server, serving.signer.token()), raw_request(server, Signer().token())
    assert talk(server, good, good, bad, good, raw_request(server, None), good) == [
        200,
        200,
        401,
        200,
        401,
        200,
    ]
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)

        # Again and again, so that its head is known by its bytes.
        assert [asked(connection, good) for _ in range(5)] == [200] * 5
        serving.issuers.put(**{"sso.json": key_set(Signer().jwk())})
        time.sleep(1.0)
        assert asked(connection, good) == 401
        serving.put_both()
        time.sleep(1.0)
        assert asked(connection, good) == 200
        serving.issuers.put()
        eventually(lambda: asked(connection, good) == 503, 2.0)
        assert infer(server, serving.key).status_code == 200


def test_a_token_that_expires_is_refused_on_a_connection_that_knows_its_head(
    serving: Serving, stack: str
) -> None:
    server = serving.server.wait_until_ready()
    request_bytes = raw_request(server, serving.signer.token(exp=time.time() - SKEW + 3))
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        codes = []
        for _ in range(60):
            codes.append(asked(connection, request_bytes))
            if codes[-1] == 401:
                break
            time.sleep(0.1)
    assert codes[0] == 200, stack
    assert codes[-1] == 401, stack


def test_a_server_that_starts_without_keys_of_its_issuers_says_so_and_ends(
    tmp_path: Path, model_dirs: Dirs
) -> None:
    access = {
        "allow": [{"callers": ["*"], "actions": ALL}],
        "apiKeys": False,
        "issuers": [{"name": "sso", "issuer": ISSUER, "audiences": [AUDIENCE]}],
    }
    environment = {"SLIPWAY_ACCESS_ISSUERS_DIR": str(tmp_path / "none")}
    with Server(model_dirs("identity"), environment=environment, access=access) as server:
        assert server.wait() == 1
        outcome = server.last_words().outcome
        assert outcome.kind == "Failed"
        assert outcome.failure.reason is ModelFault.ACCESS_KEYS_MISSING
        assert "no issuer of spec.access has a usable key" in outcome.failure.message
