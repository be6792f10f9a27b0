"""An operator that is killed again and again arrives where an undisturbed one does."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from e2e.kube import Kube, Object
from e2e.ledger import LONG, PATIENCE, note
from e2e.tests import figures, models
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry

KILLS = 20 if LONG else 3
#: Words that occur in no manifest, so that they can be replaced there.
DISTURBED = ("kill-one", "kill-two", "kill-three")
TWIN = "kill-twin"
#: These go by steps, through routers; the others at once.
BY_STEPS = frozenset({"kill-two", "kill-three", "kill-steps-twin"})
STEPS_TWIN = "kill-steps-twin"
CHILDREN = (
    "controllerrevisions,deployments,services,serviceaccounts,horizontalpodautoscalers,poddisruptionbudgets"
)
STEPS = {
    "strategy": "Canary",
    "scaleDownDelaySeconds": 10,
    # Going to and fro is no going back to what was good.
    "rollbackWindowRevisions": 0,
    "steps": [{"setWeight": 10}, {"pause": {"seconds": 1}}, {"setWeight": 50}, {"pause": {"seconds": 1}}],
}
#: What differs between two objects although they are the same: who made them when, and where they are.
OWN = frozenset({"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace"})


@pytest.mark.alone
@pytest.mark.timed
def test_killed_during_rollouts_it_ends_where_an_undisturbed_one_does(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"kills-{token}"
    old, new = (f"mlflow://{model}/{mlflow.register(model, models.iris(c))}" for c in (1.0, 0.5))
    kube.apply(*(resource(name, namespace, old) for name in (*DISTURBED, TWIN, STEPS_TWIN)))
    for name in (*DISTURBED, TWIN, STEPS_TWIN):
        wait_until_ready(kube, name, namespace)
    for twin in (TWIN, STEPS_TWIN):
        patch(kube, twin, namespace, new)
    for twin in (TWIN, STEPS_TWIN):
        wait_until_ready(kube, twin, namespace)
        wait_until_settled(kube, twin, namespace)

    seed = random.randrange(10**6)
    print(f"seed: {seed}")
    dice = random.Random(seed)
    began = time.monotonic()
    killed: list[str] = []
    with figures.killer(installed, f"killer-{token}") as killer:
        for number in range(KILLS):
            # To and fro, so that each kill meets a roll-out that has begun or is half done.
            patch(kube, DISTURBED[number % 3], namespace, new if number // 3 % 2 == 0 else old)
            if number == KILLS // 2:
                kube.apply(resource("kill-late", namespace, new))
            time.sleep(dice.uniform(0, 3))
            killed.append(kill_one(installed, killer, dice))
    for name in DISTURBED:
        patch(kube, name, namespace, new)
    last_kill = time.monotonic()
    kube.apply(resource("kill-late-twin", namespace, new))

    for name in (*DISTURBED, "kill-late", "kill-late-twin"):
        wait_until_ready(kube, name, namespace)
    twins = [(name, STEPS_TWIN if name in BY_STEPS else TWIN) for name in DISTURBED]
    for name, twin in (*twins, ("kill-late", "kill-late-twin")):
        wait_until_settled(kube, name, namespace)
        wait_until_alike(kube, name, twin, namespace)
    note(
        f"{KILLS} kills in {last_kill - began:.0f} s ({killed.count('leader')} of the leader, "
        f"{killed.count('follower')} of the other): same end state as undisturbed, "
        f"{time.monotonic() - last_kill:.0f} s after the last"
    )
    assert not LONG or {"leader", "follower"} == set(killed)


def resource(name: str, namespace: str, uri: str) -> dict[str, Any]:
    """A ModelDeployment of one small pod."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": uri},
            "runtime": {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}},
            "scaling": {"maxReplicas": 1},
            "rollout": STEPS if name in BY_STEPS else {},
        },
    }


def patch(kube: Kube, name: str, namespace: str, uri: str) -> None:
    """Ask for another model."""
    change = json.dumps({"spec": {"model": {"uri": uri}}})
    kube.kubectl(
        "patch", "modeldeployment", name, f"--namespace={namespace}", "--type=merge", f"--patch={change}"
    )


def kill_one(installed: Installation, killer: figures.Killer, dice: random.Random) -> str:
    """Kill one of the replicas, the leader more often than not; which it was.

    The first time it starts again where it is. After that its pod is deleted as well: the kubelet makes a
    container wait longer and longer from the second restart on.
    """
    killed: str = wait_for(lambda: try_to_kill(installed, killer, dice), 90, "no operator runs")
    return killed


def try_to_kill(installed: Installation, killer: figures.Killer, dice: random.Random) -> str | None:
    """Kill one of the replicas that are said to run; None where none was there."""
    kube = installed.kube
    pods = running(kube)
    if not pods:
        return None
    holder = figures.leader(kube)
    leaders = [pod for pod in pods if pod["metadata"]["name"] == holder]
    victim = leaders[0] if leaders and dice.random() < 0.7 else dice.choice(pods)
    name = victim["metadata"]["name"]
    restarted = victim["status"]["containerStatuses"][0]["restartCount"] > 0
    if not killer.kill(victim, for_good=restarted):
        return None
    if restarted:
        figures.release_lease(kube, name)
    return "leader" if name == holder else "follower"


def running(kube: Kube) -> list[Object]:
    """The operator's pods whose process is there to be killed."""
    return [
        pod
        for pod in figures.operator_pods(kube)
        if any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))
    ]


def wait_until_settled(kube: Kube, name: str, namespace: str) -> None:
    """Wait until one revision alone has pods, and no resolver is left."""
    selector = f"slipway.dev/modeldeployment={name}"

    def settled() -> bool:
        pods, deployments = (kube.items(kind, namespace, selector) for kind in ("pods", "deployments"))
        return len(pods) == len(deployments) == 1

    wait_for(settled, 90, f"{name} does not come to rest")


def wait_until_alike(kube: Kube, name: str, twin: str, namespace: str) -> None:
    """Wait until two ModelDeployments are in the same end state: status has its last words after the pods."""
    end = time.monotonic() + 30 * PATIENCE
    while (found := end_state(kube, name, namespace)) != (other := end_state(kube, twin, namespace)):
        if time.monotonic() > end:
            for part in found.keys() | other.keys():
                assert found.get(part) == other.get(part), part
        time.sleep(1)


def end_state(kube: Kube, name: str, namespace: str) -> dict[str, Any]:
    """Children and status of a ModelDeployment, less what no two of them share."""
    found = kube.get("modeldeployment", name, namespace)
    assert found is not None
    children = kube.items(CHILDREN, namespace, f"slipway.dev/modeldeployment={name}")
    # A roll-out that is undone before it has begun takes no number: what counts is the order.
    order = sorted(child["revision"] for child in children if child["kind"] == "ControllerRevision")
    state: dict[str, Any] = {"status": status_of(found)}
    for child in children:
        if child["kind"] == "ControllerRevision":
            child["revision"] = order.index(child["revision"])
        state[f"{child['kind']} {child['metadata']['name']}".replace(name, "NAME")] = essence(child)
    normal: dict[str, Any] = json.loads(json.dumps(state).replace(name, "NAME"))
    return normal


def essence(child: Object) -> dict[str, Any]:
    """A child without what the API server and other controllers make of it."""
    meta = {key: value for key, value in child["metadata"].items() if key not in OWN}
    meta["annotations"] = sorted(meta.get("annotations", {}))
    meta["ownerReferences"] = [{**owner, "uid": "UID"} for owner in meta["ownerReferences"]]
    body = {key: value for key, value in child.items() if key not in ("metadata", "status", "spec")}
    addresses = ("clusterIP", "clusterIPs")
    spec = {key: value for key, value in child.get("spec", {}).items() if key not in addresses}
    if child["kind"] == "Service":
        # Each has a port of its own on the routers.
        ports = [{**port, "targetPort": str(port["targetPort"])} for port in spec["ports"]]
        spec["ports"] = [{**port, "targetPort": port["targetPort"].strip("0123456789")} for port in ports]
    status = child.get("status", {})
    counts = {key: status[key] for key in ("replicas", "readyReplicas", "currentHealthy") if key in status}
    return {**body, "metadata": meta, "spec": spec, "counts": counts}


def status_of(found: Object) -> dict[str, Any]:
    """A status without its times, and without the count of changes to the spec."""
    times = ("promotedAt", "routerPort")
    status = {**found["status"], **{name: name in found["status"] for name in times}}
    # Who was stable in between depends on how far each came.
    status.pop("previous", None)
    # What was decided on the way does, too; what was decided last does not.
    status["history"] = [
        (one["decision"], one["revision"], one.get("version")) for one in status.get("history", ())[-1:]
    ]
    generation = found["metadata"]["generation"]
    assert status.pop("observedGeneration") == generation
    status["settledGeneration"] = status.get("settledGeneration") == generation
    status["conditions"] = [
        {key: value for key, value in one.items() if key not in ("lastTransitionTime", "observedGeneration")}
        for one in status["conditions"]
    ]
    return status
