"""Wiring of the operator."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from datetime import UTC, datetime

import uvloop
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.process_collector import ProcessCollector

from slipway.api.types import KIND
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.claims import Claims
from slipway.engine.controller.reconcile import Reconciler
from slipway.engine.controller.routes import Routes
from slipway.engine.controller.sweep import Sweep, await_kinds, begin
from slipway.engine.controller.traffic import TrafficView
from slipway.engine.controller.upgrades import UpgradeCollector, Upgrades
from slipway.engine.controller.workers import Rounds, work
from slipway.engine.installed_crd import InstalledCrd
from slipway.engine.kube import RESOURCES
from slipway.engine.metrics.audits import AuditCollector
from slipway.engine.metrics.controller import (
    InstalledCollector,
    Metrics,
    ModelDeploymentCollector,
    RolloutCollector,
    UnseenCollector,
)
from slipway.engine.metrics.kept import KeptText
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.metrics.observers import ObserverCollector
from slipway.engine.observers import pod_counts, watched
from slipway.engine.observers.aliases import Aliases
from slipway.engine.observers.cluster_keys import ClusterKeys
from slipway.engine.observers.issuer_keys import IssuerKeys
from slipway.engine.observers.looks import LookObserver
from slipway.engine.observers.monitoring import Judge
from slipway.engine.observers.observers import Observers
from slipway.engine.observers.pod_counts import PodCountReader
from slipway.engine.observers.prometheus import PrometheusReader
from slipway.engine.observers.routers import RouterObserver
from slipway.engine.observers.shadow_answers import AnswerReader
from slipway.engine.queue import WorkQueue
from slipway.engine.store import Key, Store
from slipway.environment import Environment
from slipway.infra import http, leader, logs, webhook
from slipway.infra.bounded import Budget
from slipway.infra.cluster_keys import ClusterKeyReader
from slipway.infra.connection import client_of, connect, without_limit
from slipway.infra.fence import Fence, boot_time
from slipway.infra.issuer_keys import issuer_key_reader
from slipway.infra.kube import KubeClient
from slipway.infra.mlflow import alias_reader
from slipway.infra.modeldeployments import watch_model_deployments
from slipway.infra.pods import answer_taker, pod_reader
from slipway.infra.prometheus import prometheus_reader
from slipway.infra.routers import router_reader
from slipway.infra.watch import watch
from slipway.names import COHORTS_PATH

log = logging.getLogger(__name__)

#: Kinds that the operator watches by itself; kopf watches ModelDeployments.
CHILDREN = RESOURCES.keys() - {KIND}
#: Seconds that runs under way get after SIGTERM.
DRAIN_SECONDS = 20.0


def main() -> None:
    """Run until SIGTERM."""
    logs.set_up(os.environ.get("SLIPWAY_LOG_LEVEL", "INFO"))
    _collect_garbage_rarely()
    uvloop.run(run(Environment.read()))


def _collect_garbage_rarely() -> None:
    """What is kept of thousands of objects has no cycles: to look for some holds the loop up for long.

    Requests and their errors have some, and those are young.
    """
    gc.collect()
    # The clients' modules alone are some hundred thousand objects.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def run(environment: Environment) -> None:
    """Watch, and reconcile while this replica leads."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.max_workers.set(environment.workers)
    store = Store()
    registry.register(UnseenCollector(store))
    ProcessCollector(registry=registry)
    queue: WorkQueue[Key] = WorkQueue(metrics)
    synced, asked_to_stop = asyncio.Event(), asyncio.Event()
    pulse = http.Pulse()
    beating = asyncio.create_task(pulse.beat(metrics.lagged))

    await connect()
    fence = Fence(leader.TIMING.begin, leader.TIMING.finish)
    metrics.lead(fence.left)
    tracking_uri, budget = environment.settings.mlflow_tracking_uri, Budget()
    async with (
        client_of() as client,
        # What holds up other requests is not to hold up the lease.
        client_of() as lease_client,
        client_of(without_limit()) as watch_client,
        router_reader(budget) as reader,
        pod_reader(pod_counts.WANTED, budget) as read_served,
        pod_reader(watched.WANTED, budget) as read_counters,
        pod_reader(watched.COHORTS, budget, COHORTS_PATH) as read_cohorts,
        answer_taker(budget) as take_answers,
        prometheus_reader(budget) as ask_prometheus,
        alias_reader(tracking_uri) as ask,
        issuer_key_reader(budget) as read_issuer,
    ):
        alias_version = ask if tracking_uri else None
        kube = KubeClient(client, metrics.requested, fence.left)
        installed = InstalledCrd(kube.openapi)
        registry.register(InstalledCollector(installed))
        writer = Writer(kube, store, environment.identity, installed.fit)
        noting = Writer(
            KubeClient(client, metrics.requested, fence.left_for_request), store, environment.identity
        )
        leases = leader.Leases(lease_client)
        candidate = leader.Candidate(leases, environment.namespace, environment.identity, fence)
        hook = webhook.Webhook(
            environment.webhook_token,
            lambda namespace, name: noting.request_refresh(Key(namespace, name), _now()),
        )
        hooks = await webhook.serve(hook, environment.webhook_port) if environment.webhook_token else None
        upgrades = Upgrades(store, environment.most_upgrades, queue.add)
        registry.register(UpgradeCollector(upgrades))
        observers = Observers(
            RouterObserver(store, reader, queue.add, _now),
            LookObserver(PodCountReader(store, read_served, _now).read, queue.add, _now),
            LookObserver(AnswerReader(store, take_answers).read, queue.add, _now),
            LookObserver(PrometheusReader(ask_prometheus).read, queue.add, _now),
            Aliases(store, alias_version, queue.add, _now),
            Judge(store, read_counters, queue.add, _now, read_cohorts=read_cohorts),
            ClusterKeys(ClusterKeyReader(client, metrics.requested), queue.add, _now),
            IssuerKeys(read_issuer, queue.add, _now),
        )
        registry.register(ObserverCollector(observers.by_name))
        kept = KeptText(
            store,
            [
                ModelDeploymentCollector(store),
                RolloutCollector(store),
                AuditCollector(store),
                MonitoringCollector(store, observers.monitoring),
            ],
        )

        async def page() -> bytes:
            return generate_latest(registry) + await kept.text()

        server = await http.serve(page, pulse, synced.is_set, environment.port)
        routes = Routes(
            store,
            writer,
            environment.routers,
            observers.routers,
            queue.add,
            _now,
            upgrades,
            metrics.moved_traffic,
        )
        traffic = TrafficView(store, routes, observers, environment.allowed, _now)
        claims = Claims(
            store,
            writer,
            f"{environment.namespace}/{leader.LEASE_NAME}",
            leader.lease_reader(leases),
            queue.add,
            boot_time,
            _now,
        )
        metrics.count_elsewhere(lambda: claims.elsewhere)
        reconciler = Reconciler(
            store, writer, routes, traffic, observers, claims, upgrades, environment.settings, _now, queue.add
        )
        sweep = Sweep(kube, store, queue, environment.namespaces)
        workers: list[asyncio.Task[None]] = []

        async def act() -> None:
            await sweep.again()
            await installed.look()
            begin(store, queue)
            rounds = Rounds()
            workers.extend(
                asyncio.create_task(work(queue, reconciler.reconcile, metrics, rounds))
                for _ in range(environment.workers)
            )
            await asyncio.gather(sweep.watch(), observers.watch(), claims.watch(), installed.watch())

        await sweep.first()
        synced.set()
        leading = asyncio.create_task(leader.lead(candidate, fence, act))
        leading.add_done_callback(lambda task: _ended("leader election", task, asked_to_stop))
        # Watches are set up once: a replica that is to see another kind has to start anew.
        growing = asyncio.create_task(await_kinds(kube, store.unknown, environment.namespaces))
        growing.add_done_callback(lambda _: asked_to_stop.set())
        watches = KubeClient(watch_client, metrics.requested, fence.left)
        watching = asyncio.create_task(
            watch(watches, store, CHILDREN, queue.add, sweep.missed, environment.namespaces)
        )
        watching.add_done_callback(lambda task: _ended("watching", task, asked_to_stop))
        kopf_ready, kopf_stop = asyncio.Event(), asyncio.Event()
        model_deployments = asyncio.create_task(
            watch_model_deployments(
                kube, store, queue.add, sweep.missed, environment.namespaces, kopf_stop, kopf_ready
            )
        )
        model_deployments.add_done_callback(lambda task: _ended("kopf", task, asked_to_stop))
        # kopf stops at a signal by itself and cancels whatever else is running; so it is not to see one. Its
        # own handlers are there once it is ready, and ours take their place.
        await _first(model_deployments, kopf_ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
        await asked_to_stop.wait()

        log.info("stopping")
        synced.clear()
        queue.close()
        if workers:
            await asyncio.wait(workers, timeout=DRAIN_SECONDS)
        ended = [leading, growing, watching, *workers]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        await candidate.release()
        kopf_stop.set()
        await asyncio.gather(model_deployments, return_exceptions=True)
    beating.cancel()
    await server.cleanup()
    if hooks is not None:
        await hooks.cleanup()


def _now() -> datetime:
    return datetime.now(UTC)


async def _first(task: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for the task to end or the event to be set, whichever comes first."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _ended(what: str, task: asyncio.Task[None], asked_to_stop: asyncio.Event) -> None:
    """A replica that can no longer lead, or see, has to start again."""
    if not task.cancelled():
        log.error("%s ended", what, exc_info=task.exception())
        asked_to_stop.set()


if __name__ == "__main__":
    main()
