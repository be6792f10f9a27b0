"""Health, readiness, metrics and logs of the operator."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from slipway.engine.metrics.controller import Metrics
from slipway.infra import http, logs
from slipway.infra.http import Pulse


@asynccontextmanager
async def _serving(pulse: Pulse, ready: bool = True) -> AsyncIterator[aiohttp.ClientSession]:
    registry = CollectorRegistry()
    Metrics(registry)

    async def page() -> bytes:
        return generate_latest(registry)

    runner = await http.serve(page, pulse, lambda: ready, port=0)
    try:
        port = next(address[1] for address in runner.addresses if address[0] == "0.0.0.0")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", trust_env=False) as session:
            yield session
    finally:
        await runner.cleanup()


async def test_a_loop_that_runs_is_healthy() -> None:
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat(lambda _: None))
    async with _serving(pulse) as session, session.get("/healthz") as response:
        assert (response.status, await response.text()) == (200, "ok\n")
    beating.cancel()


async def test_a_loop_that_was_stuck_is_not() -> None:
    pulse = Pulse()
    pulse._last -= 60
    async with _serving(pulse) as session, session.get("/healthz") as response:
        assert response.status == 500
        assert "event loop is 60 s late" in await response.text()


async def test_a_beat_brings_health_back() -> None:
    pulse = Pulse()
    pulse._last -= 60
    beating = asyncio.create_task(pulse.beat(lambda _: None))
    await asyncio.sleep(0)
    assert pulse.lag() < http.MOST_LAG_SECONDS
    beating.cancel()


async def test_a_loop_that_was_busy_says_how_late_it_is() -> None:
    registry = CollectorRegistry()
    beating = asyncio.create_task(Pulse().beat(Metrics(registry).lagged))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(time.sleep, 0.5)
    await asyncio.sleep(0.6)
    beating.cancel()
    name = "slipway_operator_loop_lag_seconds"
    assert 0.25 <= (registry.get_sample_value(f"{name}_sum") or 0.0) < 2.0
    assert (
        registry.get_sample_value(f"{name}_bucket", {"le": "0.1"})
        == (registry.get_sample_value(f"{name}_count") or 0.0) - 1.0
    )


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_a_replica_is_ready_once_it_is_synced(ready: bool, status: int) -> None:
    async with _serving(Pulse(), ready) as session, session.get("/readyz") as response:
        assert response.status == status


async def test_metrics_are_in_prometheus_own_format() -> None:
    async with _serving(Pulse()) as session, session.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "controller_runtime_reconcile_total" in await response.text()


async def test_there_is_nothing_else() -> None:
    async with _serving(Pulse()) as session, session.get("/debug") as response:
        assert response.status == 404


@pytest.fixture
def quiet() -> Iterator[None]:
    """Puts logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("slipway.engine", logging.INFO, __file__, 1, message, args, None)
    record.__dict__.update(extra)
    return record


def test_a_log_line_is_one_json_object_with_whatever_extra_holds() -> None:
    line = logs.JsonFormatter().format(_record("applied %s\nand more", "it", object="Service a/b", count=3))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "info",
        "logger": "slipway.engine",
        "message": "applied it\nand more",
        "object": "Service a/b",
        "count": 3,
    }


def test_what_json_cannot_hold_is_written_as_text() -> None:
    found = json.loads(logs.JsonFormatter().format(_record("x", where={1, 2})))
    assert found["where"] == "{1, 2}"


def test_an_exception_comes_with_its_traceback_in_the_same_line() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        record = _record("failed")
        record.exc_info = sys.exc_info()
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: no such thing" in json.loads(line)["exception"]


@pytest.mark.usefixtures("quiet")
def test_logs_go_to_standard_error_and_kopf_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("INFO")
    logging.getLogger("kopf.objects").info("chatter")
    logging.getLogger("slipway").debug("detail")
    logging.getLogger("slipway").info("leading")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["leading"]
