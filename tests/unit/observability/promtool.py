"""Prometheus' own promtool, and what it says of series that a test makes up."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import PROMTOOL, Tools
from slipway.observability import rules

STEP_MINUTES = 5


@functools.cache
def promtool_program() -> str:
    """Promtool from the cache, built by the first call."""
    return str(Tools(read_settings().cache).install(PROMTOOL))


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool_program(), *words], capture_output=True, text=True, check=False)


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """A series as PromQL writes it."""
    return f"{metric}{{{', '.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}}"


@dataclass
class Check:
    """Expressions and what they are to be, at one time of one set of series."""

    groups: tuple[str, ...]
    """Names of the groups of rules that are evaluated, without the prefix that all have."""
    step_minutes: int = STEP_MINUTES
    series: dict[str, Sequence[float]] = field(default_factory=dict)
    expressions: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, metric: str, labels: Mapping[str, str], values: Sequence[float]) -> None:
        """A series, one value a step from 0 on."""
        self.series[selector(metric, labels)] = values

    def expect(self, expression: str, value: float, minutes: int, tolerance: float = 1e-9) -> None:
        """The expression has one result, this one to a relative tolerance."""
        value = float(value)
        bound = tolerance * max(abs(value), 1e-3)
        is_close = f"sum(abs({expression} - ({value!r})) < bool {bound!r}) + count({expression})"
        self.expressions.append(
            {
                "expr": is_close,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 2}],
            }
        )

    def expect_nothing(self, expression: str, minutes: int) -> None:
        self.expressions.append({"expr": expression, "eval_time": f"{minutes}m", "exp_samples": []})

    def run(self, folder: Path) -> str:
        """What promtool says; empty where all is as expected."""
        (folder / "rules.yaml").write_text(_rules(self.groups))
        test = {
            "interval": f"{self.step_minutes}m",
            "input_series": [
                {"series": name, "values": " ".join(repr(float(value)) for value in values)}
                for name, values in self.series.items()
            ],
            "promql_expr_test": self.expressions,
            "alert_rule_test": self.alerts,
        }
        content = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": f"{self.step_minutes}m",
            # Steps are as long as a sample is good for, so that no group may read the last step's.
            "group_eval_order": [f"slipway-{name}" for name in self.groups],
            "tests": [test],
        }
        (folder / "test.yaml").write_text(json.dumps(content))
        done = promtool("test", "rules", str(folder / "test.yaml"))
        return "" if done.returncode == 0 else done.stdout + done.stderr


@functools.cache
def _rules(names: tuple[str, ...]) -> str:
    text = rules.files()[rules.FILE]
    groups = {group["name"]: group for group in yaml.safe_load(text)["groups"]}
    return json.dumps({"groups": [groups[f"slipway-{name}"] for name in names]})
