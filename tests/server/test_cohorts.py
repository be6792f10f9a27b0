"""What is judged is counted once more by cohort of callers, and adds up to what all of them sent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from slipway.contract import Metric
from slipway.core.monitoring.series import Values, by_cohort
from slipway.infra.pods import by_version
from slipway.names import BY_COHORT, COHORTS_PATH, METRICS_PATH
from slipway_server.access.callers import COHORTS, caller, cohort_of
from slipway_server.access.limits import Accounts, Share
from slipway_server.monitoring.cohorts import count_cohorts
from slipway_server.monitoring.reference import Bins, Reference, Watched
from slipway_server.settings import Access, AccessRule, SensitiveAttribute, Serving
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_access import Mounted, bearer, hash_of
from tests.server.test_feedback import KEY
from tests.server.test_grpc import given, infer
from tests.server.test_monitoring import with_profile

TEAMS = ("shop", "mobile", "office", "app")
ROWS = load_breast_cancer().data.astype(np.float32)
#: The first column breaks its rule here.
TINY = np.where(np.arange(30) == 0, 0.5, ROWS[0]).astype(np.float32)[None]
WANTED = {*BY_COHORT, *BY_COHORT.values()}


ALL = (AccessRule(("*",), ("Infer", "Feedback", "Metadata")),)


def cohort(name: str) -> int:
    return caller(f"key:{name}", ALL, Accounts(None, Share())).cohort


class Fleet:
    """A server whose callers have keys, and what it counts."""

    def __init__(self, root: Path) -> None:
        self.keys = {name: secrets.token_urlsafe(32) for name in TEAMS}
        mounted = Mounted(root / "keys")
        mounted.put(**{name: hash_of(key) for name, key in self.keys.items()})
        (root / "feedback").mkdir()
        (root / "feedback/2026-11").write_bytes(KEY)
        frame = load_breast_cancer(as_frame=True).frame
        directory, _ = with_profile(root, onnx_models.classifier(), frame, labels="target")
        column = {"name": "radius", "tensor": "X", "column": 0, "type": "Number", "minimum": 1}
        self.server = Server(
            directory,
            environment={
                "SLIPWAY_ACCESS_KEYS_DIR": str(mounted.directory),
                "SLIPWAY_FEEDBACK_KEYS_DIR": str(root / "feedback"),
            },
            access={"allow": [{"callers": ["*"], "actions": ["Infer", "Feedback", "Metadata"]}]},
            processes=2,
            feedbackMaxAgeDays=90,
            monitoredFeatures=5,
            favorableOutcomes=["1"],
            sensitiveAttributes=[{"name": "sex", "groups": ["a", "b"], "parameter": "sex"}],
            freshness={"source": "Header", "name": "x-taken", "maxAgeSeconds": 3600},
            inputs={"columns": [column], "onViolation": "Report"},
        )

    def ask(self, team: str, rows: Any, group: str = "a", age: float = 60.0) -> list[str]:
        """Its tokens."""
        found = self.server.client.post(
            self.server.infer_path,
            json={
                "inputs": [tensor("X", "FP32", list(rows.shape), rows.reshape(-1).tolist())],
                "parameters": {"sex": group},
            },
            headers={**bearer(self.keys[team]), "x-taken": str(time.time() - age)},
        )
        assert found.status_code == 200, found.text
        return str(found.json()["parameters"]["feedback_token"]).split(" ")

    def label(self, team: str, tokens: list[str], label: str) -> None:
        body = {"feedback": [{"token": token, "label": label} for token in tokens]}
        path = f"/v2/models/{self.server.name}/feedback"
        found = self.server.client.post(path, json=body, headers=bearer(self.keys[team]))
        assert found.json()["accepted"] == len(tokens), found.text

    def counts(self) -> Values:
        """As the operator reads them."""
        pages = (httpx.get(f"{self.server.admin}{path}").text for path in (METRICS_PATH, COHORTS_PATH))
        plain, cohorts = (by_version(page, WANTED).get("3", {}) for page in pages)
        assert not any(one[0] in set(BY_COHORT.values()) for one in plain)
        return {**plain, **cohorts}

    def settled(self, rows: float) -> Values:
        """Once so many rows are counted."""
        for _ in range(200):
            found = self.counts()
            if _sum(found, Metric.FEATURE_VALUES) == 5 * rows:
                return found
            time.sleep(0.05)
        raise AssertionError(found)


def _sum(counts: Values, metric: str, **labels: str) -> float:
    return sum(
        count for (name, of), count in counts.items() if name == metric and labels.items() <= dict(of).items()
    )


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(tmp_path)
    with found.server:
        found.server.wait_until_ready()
        yield found


def test_all_that_is_judged_adds_up_over_cohorts(fleet: Fleet) -> None:
    assert len({cohort(team) for team in TEAMS}) == len(TEAMS)
    tokens = {team: fleet.ask(team, ROWS[:size], "b") for size, team in enumerate(TEAMS, 3)}
    for team in TEAMS[:2]:
        fleet.ask(team, TINY, "a", age=7200)
        fleet.label(team, tokens[team], "1")
    # The office labels what others asked for.
    fleet.label("office", tokens["app"], "0")
    counts = fleet.settled(rows=3 + 4 + 5 + 6 + 2)
    by = by_cohort(counts)
    asked = {name: values for name, values in by.items() if name.startswith("asked-")}
    labelled = {name: values for name, values in by.items() if name.startswith("labelled-")}
    assert set(asked) == {f"asked-{cohort(team)}" for team in TEAMS}
    assert set(labelled) == {f"labelled-{cohort(team)}" for team in ("shop", "mobile", "office")}
    for one, count in counts.items():
        if one[0] in BY_COHORT:
            assert sum(values.get(one, 0.0) for values in asked.values()) == count, one
        if one[0] in (Metric.FEEDBACK_LABELS, Metric.GROUP_FEEDBACK):
            assert sum(values.get(one, 0.0) for values in labelled.values()) == count, one
    shop = asked[f"asked-{cohort('shop')}"]
    assert _sum(shop, Metric.VIOLATIONS, rule="range") == 1
    assert _sum(shop, Metric.GROUP_PREDICTIONS, group="b") == 3
    assert _sum(shop, f"{Metric.DATA_AGE}_bucket", le="3600.0") == 3
    assert _sum(shop, f"{Metric.DATA_AGE}_bucket", le="+Inf") == 4
    assert _sum(asked[f"asked-{cohort('app')}"], Metric.FEEDBACK_LABELS, label="0") == 6
    assert _sum(labelled[f"labelled-{cohort('office')}"], Metric.FEEDBACK_LABELS, label="0") == 6


def test_callers_over_grpc_are_of_the_same_cohorts(fleet: Fleet) -> None:
    key = fleet.keys["mobile"]
    how = {"metadata": [("authorization", f"Bearer {key}")]}
    infer(fleet.server, given("X", "FP32", [2, 30], ROWS[:2].reshape(-1).tolist()), how=how)
    assert set(by_cohort(fleet.settled(rows=2))) == {f"asked-{cohort('mobile')}"}


def _reference(features: int, bins: int) -> Reference:
    names = tuple(map(str, range(bins)))
    series = [
        (Metric.FEATURE_VALUES, (("feature", str(feature)), ("bin", name)))
        for feature in range(features)
        for name in names
    ]
    return Reference(
        predictions=(Watched("y", "y", 0, "", Bins(0, (), None, ("0", "1"))),), series=tuple(series)
    )


@pytest.mark.parametrize(
    ("features", "bins", "cohorts"), [(20, 22, 8), (30, 22, 8), (60, 22, 4), (100, 22, 0)]
)
def test_there_are_as_many_cohorts_as_the_operator_can_read(features: int, bins: int, cohorts: int) -> None:
    open_, closed = (
        Serving(
            "fraud",
            "3",
            "sha256:0",
            feedbackMaxAgeDays=90,
            sensitiveAttributes=(SensitiveAttribute("sex", ("a", "b")),),
            access=access,
        )
        for access in (None, Access(()))
    )
    reference = _reference(features, bins)
    assert count_cohorts(open_, reference) == 0
    assert count_cohorts(closed, reference) == cohorts
    assert (cohorts + 1) * features * bins <= 7500


def test_a_caller_is_of_one_cohort_for_good_and_many_are_spread() -> None:
    found = [cohort(f"team-{number}") for number in range(1600)]
    assert found == [cohort(f"team-{number}") for number in range(1600)]
    counts = np.bincount(found, minlength=COHORTS)
    assert len(counts) == COHORTS
    assert 150 <= counts.min() <= counts.max() <= 250


def test_callers_that_rules_name_have_a_cohort_each_as_long_as_there_are_as_many() -> None:
    for size in range(1, COHORTS + 1):
        names = [f"key:team-{number}" for number in range(size)]
        rules = (AccessRule((*names, "key:*"), ("Infer",)),)
        assert len({cohort_of(name, rules) for name in names}) == size
    crowded = (AccessRule(tuple(f"key:other-{number}" for number in range(40)), ("Infer",)),)
    assert {cohort_of(f"key:other-{number}", crowded) for number in range(40)} == set(range(COHORTS))
