"""Callers are checked behind a router as they are in front of the pods: by the canary and for copies, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from slipway.core.traffic.envoy.routes import Arm, Route
from slipway_server.rpc import open_inference_pb2 as oip
from tests.ports import free_port
from tests.server import onnx_models
from tests.server.running import Server
from tests.server.test_access import Guarded, Mounted, X, answered, bearer, hash_of
from tests.server.test_grpc import GOOD, request
from tests.server.tokens import AUDIENCE, ISSUER, Signer, key_set
from tests.unit.router.running import eventually, running_router

LIMITS = {"perCaller": {"requestsPerSecond": 1, "burst": 30}}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    directory = tmp_path / "model"
    onnx_models.save(onnx_models.identity(), directory)
    made = Guarded(tmp_path, lambda _: directory, "own")
    yield made
    made.close()


def both(guarded: Guarded, *rules: dict[str, Any], **access: Any) -> tuple[Server, Server, Route]:
    """Two revisions that serve, and the route to them."""
    stable, canary = (
        guarded.start("identity", *rules, modelVersion=version, **{**access}) for version in ("3", "4")
    )
    arms = [
        Arm(name * 10, "127.0.0.1", server.wait_until_ready().http_port, server.grpc_port)
        for name, server in (("a", stable), ("b", canary))
    ]
    return stable, canary, Route("fraud", free_port(), *arms)


def rest(route: Route, key: str | None) -> tuple[int, str | None]:
    """The code, and the version that answered."""
    headers = {} if key is None else bearer(key)
    url = f"http://127.0.0.1:{route.listener}/v2/models/fraud/infer"
    with httpx.Client(trust_env=False, verify=False) as client:
        answer = client.post(url, json={"inputs": [X]}, headers=headers)
    return answer.status_code, answer.json().get("model_version")


async def rpc(route: Route, key: str | None, count: int) -> set[str]:
    """The versions that answered so many calls, or the statuses."""
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    found = set()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{route.listener}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", None, oip.ModelInferResponse.FromString
        )
        for _ in range(count):
            try:
                message = request(GOOD).SerializeToString()
                found.add((await infer(message, timeout=10, metadata=metadata)).model_version)
            except grpc.aio.AioRpcError as error:
                found.add(error.code().name)
    return found


async def test_both_arms_answer_those_who_may_and_nobody_else_by_rest_and_grpc(
    guarded: Guarded, tmp_path: Path
) -> None:
    stable, canary, route = both(guarded)
    async with running_router(tmp_path, [replace(route, weight=50)]):
        assert {rest(route, guarded.app) for _ in range(40)} == {(200, "3"), (200, "4")}
        assert await rpc(route, guarded.app, 40) == {"3", "4"}
        before = answered(stable), answered(canary)
        for key in (None, "wrong"):
            assert {rest(route, key) for _ in range(20)} == {(401, None)}
            assert await rpc(route, key, 20) == {"UNAUTHENTICATED"}
        # Strangers are no requests of either, by which the canary is judged.
        assert (answered(stable), answered(canary)) == before
        guarded.keys.put(batch=hash_of(guarded.batch))
        await eventually(lambda: {rest(route, guarded.app)[0] for _ in range(10)} == {401}, 3.0)


async def test_tokens_pass_routers_as_keys_do(guarded: Guarded, tmp_path: Path) -> None:
    signer, issuers = Signer(), Mounted(tmp_path / "issuers")
    issuers.put(**{"sso.json": key_set(signer.jwk())})
    environment = {"SLIPWAY_ACCESS_ISSUERS_DIR": str(issuers.directory)}
    rule = {"callers": ["jwt:sso:shop"], "actions": ["Infer"]}
    sso = [{"name": "sso", "issuer": ISSUER, "audiences": [AUDIENCE]}]
    stable, canary, route = both(guarded, rule, environment=environment, issuers=sso)
    async with running_router(tmp_path, [replace(route, weight=50)]):
        token = signer.token()
        assert {rest(route, token) for _ in range(40)} == {(200, "3"), (200, "4")}
        assert await rpc(route, token, 40) == {"3", "4"}
        before = answered(stable), answered(canary)
        bad = Signer().token()
        assert {rest(route, bad) for _ in range(20)} == {(401, None)}
        assert await rpc(route, bad, 20) == {"UNAUTHENTICATED"}
        assert {rest(route, signer.token(sub="other")) for _ in range(20)} == {(403, None)}
        assert (answered(stable), answered(canary)) == before


async def test_a_copy_has_the_caller_of_its_request_and_is_charged_to_nobody_who_is_answered(
    guarded: Guarded, tmp_path: Path
) -> None:
    stable, shadow, route = both(guarded, limits=LIMITS)
    async with running_router(tmp_path, [replace(route, mirror_percent=100)]):
        # As many as the burst: where copies were charged to the same account, half of them would be refused.
        assert Counter(rest(route, guarded.app) for _ in range(30)) == {(200, "3"): 30}
        await eventually(lambda: answered(shadow) == 30)
        assert answered(stable) == 30
        assert {rest(route, "wrong") for _ in range(5)} == {(401, None)}
        assert answered(shadow) == 30
