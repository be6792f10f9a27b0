"""Traffic is split as asked, nothing is lost while it moves, and a bad version gets none of it for long."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from onnx import ModelProto, parser

from e2e.cluster.command import run
from e2e.kube import Kube, Object
from e2e.ledger import LONG, PATIENCE, hold, note
from e2e.load import Load, loading
from e2e.tests import figures
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation
from e2e.tests.registry import Registry
from e2e.tests.test_figures_rolling import FACTORS, change, plan, scale, times
from slipway.contract import GRPC_PORT
from slipway_server.rpc import open_inference_pb2 as oip

NAME = "steps"
REQUESTS = 100_000 if LONG else 10_000
#: Answers that each weight is judged on.
SAMPLE = 10_000 if LONG else 2_000
RATE = 400.0
WEIGHTS = (1, 10, 50)
#: A share of binomial noise goes beyond this once in fifteen thousand samples.
MOST_Z = 4.0
#: Model server pods of any version.
SERVING = f"slipway.dev/modeldeployment={NAME},app.kubernetes.io/component=model-server"


@pytest.fixture(scope="module")
def versions(mlflow: Registry, token: str) -> list[str]:
    """URIs of three versions that multiply by different factors."""
    model = f"steps-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, times(factor))}" for factor in FACTORS]


@pytest.mark.alone
@pytest.mark.timed
def test_no_request_fails_through_all_that_moves_traffic(
    installed: Installation, restricted_namespace: str, versions: list[str]
) -> None:
    kube, namespace = installed.kube, restricted_namespace
    one, two, three = (uri.rsplit("/", 1)[1] for uri in versions)
    kube.apply(resource(namespace, versions[0]))
    wait_until_ready(kube, NAME, namespace)
    wait_for(lambda: synced(kube, namespace), 120, "the Service does not lead to routers")
    shares: list[str] = []
    with loading(
        kube, namespace, installed.server_image, plan(namespace, [one, two, three], NAME, RATE)
    ) as load:
        change(kube, namespace, versions[1], NAME)
        for step, weight in enumerate(WEIGHTS):
            wait_for_step(kube, namespace, weight)
            shares.append(share(load, two, weight))
            shares.append(grpc_share(kube, namespace, two, weight))
            if weight == WEIGHTS[-1]:
                kill_a_pod(kube, namespace, status(kube, namespace)["canary"]["revision"])
                load.wait_for(load.so_far()["sent"] + 2000, 60)
            promote(kube, namespace, 2 * step + 1)
        wait_for(lambda: stable(kube, namespace) == two, 120, "version 2 does not take over")

        scale(kube, namespace, 3, NAME)
        wait_for(lambda: len(ready(kube, namespace)) == 3, 120, "there are not three pods")
        scale(kube, namespace, 2, NAME)

        kube.kubectl("rollout", "restart", "deployment/slipway-router", f"--namespace={namespace}")
        kube.kubectl(
            "rollout", "status", "deployment/slipway-router", f"--namespace={namespace}", seconds=180
        )

        change(kube, namespace, versions[2], NAME)
        wait_for_step(kube, namespace, WEIGHTS[0])
        # Nobody decides anything meanwhile, and everything goes on.
        operators(kube, 0)
        load.wait_for(load.so_far()["sent"] + 4000, 60)
        operators(kube, 2)
        promote(kube, namespace, 1)
        wait_for_step(kube, namespace, WEIGHTS[1])
        drawn = command(kube, namespace, "status")
        assert "  → wait for approval" in drawn, drawn
        command(kube, namespace, "abort")
        aborted = time.time()
        wait_for(lambda: bool(status(kube, namespace).get("rejected")), 60, "it is not aborted")
        load.wait_for(REQUESTS, 400)
        account = load.stop()

    note(f"shares: {'; '.join(shares)}")
    note(f"rollouts under load: {json.dumps({**account, 'failures': account['failures'][:5]})}")
    note(f"last answer of an aborted canary {account['last'][three] - aborted:.2f} s after the command")
    note(f"change of a route until every router does it: {moving_times(kube)}")
    assert account["failed"] == 0, account["failures"]
    assert account["sent"] >= REQUESTS
    assert stable(kube, namespace) == two
    hold("last answer of an aborted canary", account["last"][three] - aborted, 3)


@pytest.mark.timed
def test_a_bad_version_is_back_at_nothing_within_two_looks(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str, versions: list[str]
) -> None:
    kube, namespace = installed.kube, restricted_namespace
    bad = f"mlflow://bad-{token}/{mlflow.register(f'bad-{token}', failing(FACTORS[1]))}"
    steps = [{"setWeight": 20}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}]
    spec = resource(namespace, versions[0])
    spec["spec"]["rollout"] |= {"steps": steps, "analysis": {"intervalSeconds": 5}}
    kube.apply(spec)
    wait_until_ready(kube, NAME, namespace)
    wait_for(lambda: synced(kube, namespace), 120, "the Service does not lead to routers")
    number = versions[0].rsplit("/", 1)[1]
    with loading(kube, namespace, installed.server_image, plan(namespace, [number], NAME, RATE)) as load:
        load.wait_for(500, 60)
        change(kube, namespace, bad, NAME)
        wait_for(lambda: bool(status(kube, namespace).get("rejected")), 180, "it is not rejected")
        account = load.stop()
    first, last = account["failures"][0]["at"], account["last"]["failed"]
    message = status(kube, namespace)["rejected"][0]["message"]
    failed = f"{account['failed']} of {account['sent']} requests failed"
    note(f"bad canary: {failed} within {last - first:.1f} s; {message}")
    # Two looks, and the time that a busy machine takes to look and to move traffic.
    hold("a bad canary, from its first failure to its last", last - first, 2 * 5 + 3)
    assert "evidence" in message
    # As Argo CD would, again and again: it stays out.
    for _ in range(3 if LONG else 1):
        spec["spec"]["model"]["uri"] = bad
        kube.apply(spec)
        time.sleep(10)
        found = status(kube, namespace)
        assert "canary" not in found, found
        assert found["stable"]["version"] == number


def test_no_request_fails_from_shared_routers_to_own_ones_and_straight_to_the_pods(
    installed: Installation, restricted_namespace: str, versions: list[str]
) -> None:
    """A neighbour keeps the shared routers up, to which clients have connections."""
    kube, namespace = installed.kube, restricted_namespace
    spec, neighbour = resource(namespace, versions[0]), resource(namespace, versions[1])
    neighbour["metadata"]["name"], neighbour["spec"]["scaling"]["minReplicas"] = "neighbour", 1
    kube.apply(spec, neighbour)
    for name in (NAME, "neighbour"):
        wait_until_ready(kube, name, namespace)
    wait_for(lambda: synced(kube, namespace), 120, "the Service does not lead to routers")
    shared = {"app.kubernetes.io/component": "router", "slipway.dev/modeldeployment": ""}
    own = shared | {"slipway.dev/modeldeployment": NAME}
    number = versions[0].rsplit("/", 1)[1]
    with loading(kube, namespace, installed.server_image, plan(namespace, [number], NAME, 100.0)) as load:
        load.wait_for(500, 60)
        assert shared.items() <= selector(kube, namespace).items()
        spec["spec"]["traffic"] = {"router": "Dedicated"}
        kube.apply(spec)
        wait_for(
            lambda: own.items() <= selector(kube, namespace).items(), 180, "it has no routers of its own"
        )
        # Until the shared ones have let its clients go.
        load.wait_for(load.so_far()["sent"] + 6000, 120)
        del spec["spec"]["traffic"]
        spec["spec"]["rollout"] = {"strategy": "RollingUpdate"}
        kube.apply(spec)
        wait_for(lambda: "slipway.dev/revision" in selector(kube, namespace), 60, "it still leads to routers")
        gone = f"deployment/slipway-router-{NAME}"
        kube.kubectl("wait", gone, f"--namespace={namespace}", "--for=delete", "--timeout=120s", seconds=150)
        load.wait_for(load.so_far()["sent"] + 4000, 120)
        account = load.stop()
    note(f"from shared routers to own ones to none: {json.dumps({**account, 'failures': []})}")
    assert account["failed"] == 0, account["failures"]
    assert kube.get("deployment", "slipway-router", namespace) is not None


def resource(namespace: str, uri: str) -> dict[str, Any]:
    """Two pods, and steps that wait for somebody."""
    steps = [
        step for weight in WEIGHTS for step in ({"setWeight": weight}, {"pause": {"untilApproved": True}})
    ]
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"uri": uri},
            "runtime": {
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "requestTimeoutMilliseconds": 8000,
            },
            "scaling": {
                "minReplicas": 2,
                "maxReplicas": 3,
                "metrics": [{"type": "CPU", "targetPercent": 1000}],
            },
            "rollout": {"strategy": "Canary", "steps": steps},
        },
    }


def failing(factor: int) -> ModelProto:
    """As `times`, but it looks up something that is not there when the first number is above 8."""
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] y) {{
            factor = Constant<value: tensor = float {{{factor}.0}}>()
            table = Constant<value: tensor = float[1] {{0.0}}>()
            first = Constant<value: tensor = int64[1] {{0}}>()
            limit = Constant<value: tensor = float {{8.0}}>()
            value = Gather<axis = 1>(x, first)
            above = Greater(value, limit)
            index = Cast<to = 7>(above)
            nothing = Gather(table, index)
            sum = Add(x, nothing)
            y = Mul(sum, factor)
        }}"""
    )


def share(load: Load, version: str, weight: int) -> str:
    """Judge the share of a version in the next answers; in words."""
    before = load.so_far()["answers"]
    end = time.monotonic() + 120 * PATIENCE
    while True:
        now = load.so_far()["answers"]
        answers = {found: count - before.get(found, 0) for found, count in now.items()}
        if sum(answers.values()) >= SAMPLE:
            break
        assert time.monotonic() < end, f"only {answers}"
        time.sleep(0.5)
    return judged("REST", answers, version, weight)


def grpc_share(kube: Kube, namespace: str, version: str, weight: int) -> str:
    """Judge the share of a version in answers over one connection of gRPC; in words."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([1.0, 2.0, 3.0])
    asked = oip.ModelInferRequest(model_name=NAME, inputs=[tensor])
    with (
        kube.port_forward(f"service/{NAME}", namespace, GRPC_PORT) as url,
        grpc.insecure_channel(url.removeprefix("http://")) as channel,
        ThreadPoolExecutor(8) as threads,
    ):
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        found = threads.map(lambda _: infer(asked, timeout=20).model_version, range(SAMPLE))
        return judged("gRPC", Counter(found), version, weight)


def judged(protocol: str, answers: Mapping[str, int], version: str, weight: int) -> str:
    """Whether a version's share is within binomial error of its weight; in words."""
    total, part = sum(answers.values()), weight / 100
    z = (answers.get(version, 0) - total * part) / math.sqrt(total * part * (1 - part))
    assert abs(z) < MOST_Z, f"{protocol}: {answers} at {weight}%"
    return f"{protocol} {weight}%: {answers.get(version, 0)} of {total} (z = {z:+.1f})"


def status(kube: Kube, namespace: str) -> Object:
    found: Object = (kube.get("modeldeployment", NAME, namespace) or {}).get("status", {})
    return found


def rollout(kube: Kube, namespace: str) -> Object:
    found: Object = status(kube, namespace).get("rollout", {})
    return found


def stable(kube: Kube, namespace: str) -> str:
    return str(status(kube, namespace)["stable"]["version"])


def selector(kube: Kube, namespace: str) -> dict[str, str]:
    """Whom the Service leads to."""
    service = kube.get("service", NAME, namespace) or {}
    found: dict[str, str] = service.get("spec", {}).get("selector", {})
    return found


def synced(kube: Kube, namespace: str) -> bool:
    conditions = status(kube, namespace).get("conditions", [])
    leads = "slipway.dev/revision" not in selector(kube, namespace)
    return leads and any(
        found["type"] == "TrafficSynced" and found["status"] == "True" for found in conditions
    )


def wait_for_step(kube: Kube, namespace: str, weight: int) -> None:
    """Wait until all routers send this share to the canary and the rollout waits for somebody."""

    def there() -> bool:
        found = status(kube, namespace)
        return found.get("canaryWeight") == weight and found.get("rollout", {}).get("phase") == "Paused"

    wait_for(there, 180, f"the canary does not get {weight}%")


def promote(kube: Kube, namespace: str, step: int) -> None:
    found = rollout(kube, namespace)
    assert found["step"] == step, found
    said = command(kube, namespace, "promote")
    assert said.strip() == f"rollout {found['id']} goes on from step {step + 1}"


def command(kube: Kube, namespace: str, name: str) -> str:
    """What `kubectl slipway` says."""
    words = (name, NAME, f"--namespace={namespace}", f"--kubeconfig={kube.kubeconfig}")
    return run([sys.executable, "-m", "slipway.cli.main", *words], timeout=30)


def operators(kube: Kube, replicas: int) -> None:
    """So many operators run; none means that nobody is there at all."""
    name = f"--namespace={SYSTEM_NAMESPACE}"
    kube.kubectl("scale", "deployment/slipway", name, f"--replicas={replicas}")
    wait_for(
        lambda: len([pod for pod in figures.operator_pods(kube) if _is_ready(pod)]) == replicas,
        90,
        f"there are not {replicas} operators",
    )


def ready(kube: Kube, namespace: str) -> list[str]:
    """Names of the model's pods that are ready and stay."""
    found = kube.items("pods", namespace, SERVING)
    return [
        pod["metadata"]["name"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)
    ]


def kill_a_pod(kube: Kube, namespace: str, revision: str) -> None:
    """Take a pod of a revision away without grace."""
    (name, *_) = [found for found in ready(kube, namespace) if revision in found]
    gone = ("--grace-period=0", "--force", "--wait=false")
    kube.kubectl("delete", "pod", name, f"--namespace={namespace}", *gone)


def moving_times(kube: Kube) -> str:
    """Median and 99th percentile of the operator's own histogram, as bounds."""
    buckets: dict[float, float] = {}
    for pod in figures.operator_pods(kube):
        for (name, labels), value in figures.operator_samples(kube, pod["metadata"]["name"]).items():
            if name == "slipway_rollout_traffic_seconds_bucket":
                bound = float(dict(labels)["le"])
                buckets[bound] = buckets.get(bound, 0) + value
    total = max(buckets.values())
    bounds: list[Callable[[float], bool]] = [lambda n: n >= total * 0.5, lambda n: n >= total * 0.99]
    median, most = (min(bound for bound, count in buckets.items() if holds(count)) for holds in bounds)
    return f"median ≤ {median:g} s, p99 ≤ {most:g} s of {total:.0f}"


def _is_ready(pod: Object) -> bool:
    found = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)
