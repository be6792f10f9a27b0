"""The judge beside a real model server: what clients send is what the conditions say."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import httpx

from e2e import credit
from slipway.core.endpoint import Endpoint
from slipway.engine.observers.watched import WANTED
from slipway.infra.bounded import Budget
from slipway.infra.pods import pod_reader
from tests.server.running import Server
from tests.unit.judged import VERSION, Judged

FAIRNESS = {
    "sensitiveAttributes": [
        {
            "name": credit.ATTRIBUTE,
            "parameter": credit.ATTRIBUTE,
            "groups": list(credit.GROUPS),
            "referenceGroup": credit.REFERENCE_GROUP,
        }
    ],
    "favorableOutcomes": [credit.FAVORABLE],
    "metrics": [{"name": "DemographicParityDifference", "maximum": "60%"}],
}
MONITORING = {
    "drift": {"windowSeconds": 60},
    "performance": {
        "feedback": {"secretRef": {"name": "keys"}},
        "objectives": [{"metric": "Accuracy", "minimum": "55%"}],
    },
}


def _serve(folder: Path) -> Server:
    keys = folder / "keys"
    keys.mkdir()
    (keys / "2026-11").write_bytes(secrets.token_hex(32).encode())
    return Server(
        credit.make().save(folder / "model"),
        environment={"SLIPWAY_FEEDBACK_KEYS_DIR": str(keys)},
        modelVersion=VERSION,
        feedbackMaxAgeDays=90,
        sensitiveAttributes=[
            {"name": credit.ATTRIBUTE, "parameter": credit.ATTRIBUTE, "groups": list(credit.GROUPS)}
        ],
        favorableOutcomes=[credit.FAVORABLE],
    )


def _people(client: httpx.Client, count: int, seed: int, shift: float = 0.0) -> None:
    for asked in credit.applicants(count, seed, shift=shift).batches(200):
        tokens = credit.ask(client, asked, "fraud")
        assert credit.tell(client, tokens, asked, "fraud") == len(tokens)


async def test_shifted_people_are_drift_by_name_and_their_labels_are_accuracy(tmp_path: Path) -> None:
    with _serve(tmp_path) as server:
        await asyncio.to_thread(server.wait_until_ready)
        async with pod_reader(WANTED, Budget()) as read:
            judged = Judged({"monitoring": MONITORING, "fairness": FAIRNESS}, {"a": {}})
            judged.judge._read = lambda _: read(Endpoint("payments", "127.0.0.1", server.admin_port))
            await judged.look(0)
            await asyncio.to_thread(_people, server.client, 2000, 1)
            await judged.look(10)
            await judged.look(10)
            assert judged.status("Drift") == "False"
            assert judged.status("DataQuality") == "True"
            assert judged.status("Performance") == "True"
            assert judged.status("Fairness") == "True"
            right = judged.verdict("Performance")
            assert right is not None
            assert right.message.startswith("Accuracy 7")
            assert "of 2,000 labels" in right.message
            await judged.look(60)
            await asyncio.to_thread(_people, server.client, 2000, 2, credit.SHIFT)
            await judged.look(10)
            await judged.look(10)
            moved = judged.verdict("Drift")
            assert moved is not None
            assert moved.status == "True"
            assert {one.name for one in moved.features} == {"income", "debt"}
            assert all(one.severity == "Critical" for one in moved.features)
