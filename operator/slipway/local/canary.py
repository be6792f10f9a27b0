"""Two models on this machine behind a router, and what an operator would do with the second."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from slipway.core.monitoring.series import Values, of_all_versions
from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.engine.observers.pod_counts import WANTED
from slipway.infra.pods import by_version
from slipway.local.alone import STEP_SECONDS, Listening, ending, print_request, remarks
from slipway.local.asking import ask
from slipway.local.console import address, say, say_now
from slipway.local.judge import CANARY, STABLE, Judge, Judgement, rollout_of
from slipway.local.router import Router, held
from slipway.local.server import Ports, listen
from slipway.local.serving import Reader, Serving
from slipway.names import METRICS_PATH

_LOOK_SECONDS = 1.0
_LOOPBACK = "127.0.0.1"
#: What the router waits for an answer beyond the server's own deadline.
_MARGIN_MILLISECONDS = 1000


def serve_canary(stable: Reader, canary: Reader, weight: int, where: Listening, folder: Path) -> NoReturn:
    """Serve two models and judge the second, until interrupted.

    Args:
        stable: reads what serves now.
        canary: reads what is to take over; its spec says by which gates it is judged.
        weight: percent of requests for it.
        where: to answer; the router has REST and gRPC on one port.
        folder: an empty one.

    Raises:
        LocalError: where one of them cannot be served, or none of the gates be judged.
    """
    arms: dict[str, tuple[Serving, Ports]] = {}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(held(where.host, where.http, "--port"))
        for name, reader in ((STABLE, stable), (CANARY, canary)):
            ports = listen(_LOOPBACK, {"--port": 0, "--grpc-port": 0, "--metrics-port": 0})
            stack.callback(ports.close)
            own = folder / name
            own.mkdir()
            serving = Serving(reader, ports, own, where.stand_ins, say_now)
            stack.enter_context(ending(serving))
            arms[name] = (serving, ports)
        name = arms[STABLE][0].wanted.name
        rollout_of(arms[CANARY][0].wanted.spec, weight)
        for serving, _ in arms.values():
            serving.start()
        router = Router(folder / "router", _route(name, arms, weight, port), where.host)
        stack.enter_context(ending(router))
        router.start()
        # Before anybody knows where to send requests: all of them are evidence.
        judge = _judge(arms[STABLE][0], arms[CANARY][0], name, weight)
        _evaluate(judge, arms, router)
        url = address(where.host, port)
        for arm, share in ((STABLE, 100 - weight), (CANARY, weight)):
            say(f"{arm}, {share}% of requests: {arms[arm][0].called}")
        say(f"  REST and gRPC  {url}/v2/models/{name}")
        for remark in remarks(arms[CANARY][0]):
            say(f"  {remark}")
        server, ports = arms[STABLE]
        print_request(server, (_LOOPBACK, ports.numbers[0]), url, folder)
        _watch(arms, router, judge, name, weight)


def _route(name: str, arms: dict[str, tuple[Serving, Ports]], weight: int, port: int) -> Route:
    rest = {arm: Arm(arm, _LOOPBACK, *ports.numbers[:2]) for arm, (_, ports) in arms.items()}
    longest = max(found.wanted.spec.runtime.requestTimeoutMilliseconds for found, _ in arms.values())
    timeout = longest + _MARGIN_MILLISECONDS
    return Route(name, port, rest[STABLE], rest[CANARY], weight, timeout_milliseconds=timeout)


def _watch(
    arms: dict[str, tuple[Serving, Ports]], router: Router, began: Judge, name: str, weight: int
) -> NoReturn:
    """Say what the evidence is, and what an operator would do with it."""
    judge: Judge | None = began
    look_at = 0.0
    while True:
        for arm, (serving, _) in arms.items():
            if serving.step():
                say_now(f"{arm}: {serving.called} serves from now on; evidence is gathered from the start")
                judge = None
        settled = all(serving.is_settled for serving, _ in arms.values())
        if settled and time.monotonic() >= look_at:
            look_at = time.monotonic() + _LOOK_SECONDS
            judge = judge or _judge(arms[STABLE][0], arms[CANARY][0], name, weight)
            found = _evaluate(judge, arms, router)
            if found is not None and found.is_new:
                _tell(found)
        time.sleep(STEP_SECONDS)


def _evaluate(judge: Judge, arms: dict[str, tuple[Serving, Ports]], router: Router) -> Judgement | None:
    """What the judge makes of what was counted until now; None while the router does not answer."""
    state = router.read()
    if state is None:
        return None
    counts = {arm: _counts(ports) for arm, (_, ports) in arms.items() if judge.asks_servers}
    return judge.judge(state, counts, datetime.now(UTC))


def _judge(stable: Serving, canary: Serving, name: str, weight: int) -> Judge:
    before, after = stable.serves.revision, canary.serves.revision
    if before.judged == after.judged:
        say_now(
            "both are the same model with the same runtime and inputs: no rollout would begin in a cluster"
        )
    judge = Judge(name, canary.wanted.spec, weight, after.name)
    for gate in judge.left_out:
        say_now(f"gate {gate.name} is left out: it compares answers to copies, which only clusters send")
    return judge


def _tell(found: Judgement) -> None:
    canary, stable = found.requests
    say_now(f"{stable} requests answered by stable, {canary} by the canary")
    for gate in found.gates:
        say(f"  {gate.name}: {gate.verdict}: {gate.message}")
    say(f"  the operator would {found.action}")


def _counts(ports: Ports) -> Values:
    """What a server counted, by series."""
    _, text = ask((_LOOPBACK, ports.numbers[2]), "GET", METRICS_PATH)
    return of_all_versions(by_version(text, WANTED))
