"""What a pod says to ``kubectl slipway report`` has a bound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.cli.parser import parse
from tests.unit.infra.test_bounded import Writes, dripping, endless, saying, text


async def _metrics(folder: Path, write: Writes, limit: str = "15s") -> str:
    async with saying(write) as target:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://{target}"}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        asking = ["report", "fraud", "-n", "payments", "--kubeconfig", str(path)]
        there = Cluster(parse([*asking, "--request-timeout", limit]))
        return await asyncio.to_thread(there.metrics, "fraud-1")


async def test_a_page_is_read(tmp_path: Path) -> None:
    assert await _metrics(tmp_path, text(b"slipway_x 1\n")) == "slipway_x 1\n"


async def test_a_page_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="more than 3145728 bytes"):
        await _metrics(tmp_path, endless(b"slipway_x 1\n" * 1000))


async def test_a_page_that_drips_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no end after 1 s"):
        await _metrics(tmp_path, dripping(b"z", 0.05), "1s")
