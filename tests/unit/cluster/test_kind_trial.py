"""Which engine and which image of nodes a run on kind takes; Docker is acted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.kind import __main__ as trial
from e2e.cluster.kind.__main__ import Plan, choose_image
from e2e.cluster.kind.docker import NODE_IMAGE
from e2e.cluster.kind.engine import engine_for, prepare
from e2e.cluster.kind.image import NodeImage
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import Tools
from tests.unit.cluster.fake_programs import Machine

MADE = NodeImage("slipway.test/kind-node:key", Path("kind-node-key.tar"))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was fetched and made, where it need not be done to see that it would be."""
    done: list[str] = []

    def make(_tools: Tools) -> NodeImage:
        done.append("image")
        return MADE

    monkeypatch.setattr(trial, "prepare", lambda _cache: done.append("engine"))
    monkeypatch.setattr(trial, "make_node_image", make)
    return done


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path))
    monkeypatch.delenv("SLIPWAY_KIND_IMAGE", raising=False)
    return read_settings()


def choose(settings: Settings, monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Plan:
    monkeypatch.setattr("subprocess.run", machine.run)
    return choose_image(settings, Tools(settings.cache))


def test_kind_s_own_image_is_taken_where_a_registry_is_within_reach(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    assert choose(settings, monkeypatch, Machine(registry=[NODE_IMAGE])) == Plan(NODE_IMAGE, None)
    assert fetched == []


def test_an_image_is_made_where_docker_cannot_pull_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    assert choose(settings, monkeypatch, Machine()) == Plan(None, MADE)
    assert fetched == ["image"]


def test_engine_and_image_are_made_where_there_is_no_docker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    assert choose(settings, monkeypatch, Machine(engine=False, registry=[NODE_IMAGE])) == Plan(None, MADE)
    assert fetched == ["engine", "image"]


def test_an_image_that_is_named_needs_an_engine_that_is_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    named = replace(settings, kind_image="mirror.example/node:1")
    machine = Machine(engine=False, registry=["mirror.example/node:1"])
    with pytest.raises(ClusterError, match="unset the variable to have an image made"):
        choose(named, monkeypatch, machine)
    assert choose(named, monkeypatch, Machine(registry=["mirror.example/node:1"])).named == named.kind_image
    assert fetched == []


def test_who_is_not_root_needs_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="start Docker, or be root"):
        prepare(tmp_path)


def test_an_engine_that_answers_is_used_as_it_is(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr("subprocess.run", machine.run)
    with engine_for(settings) as engine:
        assert not engine.own
        engine.docker("info", seconds=1)
    assert {call[0] for call in machine.state["calls"]} == {"docker"}
