"""What routers counted, from the samples that Prometheus scraped of them.

Envoy's series are brought back to the names of its own statistics, so that both ways of reading them come to
the same figures. Samples are raw: nothing is extrapolated, and resets are seen as such.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.core.traffic.envoy.readback import ArmState, read_arms

#: How far back samples are looked for; a target that is scraped less than once a minute has too few.
WINDOW_SECONDS = 180
_METRICS = (
    "upstream_rq_(completed|xx|retry_success|timeout|total|pending_failure_eject|time_bucket)",
    "upstream_rq",
    "grpc_(2|4|7|8|12|13|14|15|16)",
)
_PREFIX = "envoy_cluster_"


@dataclass(frozen=True)
class Samples:
    """Raw samples of one series: time in seconds since the epoch and value, oldest first."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scraped:
    """What is known of one router pod.

    Attributes:
        times: of its scrapes within the window, in seconds since the epoch, oldest first.
        arms: as of the last of them, by ModelDeployment and revision.
    """

    times: tuple[float, ...]
    arms: Mapping[tuple[str, str], ArmState]


def query(namespace: str, name: str) -> str:
    """An instant query for the raw samples of one ModelDeployment's arms on all routers of a namespace."""
    labels = {
        "__name__": f"{_PREFIX}({'|'.join(_METRICS)})",
        "envoy_cluster_name": f"{re.escape(name)}/.*",
    }
    matchers = [f"namespace={json.dumps(namespace)}"]
    matchers += [f"{label}=~{json.dumps(value)}" for label, value in labels.items()]
    return f"{{{','.join(matchers)}}}[{WINDOW_SECONDS}s]"


def scraped(found: Iterable[Samples]) -> dict[str, Scraped]:
    """By the label ``pod``, which is that of the router's pod.

    A series that its pod had no more at its last scrape is left out. Where several jobs scrape a pod, the one
    that did so last counts.
    """
    targets: dict[str, dict[tuple[str, str], list[Samples]]] = defaultdict(lambda: defaultdict(list))
    for samples in found:
        labels = samples.labels
        if samples.points and labels.get("pod"):
            targets[labels["pod"]][labels.get("job", ""), labels.get("instance", "")].append(samples)
    return {
        pod: _of_target(max(jobs.values(), key=lambda series: max(one.points[-1][0] for one in series)))
        for pod, jobs in targets.items()
    }


def _of_target(series: Sequence[Samples]) -> Scraped:
    times = sorted({time for one in series for time, _ in one.points})
    last = [(one.labels, one.points[-1][1]) for one in series if one.points[-1][0] == times[-1]]
    return Scraped(tuple(times), read_arms({"stats": _stats(last)}))


def _stats(last: Iterable[tuple[Mapping[str, str], float]]) -> list[dict[str, Any]]:
    """As Envoy's own JSON has them."""
    found: list[dict[str, Any]] = []
    buckets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for labels, value in last:
        cluster, metric = labels["envoy_cluster_name"], labels["__name__"].removeprefix(_PREFIX)
        if metric == "upstream_rq_time_bucket":
            buckets[cluster].append({"upper_bound": float(labels["le"]), "cumulative": int(value)})
            continue
        statistic = metric
        if metric == "upstream_rq_xx":
            statistic = f"upstream_rq_{labels['envoy_response_code_class']}xx"
        elif metric == "upstream_rq":
            statistic = f"upstream_rq_{labels['envoy_response_code']}"
        elif metric.startswith("grpc_"):
            statistic = metric.replace("_", ".")
        found.append({"name": f"cluster.{cluster}.{statistic}", "value": int(value)})
    histograms: list[dict[str, Any]] = []
    for cluster, listed in buckets.items():
        listed.sort(key=lambda bucket: float(bucket["upper_bound"]))
        histograms.append({"name": f"cluster.{cluster}.upstream_rq_time", "buckets": listed})
    return [*found, {"histograms": histograms}]
