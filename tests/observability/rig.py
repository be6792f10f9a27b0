"""Prometheus and Alertmanager themselves, model servers with a profile, and the operator's own collectors.

No cluster: everything is on loopback, and scraped and evaluated every second so that tests need not wait.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from e2e import credit
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import ALERTMANAGER, PROMETHEUS, GoProgram, Tools
from e2e.prometheus import Alertmanager, Prometheus, hurried_routes, hurried_rules
from slipway.api.generated import ROOT
from slipway.engine.metrics.audits import AuditCollector
from slipway.engine.metrics.controller import Metrics, ModelDeploymentCollector, RolloutCollector
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.observers.monitoring import Judge
from slipway.engine.store import Store
from slipway.observability import rules
from tests.ports import free_port
from tests.server.running import Server

NAMESPACE = "risk"
STABLE, CANARY = "1", "2"
SCRAPE_SECONDS = 1.0
#: How long an alert of the shipped rules waits here at most, and a group of alerts.
WAIT = "2s"
ROUTES = ROOT / "examples" / "alertmanager.yaml"
START_SECONDS = 30.0


def program(which: GoProgram) -> str:
    """A program from the cache, built by the first call."""
    return str(Tools(read_settings().cache).install(which))


def wait_for(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], object]) -> None:
    """AssertionError with ``otherwise`` if it does not hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.2)


async def _nothing(_: str) -> None:
    """What is read of a pod that is not there."""


class Operator:
    """Two replicas of which one leads, as Prometheus sees them; both watch the same ModelDeployment."""

    def __init__(self) -> None:
        self._store, self._version = Store(), itertools.count(1)
        self.ports, self._metrics, self._servers = [], [], []
        for replica in range(2):
            registry = CollectorRegistry()
            metrics = Metrics(registry)
            metrics.lead(partial(float, replica == 0))
            # It judges nobody: pods have their port for metrics in common, which these servers cannot.
            judge = Judge(self._store, _nothing, lambda _: None, lambda: datetime.now(UTC))
            for collector in (
                ModelDeploymentCollector(self._store),
                RolloutCollector(self._store),
                AuditCollector(self._store),
                MonitoringCollector(self._store, judge),
            ):
                registry.register(collector)
            port = free_port()
            self._servers.append(start_http_server(port, "127.0.0.1", registry))
            self.ports.append(port)
            self._metrics.append(metrics)
        self.say(ready=True)

    def say(self, *, ready: bool, weight: int = 50) -> None:
        """Put the ModelDeployment into the store, in the midst of a rollout."""
        now = "2026-01-01T00:00:00Z"
        revisions: dict[str, dict[str, Any]] = {
            role: {"revision": f"r{version}", "version": version, "digest": "", "readyReplicas": 1}
            for role, version in (("stable", STABLE), ("canary", CANARY))
        }
        revisions["stable"]["modelCreatedAt"] = now
        condition = {
            "type": "Ready",
            "status": str(ready),
            "reason": "Serving",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": now,
        }
        gate = {"name": "error-rate", "verdict": "Inconclusive", "message": "too few requests"}
        rollout = {
            "phase": "Progressing",
            "revision": "r2",
            "id": "r2-1",
            "step": 1,
            "startedAt": now,
            "stepStartedAt": now,
            "weight": weight,
            "gates": [gate],
        }
        manifest = credit.resource(NAMESPACE, "mlflow://credit/1", "feedback")
        version = str(next(self._version))
        manifest["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": version}
        verdict = {
            "type": "Drift",
            "status": "True",
            "reason": "FeaturesDrifted",
            "message": "income moved",
            "judgedAt": now,
            "countedSince": now,
        }
        figures = [
            {"metric": metric, "of": of, "value": value, "low": value, "high": value}
            for metric, of, value in (
                ("RobustAccuracy", "within 0.25", "0.71"),
                ("RobustAccuracyLoss", "within 0.25", "-0.02"),
                ("MedianDistance", "", "0.62"),
                ("MedianDistance", "stable version", "0.58"),
            )
        ]
        audit = {
            "name": "attack",
            "revision": "r2",
            "version": CANARY,
            "key": "k",
            "verdict": "Pass",
            "message": "71% of 200 rows stand within 0.25 deviations",
            "finishedAt": now,
            "figures": figures,
        }
        manifest["status"] = {
            "conditions": [condition],
            "audits": [audit],
            **revisions,
            "rollout": rollout,
            "monitoring": {"version": STABLE, "verdicts": [verdict]},
        }
        self._store.put(manifest)

    def work(self) -> None:
        """Do what makes an operator's counters rise."""
        leader = self._metrics[0]
        leader.added(1)
        leader.taken(0.01, 0)
        leader.requested("PATCH", 200)
        leader.reconciled("success", 0.02)
        leader.moved_traffic(0.2)

    def close(self) -> None:
        for server, thread in self._servers:
            server.shutdown()
            server.server_close()
            thread.join()


class Inbox:
    """Where Alertmanager sends what it has to say; each message with the path that it came by."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.messages.append((self.path, orjson.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Rig:
    """All of it, running."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.began = time.time()
        self.inbox = Inbox()
        stack.callback(self.inbox.close)
        self.operator = Operator()
        stack.callback(self.operator.close)
        keys = folder / "keys"
        keys.mkdir()
        (keys / "2026-01").write_bytes(b"0123456789abcdef" * 2)
        model = credit.make().save(folder / "served" / "model")
        self.servers = [
            stack.enter_context(
                Server(
                    model,
                    environment={"SLIPWAY_FEEDBACK_KEYS_DIR": str(keys)},
                    modelName=credit.NAME,
                    modelVersion=version,
                    feedbackMaxAgeDays=90,
                    suspectInputs=["Nearby", "Turned"],
                    freshness=credit.FRESHNESS,
                    sensitiveAttributes=[
                        {
                            "name": credit.ATTRIBUTE,
                            "parameter": credit.ATTRIBUTE,
                            "groups": list(credit.GROUPS),
                        }
                    ],
                    favorableOutcomes=[credit.FAVORABLE],
                )
            )
            for version in (STABLE, CANARY)
        ]
        for server in self.servers:
            server.wait_until_ready()
        alerts = f"127.0.0.1:{free_port()}"
        self.alertmanager = Alertmanager(self._client(alerts, stack))
        self._start_alertmanager(folder, alerts, stack)
        metrics = f"127.0.0.1:{free_port()}"
        self.prometheus = Prometheus(self._client(metrics, stack))
        self._start_prometheus(folder, metrics, alerts, stack)

    def wait_until_scraped(self) -> None:
        """From here on whatever is counted is an increase."""

        def all_up() -> bool:
            return {target["health"] for target in self.prometheus.targets()} == {"up"}

        wait_for(all_up, START_SECONDS, self.prometheus.targets)

    def send(self, asked: credit.Applicants, pause: float = 0.0, servers: Sequence[Server] = ()) -> int:
        """Ask these servers in turn, tell them what became of whom, and have the operator work meanwhile.

        Returns how many labels were taken.
        """
        taken = 0
        for server, batch in zip(itertools.cycle(servers or self.servers), asked.batches(), strict=False):
            tokens = credit.ask(server.client, batch)
            taken += credit.tell(server.client, tokens, batch)
            self.operator.work()
            time.sleep(pause)
        return taken

    def _start_prometheus(self, folder: Path, address: str, alerts: str, stack: ExitStack) -> None:
        (folder / "slipway.yaml").write_text(hurried_rules((ROOT / rules.FILE).read_text(), WAIT))
        pods = [
            {"targets": [f"127.0.0.1:{server.admin_port}"], "labels": {"namespace": NAMESPACE, "pod": pod}}
            for server, pod in zip(self.servers, ("credit-a", "credit-b"), strict=True)
        ]
        operators = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"namespace": "slipway-system", "pod": f"slipway-{replica}"},
            }
            for replica, port in enumerate(self.operator.ports)
        ]
        interval = f"{SCRAPE_SECONDS:.0f}s"
        config = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(folder / "slipway.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
            "scrape_configs": [
                {"job_name": "models", "static_configs": pods},
                {"job_name": "operator", "honor_labels": True, "static_configs": operators},
            ],
        }
        file = folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        words = [
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
        ]
        self._run(PROMETHEUS, words, folder / "prometheus.log", stack, self.prometheus.client)

    def _start_alertmanager(self, folder: Path, address: str, stack: ExitStack) -> None:
        document = yaml.safe_load(hurried_routes(ROUTES.read_text(), "1s"))
        for hook in (hook for each in document["receivers"] for hook in each.get("webhook_configs", ())):
            hook["url"] = self.inbox.url + httpx.URL(hook["url"]).path
        file = folder / "alertmanager.yaml"
        file.write_text(yaml.safe_dump(document))
        words = [
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]
        self._run(ALERTMANAGER, words, folder / "alertmanager.log", stack, self.alertmanager.client)

    def _run(
        self, what: GoProgram, words: Sequence[str], log: Path, stack: ExitStack, client: httpx.Client
    ) -> None:
        with log.open("wb") as out:
            process = subprocess.Popen([program(what), *words], stdout=out, stderr=out)
        stack.callback(_end, process)

        def ready() -> bool:
            try:
                return client.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready, START_SECONDS, log.read_text)

    def _client(self, address: str, stack: ExitStack) -> httpx.Client:
        return stack.enter_context(httpx.Client(base_url=f"http://{address}", trust_env=False))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(START_SECONDS)


@contextmanager
def running(folder: Path) -> Iterator[Rig]:
    """Start all of it, and end it."""
    with ExitStack() as stack:
        yield Rig(folder, stack)


def chosen(feature: str = "income") -> Mapping[str, str]:
    """What a reader of the dashboards chooses here."""
    return {"namespace": NAMESPACE, "model": credit.NAME, "name": credit.NAME, "feature": feature}
