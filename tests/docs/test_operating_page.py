"""The page on operating: its commands make of a backup what an operator in another cluster goes on from."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from e2e import snippets
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import GOJQ, Tools
from slipway.api.reasons import Reason
from slipway.api.types import KIND
from slipway.core.observed import ObjectKind
from tests.unit.world import NAME, NAMESPACE, World

PAGE = "docs/operating.md"
STEPS = [{"setWeight": 10}, {"pause": {"untilApproved": True}}]


def spec(number: int) -> dict[str, Any]:
    # A variable of its own: nothing but its ControllerRevision tells what the first one was.
    return {
        "model": {"uri": f"mlflow://fraud/{number}"},
        "runtime": {"env": [{"name": "NUMBER", "value": str(number)}]},
        "rollout": {"strategy": "Canary", "steps": STEPS},
    }


def items(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["items"]
    return found


def run_commands(block: snippets.Block, folder: Path) -> None:
    programs = folder / "programs"
    programs.mkdir()
    (programs / "jq").symlink_to(Tools(read_settings().cache).install(GOJQ))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    for command in snippets.commands_of(block):
        subprocess.run(["sh", "-c", command.text], cwd=folder, env=environment, check=True)


async def test_a_backup_is_restored_by_the_commands_that_are_printed(tmp_path: Path) -> None:
    before = World()
    await before.operator.start()
    for number in (1, 2):
        before.create(spec(number))
        await before.run(60)
    waits = before.status()
    assert waits["rollout"]["phase"] == "Paused"
    kinds = {"modeldeployments.json": KIND, "controllerrevisions.json": ObjectKind.CONTROLLER_REVISION}
    for name, kind in kinds.items():
        (tmp_path / name).write_text(json.dumps({"kind": "List", "items": before.kube.all(kind)}))

    (block,) = [block for block in snippets.blocks(PAGE) if block.language == "sh"]
    run_commands(block, tmp_path)

    after = World()
    after.now = before.now
    # Another uid than in the first cluster.
    after.kube.update({"kind": "Namespace", "metadata": {"name": NAMESPACE, "namespace": ""}})
    for record in items(tmp_path / "records.json"):
        after.kube.update(record)
    (model,) = items(tmp_path / "models.json")
    after.create(model["spec"])
    after.kube.edit((KIND, NAMESPACE, NAME), lambda live: live.update(status=model["status"]))
    await after.operator.start()
    await after.run(90)
    status = after.status()
    assert status["stable"]["revision"] == waits["stable"]["revision"]
    assert (status["rollout"]["id"], status["rollout"]["phase"]) == (waits["rollout"]["id"], "Paused")
    assert after.said()["Ready"] == "True Serving"


def test_each_reason_that_the_page_names_is_one() -> None:
    text = Path(snippets.ROOT, PAGE).read_text().partition("## Find what is wrong")[2]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")]
    alone = [row.strip("`") for row in rows if re.fullmatch("`[A-Za-z]+`", row)]
    assert len(alone) >= 5
    assert set(alone) <= {reason.value for reason in Reason}
