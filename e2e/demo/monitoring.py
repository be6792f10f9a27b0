"""The demo's third act: applicants change, which is an alert; labels come back, and a report is written."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from e2e import credit
from e2e.cluster.command import run, wait_until
from e2e.demo.serving import CALL_SECONDS
from e2e.kube import Kube, Object
from e2e.prometheus import Alertmanager, Prometheus
from slipway.contract import Metric

SECRET = "credit-feedback"
READY_SECONDS, SEEN_SECONDS = 120.0, 90.0
#: Drift is judged on no fewer.
FEWEST_ROWS = 1_000
USUAL_ROWS, SHIFTED_ROWS = 1_500, 3_000
_SERVICE_PORT = 80


@dataclass(frozen=True)
class Drift:
    """What Alertmanager says of the model's inputs: one line a feature."""

    seconds: float
    """Since the first applicant of the new kind."""
    summaries: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """By the labels that came back, as Prometheus computes it, with its interval at 95%."""

    labels: int
    share: float
    low: float
    high: float


class Watch:
    """Prometheus and Alertmanager of the cluster, and the model that they watch."""

    def __init__(self, kube: Kube, namespace: str, stack: ExitStack) -> None:
        self._kube, self._namespace, self._stack = kube, namespace, stack
        self._prometheus = Prometheus(self._client("service/prometheus", "monitoring", 9090))
        self._alertmanager = Alertmanager(self._client("service/alertmanager", "monitoring", 9093))
        self._model = f'namespace="{namespace}",model="{credit.NAME}"'

    def serve(self, tracking_uri: str) -> str:
        """Have the model served, with its profile beside it; registered once. Returns its version."""
        there = self._resource()
        if not there:
            version = credit.register(credit.NAME, tracking_uri)
            resource = credit.resource(self._namespace, f"mlflow://{credit.NAME}/{version}", SECRET)
            self._kube.apply(credit.feedback_keys(self._namespace, SECRET), resource)
        self._wait(self._is_ready, READY_SECONDS, "is not Ready")
        # What is counted before the first scrape is no increase.
        rows = f"{Metric.ROWS}{{{self._model}}}"
        self._wait(lambda: bool(self._prometheus.query(rows)), SEEN_SECONDS, "is not scraped")
        return str(self._resource()["status"]["stable"]["version"])

    def ask(self, rows: int, *, shift: float = 0.0) -> int:
        """Ask about applicants and tell what became of them; returns how many labels were taken."""
        taken = 0
        with (
            self._kube.port_forward(f"service/{credit.NAME}", self._namespace, _SERVICE_PORT) as url,
            httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False) as client,
        ):
            for part in credit.applicants(rows, time.time_ns() % 2**32, shift=shift).batches():
                taken += credit.tell(client, credit.ask(client, part), part)
        return taken

    def furthest(self) -> tuple[str, float]:
        """The feature that moved most, and by how much: PSI beyond noise."""
        enough = f"slipway:feature_rows:increase1h{{{self._model}}} >= {FEWEST_ROWS}"
        expression = f"topk(1, slipway:feature_psi_excess:1h{{{self._model}}} and {enough})"
        self._wait(lambda: bool(self._prometheus.query(expression)), SEEN_SECONDS, "has no drift computed")
        [found] = self._prometheus.query(expression)
        return found.labels["feature"], found.last

    def wait_for_drift(self) -> Drift:
        """Wait until Alertmanager has a critical alert on the model's inputs."""
        began = time.monotonic()
        matchers = [f'namespace="{self._namespace}"', f'model="{credit.NAME}"', 'severity="critical"']

        def summaries() -> set[str]:
            found = self._alertmanager.alerts(*matchers, 'alertname="SlipwayFeatureDrift"')
            return {alert["annotations"]["summary"] for alert in found}

        self._wait(lambda: bool(summaries()), SEEN_SECONDS, "has drifted and is no alert")
        return Drift(time.monotonic() - began, tuple(sorted(summaries())))

    def accuracy(self) -> Accuracy:
        """Wait until Prometheus has it of at least as many labels as were sent in one go."""
        names = ("labels:increase24h", "accuracy:24h", "accuracy_low:24h", "accuracy_high:24h")

        def figures() -> list[float]:
            return [self._figure(f"slipway:{name}") for name in names]

        self._wait(lambda: figures()[0] > SHIFTED_ROWS, SEEN_SECONDS, "has no accuracy by labels")
        labels, *shares = figures()
        return Accuracy(round(labels), *shares)

    def wait_for_verdict(self) -> str:
        """Wait until the operator itself finds that inputs drifted; returns its words."""
        self._wait(lambda: self._says("Drift"), SEEN_SECONDS, "has drifted and its condition does not say so")
        return str(self._condition("Drift")["message"])

    def report(self, page: Path) -> str:
        """Write the model's report as a user would; returns what the command said."""
        where = (f"--namespace={self._namespace}", f"--kubeconfig={self._kube.kubeconfig}")
        program = Path(sys.executable).with_name("kubectl-slipway")
        return run(
            [program, "report", credit.NAME, *where, f"--output={page}"], timeout=READY_SECONDS
        ).strip()

    def _resource(self) -> Object:
        return self._kube.get("modeldeployment", credit.NAME, self._namespace) or {}

    def _figure(self, series: str) -> float:
        """The largest of a model's series, of which each version has one; 0 where none is a number."""
        found = self._prometheus.query(f"{series}{{{self._model}}}")
        return max((one.last for one in found if math.isfinite(one.last)), default=0.0)

    def _is_ready(self) -> bool:
        return self._says("Ready")

    def _says(self, type_: str) -> bool:
        return bool(self._condition(type_).get("status") == "True")

    def _condition(self, type_: str) -> Object:
        conditions = self._resource().get("status", {}).get("conditions", [])
        return next((found for found in conditions if found["type"] == type_), {})

    def _wait(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        wait_until(holds, seconds, lambda: f"{credit.NAME} {otherwise} after {seconds:.0f} s", pause=0.5)

    def _client(self, target: str, namespace: str, port: int) -> httpx.Client:
        url = self._stack.enter_context(self._kube.port_forward(target, namespace, port))
        return self._stack.enter_context(httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False))
