from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.ledger import LONG
from slipway_server.metrics.counters import CODE_SLOTS
from tests.fuzz import harness
from tests.fuzz.__main__ import CORPUS, run, save_models
from tests.fuzz.harness import MODELS, FaultError, Port
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

#: For each target; `make fuzz` takes many more.
CASES = 20_000 if LONG else 2_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fuzz-models")
    save_models(directory)
    return directory


@pytest.fixture
def ports(models: Path) -> Iterator[dict[str, Port]]:
    loop = asyncio.new_event_loop()
    made = {name: Port(loop, models / f"{name}.onnx", profile) for name, profile in MODELS.items()}
    yield made
    for port in made.values():
        port.close()
    loop.close()


@pytest.mark.parametrize("target", list(TARGETS))
def test_what_once_failed_and_what_fuzzing_starts_from_is_answered(
    ports: dict[str, Port], target: str
) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]
    for case in (*seeds()[target], *kept):
        TARGETS[target].run(ports, case)


@pytest.mark.parametrize("target", ["body", "message"])
def test_seeds_reach_the_model(ports: dict[str, Port], target: str) -> None:
    for case in seeds()[target]:
        TARGETS[target].run(ports, case)
    assert all(port.frontend.counters.in_flight == 0 for port in ports.values())
    answered = [port.board.total(CODE_SLOTS[200]) for port in ports.values()]
    assert min(answered) >= 1


@pytest.mark.timed
@pytest.mark.parametrize("target", list(TARGETS))
def test_no_bytes_make_the_server_fail_hang_or_grow(models: Path, tmp_path: Path, target: str) -> None:
    done = run(target, models, CASES, seed=1, keep=tmp_path)
    assert not done.problem
    assert done.cases == CASES


def _broken(port: Port, how: str) -> None:
    def answer(calls: list[Any], *_: object) -> list[Any]:
        if how == "raises":
            calls[0].error = ZeroDivisionError()
        elif how == "forgets":
            calls.clear()
        return []

    port.served.answer = answer  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(("how", "words"), [("raises", "500"), ("forgets", "it hangs")])
def test_a_server_that_fails_is_found_out(
    ports: dict[str, Port], monkeypatch: pytest.MonkeyPatch, how: str, words: str
) -> None:
    monkeypatch.setattr(harness, "PATIENCE_SECONDS", 0.2)
    _broken(ports["identity"], how)
    with pytest.raises(FaultError, match=words):
        TARGETS["body"].run(ports, seeds()["body"][0])


def test_memory_that_is_not_given_back_is_found_out(
    ports: dict[str, Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(ports["identity"].frontend.admission.bodies, "give_back", lambda *_: None)
    half = b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"
    with pytest.raises(FaultError):
        TARGETS["http"].run(ports, b"\0" + half)
