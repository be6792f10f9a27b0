"""``kubectl slipway plan``: what it finds to differ from what is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from slipway.api.pods import PodOptions
from slipway.api.types import API_VERSION, KIND
from slipway.cli.cluster import Cluster
from slipway.cli.errors import ForbiddenError
from slipway.cli.parser import parse
from slipway.cli.plan import CUDA_IMAGE, SERVER_IMAGE, installed
from slipway.core.objects.diff import differences
from slipway.core.observed import ObjectKind
from slipway.core.revision import Settings
from slipway.engine.store import Key
from tests.unit.cli.planning import told
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World

SPEC: dict[str, Any] = {
    "model": {"uri": "mlflow://fraud/1"},
    "scaling": {"minReplicas": 2},
    "rollout": {"strategy": "Canary"},
}


@pytest.fixture
async def world() -> World:
    """Version 1 serves."""
    world = World()
    await world.operator.start()
    world.create(SPEC)
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def planned(world: World, **change: Any) -> list[str]:
    # As the API server has them: the operator keeps less of each.
    known = world.operator.store.children(Key(NAMESPACE, NAME))
    children = [world.kube.find(child["kind"], NAMESPACE, child["metadata"]["name"]) for child in known]
    live = world.kube.find(KIND, NAMESPACE, NAME)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {**SPEC, **change},
    }
    settings = installed(live, children)
    assert settings == Settings(
        SETTINGS.server_image,
        SETTINGS.image_pull_policy,
        settings.mlflow_tracking_uri,
        cuda_image=settings.cuda_image,
    )
    return told(manifest, live, settings, world.now, children)


def verbs(lines: list[str]) -> dict[str, set[str]]:
    """Kinds by what is to happen to them."""
    found: dict[str, set[str]] = {}
    for verb, kind in (line.split()[:2] for line in lines):
        found.setdefault(verb, set()).add(kind)
    return found


async def test_an_upgrade_is_told_as_one_and_as_no_new_revision(world: World) -> None:
    # As the API server has them: the operator keeps less of each.
    known = world.operator.store.children(Key(NAMESPACE, NAME))
    children = [world.kube.find(child["kind"], NAMESPACE, child["metadata"]["name"]) for child in known]
    live = world.kube.find(KIND, NAMESPACE, NAME)
    newer = Settings("slipway.dev/server:0.2.0", SETTINGS.image_pull_policy, SETTINGS.mlflow_tracking_uri)
    lines = told(dict(live), live, newer, world.now, children)
    revision = world.status()["stable"]["revision"]
    assert lines[2] == f"  revision  {revision} stays"
    assert lines[3].startswith("  upgrade   its pods are replaced in a rolling update")
    (changes,) = [line for line in lines if line.startswith("  change")]
    assert "Deployment" in changes
    assert "spec.template.spec.containers[0].image" in changes
    assert not any("strategy" in line or "create" in line for line in lines)


async def test_nothing_is_to_be_done_for_what_is_there_already(world: World) -> None:
    lines = planned(world)
    assert verbs(lines[2:]) == {
        "revision": {world.status()["stable"]["revision"]},
        "unchanged": {
            "ServiceAccount",
            "ControllerRevision",
            "Deployment",
            "Service",
            "HorizontalPodAutoscaler",
            "PodDisruptionBudget",
        },
    }


async def test_a_change_is_told_by_the_field_that_it_changes(world: World) -> None:
    lines = planned(world, scaling={"minReplicas": 4})
    revision = world.status()["stable"]["revision"]
    assert f"  revision  {revision} stays: no pod is restarted" in lines
    (change,) = [line for line in lines if line.startswith("  change")]
    assert change == f"  change    HorizontalPodAutoscaler {NAME}-{revision}: spec.minReplicas"


async def test_what_somebody_changed_by_hand_is_told(world: World) -> None:
    revision = world.status()["stable"]["revision"]

    def change_by_hand(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "elsewhere"

    world.kube.edit((ObjectKind.DEPLOYMENT, NAMESPACE, f"{NAME}-{revision}"), change_by_hand)
    (change,) = [line for line in planned(world) if line.startswith("  change")]
    path = "spec.template.spec.containers[0].image"
    assert change == f"  change    Deployment {NAME}-{revision}: {path}"


async def test_a_change_of_the_device_is_a_new_revision_and_told_in_words(world: World) -> None:
    assert not any("device" in line for line in planned(world))
    runtime = {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}}
    lines = planned(world, runtime=runtime)
    told = "  device    CUDA, with nvidia.com/gpu: 1, by the installation's CUDA image; CPU before"
    assert told in lines
    assert any(line.startswith("  revision  a new one, next to ") for line in lines)
    # What is there by now, and back again.
    world.create({**SPEC, "runtime": runtime, "rollout": {}})
    await world.run(300)
    assert world.status()["stable"]["device"] == "CUDA"
    same = "  device    CUDA, with nvidia.com/gpu: 1, by the installation's CUDA image"
    own = {**runtime, "image": "registry.example.com/server-cuda:2"}
    assert same in planned(world, runtime=runtime, rollout={})
    assert f"{same.partition(', by')[0]}, by spec.runtime.image" in planned(world, runtime=own, rollout={})
    assert "  device    CPU; CUDA before" in planned(world)


async def test_a_new_version_creates_beside_what_stays(world: World) -> None:
    lines = planned(world, model={"uri": "mlflow://fraud/2"})
    found = verbs([line for line in lines if line.split()[0] in ("create", "change", "unchanged")])
    assert {"Deployment", "Service", "ControllerRevision"} <= found["create"]
    assert {"Deployment", "Service", "ControllerRevision"} <= found["unchanged"]
    assert f"  create    Deployment {NAME}-REVISION" in lines


async def test_a_model_that_is_not_looked_up_yet_says_what_is_known_of_it(world: World) -> None:
    uri, digest = "mlflow://fraud/7", f"sha256:{'7' * 64}"
    found = "  model     mlflow://fraud/7 is looked up first; "
    assert f"{found}its version and digest are not known yet" in planned(world, model={"uri": uri})
    assert f"{found}it must have the digest {digest}, and its version is not known yet" in planned(
        world, model={"uri": uri, "digest": digest}
    )


def test_without_a_stable_revision_the_charts_own_image_is_taken() -> None:
    assert installed(None, None) == Settings(SERVER_IMAGE, cuda_image=CUDA_IMAGE)


def test_differences_name_the_innermost_field() -> None:
    live = {"spec": {"ports": [{"port": 1, "name": "a"}], "limits": {"memory": "1Gi"}, "more": 1}}
    wanted = {"spec": {"ports": [{"port": 2}], "limits": {"memory": "1024Mi"}, "new": {"x": 1}}}
    assert list(differences(live, wanted)) == ["spec.ports[0].port", "spec.new"]


class _Api(BaseHTTPRequestHandler):
    """An API server with one Deployment of ours and one of somebody else."""

    forbidden = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        owned = {"ownerReferences": [{"uid": "u", "controller": True}]}
        items: list[Any] = []
        status = 200
        if path.endswith("/deployments"):
            items = [{"metadata": {"name": "ours", **owned}}, {"metadata": {"name": "theirs"}}]
        elif path.endswith("/httproutes"):
            status = 404
        elif self.forbidden and path.endswith(self.forbidden):
            status = 403
        body = json.dumps({"items": items}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "config"
    config.write_text(f"""\
apiVersion: v1
kind: Config
current-context: one
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{server.server_address[1]}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: one, context: {{cluster: here, user: me, namespace: payments}}}}]
""")
    yield Cluster(parse(["status", NAME, "--kubeconfig", str(config)]))
    server.shutdown()
    server.server_close()


def test_the_children_of_a_resource_are_its_own_alone(cluster: Cluster) -> None:
    """A kind that the cluster does not have has none."""
    (child,) = cluster.children({"metadata": {"name": "fraud", "uid": "u"}})
    assert (child["kind"], child["apiVersion"], child["metadata"]["name"]) == (
        "Deployment",
        "apps/v1",
        "ours",
    )


def test_a_kind_that_may_not_be_listed_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Api, "forbidden", "/services")
    with pytest.raises(ForbiddenError, match="Services in payments: the API server answered 403"):
        cluster.children({"metadata": {"name": "fraud", "uid": "u"}})


async def test_what_is_said_of_pods_is_told_as_no_new_revision(world: World) -> None:
    lines = planned(world, runtime={"pod": {"labels": {"team": "risk"}}})
    revision = world.status()["stable"]["revision"]
    assert lines[2:4] == [
        f"  revision  {revision} stays",
        "  upgrade   its pods are replaced in a rolling update: spec.runtime.pod differs",
    ]
    (change,) = [line for line in lines if line.startswith("  change")]
    assert "Deployment" in change
    assert "spec.template.metadata.labels" in change
    live = world.kube.find(KIND, NAMESPACE, NAME)
    changed = {**live, "spec": {**live["spec"], "runtime": {"pod": {"labels": {"team": "risk"}}}}}
    assert told(changed, live, SETTINGS, world.now, None)[2:] == lines[2:4], "where children cannot be read"


async def test_what_the_chart_says_of_pods_is_read_from_those_that_are_there(world: World) -> None:
    said = {
        "labels": {"team": "all"},
        "priorityClassName": "high",
        "topologySpread": [{"topologyKey": "topology.kubernetes.io/zone"}],
    }
    world.settings = replace(SETTINGS, pods=PodOptions.model_validate(said), image_pull_secrets=("pull",))
    await world.restart()
    own = {"labels": {"cost": "ml"}, "imagePullSecrets": [{"name": "own"}]}
    spec = {**SPEC, "runtime": {"pod": own}}
    world.create(spec)
    await world.run(60)
    key = Key(NAMESPACE, NAME)
    # As kubectl reads it: the operator keeps no spec but the one that it decoded.
    live, children = world.kube.find(KIND, NAMESPACE, NAME), world.operator.store.children(key)
    settings = installed(live, children)
    assert (settings.pods, settings.image_pull_secrets) == (world.settings.pods, ("pull",))
    lines = told({**live, "spec": spec}, live, settings, world.now, children)
    assert lines[2].endswith("stays: no pod is restarted")
    assert not any(line.startswith("  change") for line in lines)
