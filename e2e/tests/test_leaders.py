"""Two operators, of which one leads: one that was stopped writes nothing when it goes on."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, web
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient

from e2e.cluster.settings import Settings
from e2e.kube import Kube, Object
from e2e.tests import figures, models
from e2e.tests.audit import check_one_leader, check_silent
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation, temporary_namespace
from e2e.tests.registry import Registry
from slipway.engine.controller.apply import CLAIM_MANAGER
from tests.contract.api_server import Cluster
from tests.unit.infra.api_server import api_server
from tests.unit.processes import start_operator

STOPPED = 30.0


@pytest.mark.alone
@pytest.mark.long
def test_a_leader_that_was_stopped_for_30_seconds_writes_nothing_and_hands_over(
    installed: Installation, settings: Settings, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"leaders-{token}"
    since = datetime.now(UTC)
    uri = f"mlflow://{model}/{mlflow.register(model, models.iris(1.0))}"
    kube.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "leaders", "namespace": namespace},
            "spec": {
                "model": {"uri": uri},
                "runtime": {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}},
            },
        }
    )
    wait_until_ready(kube, "leaders", namespace)
    before = _lease(installed)
    pod = _pod(installed, figures.leader(kube))
    with figures.killer(installed, f"stopper-{token}") as stopper:
        # It has work that it did not get to when it stops.
        _scale(installed, namespace, 2)
        assert stopper.signal(pod, signal.SIGSTOP)
        began = time.monotonic()
        _scale(installed, namespace, 3)
        wait_for(
            lambda: figures.leader(kube) not in ("", pod["metadata"]["name"]),
            25,
            "nobody took the lease over",
        )
        wait_until_ready(kube, "leaders", namespace)
        time.sleep(max(0.0, began + STOPPED - time.monotonic()))
        went_on = datetime.now(UTC)
        assert stopper.signal(pod, signal.SIGCONT)
        wait_for(
            lambda: _restarts(_pod(installed, pod["metadata"]["name"])) > _restarts(pod),
            30,
            "the old leader did not end",
        )
        leader = figures.leader(kube)
        version = kube.get("modeldeployment", "leaders", namespace)
        assert leader != pod["metadata"]["name"]
    check_silent(settings, pod["metadata"]["name"], went_on, namespace)
    check_one_leader(settings, since, namespace)
    transitions = [int(found["spec"].get("leaseTransitions") or 0) for found in (before, _lease(installed))]
    assert transitions[1] == transitions[0] + 1
    # What the second one reported stands.
    time.sleep(5)
    after = kube.get("modeldeployment", "leaders", namespace)
    assert version is not None
    assert after is not None
    assert after["status"]["observedGeneration"] == version["metadata"]["generation"]
    assert after["status"]["operator"] == f"{SYSTEM_NAMESPACE}/{figures.LEASE}"


@dataclass
class Proxy:
    """Stands between operators and the API server, and writes down who changed what and when."""

    client: ApiClient
    log: list[tuple[float, str, str, str]] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Hand a request on as the administrator's."""
        session = self.client.rest_client.pool_manager
        assert session is not None
        caller = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.log.append((asyncio.get_running_loop().time(), caller, request.method, request.path))
        headers = {
            name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers
        }
        url = self.client.configuration.host + request.path_qs
        async with session.request(
            request.method,
            url,
            headers=headers,
            data=await request.read() or None,
            timeout=ClientTimeout(total=None),
        ) as found:
            response = web.StreamResponse(status=found.status, headers={"Content-Type": found.content_type})
            await response.prepare(request)
            async for chunk in found.content.iter_any():
                await response.write(chunk)
            return response

    def writes(self, caller: str, since: float = 0.0) -> list[tuple[float, str, str, str]]:
        """What an operator may have changed since then, other than its lease."""
        return [
            found
            for found in self.log
            if found[0] >= since and found[1] == caller and found[2] != "GET" and "/leases" not in found[3]
        ]


async def test_of_two_operators_one_that_is_stopped_writes_nothing_when_it_goes_on(
    kube: Kube, tmp_path: Path
) -> None:
    """Processes on this machine, with a namespace and a lease of their own, next to whatever is installed."""
    await config.load_kube_config(str(kube.kubeconfig))  # type: ignore[no-untyped-call]
    loop = asyncio.get_running_loop()
    processes: dict[str, asyncio.subprocess.Process] = {}
    with temporary_namespace(kube, "leaders") as namespace:
        async with ApiClient() as client, api_server(proxy := Proxy(client)) as server:
            cluster = Cluster(client, namespace)
            mark = {"operator": f"{namespace}/slipway-operator"}
            made = await cluster.kube.apply(cluster.model("fraud"), "kubectl")
            # An installation that watches all namespaces leaves it to these two.
            await cluster.kube.apply_status(cluster.status(made, mark), CLAIM_MANAGER)

            async def start(name: str) -> None:
                processes[name] = await start_operator(
                    tmp_path,
                    name,
                    str(server.server.make_url("")),
                    POD_NAMESPACE=namespace,
                    SLIPWAY_WATCH_NAMESPACES=namespace,
                )

            async def keep_busy() -> None:
                for number in range(10_000):
                    await asyncio.sleep(0.3)
                    await cluster.kube.apply(cluster.model("fraud", 1 + number % 5), "kubectl")

            async def leading(name: str) -> None:
                async with asyncio.timeout(90):
                    while len(proxy.writes(name)) < 4:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)

            busy = asyncio.create_task(keep_busy())
            try:
                await start("one")
                await leading("one")
                await start("two")
                processes["one"].send_signal(signal.SIGSTOP)
                stopped = loop.time()
                await leading("two")
                assert proxy.writes("two")[0][0] - stopped >= 10
                await asyncio.sleep(max(0.0, stopped + STOPPED - loop.time()))
                assert proxy.writes("one", stopped + 0.5) == []
                went_on = loop.time()
                processes["one"].send_signal(signal.SIGCONT)
                assert await asyncio.wait_for(processes["one"].wait(), 20) == 1
                assert proxy.writes("one", went_on) == []
                before = len(proxy.writes("two"))
                await asyncio.sleep(5)
                assert len(proxy.writes("two")) > before
            finally:
                busy.cancel()
                for process in processes.values():
                    if process.returncode is None:
                        process.kill()
                    await process.wait()
                print({name: (tmp_path / f"{name}.log").read_text()[-3000:] for name in processes})


def _lease(installed: Installation) -> Object:
    found = installed.kube.get("lease", figures.LEASE, SYSTEM_NAMESPACE)
    assert found is not None
    return found


def _pod(installed: Installation, name: str) -> Object:
    found = installed.kube.get("pod", name, SYSTEM_NAMESPACE)
    assert found is not None
    return found


def _restarts(pod: Object) -> int:
    return sum(int(found["restartCount"]) for found in pod["status"]["containerStatuses"])


def _scale(installed: Installation, namespace: str, replicas: int) -> None:
    patch = json.dumps({"spec": {"scaling": {"minReplicas": replicas, "maxReplicas": 4}}})
    installed.kube.kubectl(
        "patch", "modeldeployment", "leaders", f"--namespace={namespace}", "--type=merge", f"--patch={patch}"
    )
