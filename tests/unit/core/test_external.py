"""A server of one's own: what its pods get, and where routers reach it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from slipway.api.status import ModelDeploymentStatus, RevisionStatus, ServerStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import GRPC_PORT, HTTP_PORT, MODEL_DIR, READY_PATH
from slipway.core.objects.deployment import deployment
from slipway.core.objects.external import reached
from slipway.core.objects.service import stable_service
from slipway.core.observed import Manifest
from slipway.core.resource import Resource
from slipway.core.revision import revision_of
from slipway.core.traffic.envoy.clusters import clusters_of
from slipway.core.traffic.envoy.objects import router_objects, routes_map, told
from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.core.traffic.routed import routes_of
from tests.unit.core.tables import OWNER, SETTINGS, digest, model
from tests.unit.core.test_pod_options import ROUTERS

IMAGE = "registry.example.com/team/server:1"
WHOLE: dict[str, Any] = {
    "server": "External",
    "image": IMAGE,
    "command": ["serve"],
    "args": ["--model", "$(SLIPWAY_MODEL_DIR)/model.onnx"],
    "ports": {"http": 8000, "grpc": 9001},
    "readiness": {"path": "/healthz"},
    "env": [{"name": "HOME", "value": "/home/me"}, {"name": "WORKERS", "value": "2"}],
}


def spec_of(runtime: dict[str, Any], **more: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(
        {"model": {"uri": "mlflow://fraud/1"}, "runtime": runtime, **more}
    )


def template_of(runtime: dict[str, Any]) -> Manifest:
    made = deployment(OWNER, revision_of(spec_of(runtime), model(1)), SETTINGS)
    found: Manifest = made["spec"]["template"]
    return found


def test_its_container_gets_the_verified_files_and_nothing_of_slipways_own() -> None:
    template = template_of(WHOLE)
    (server,), (fetch,) = template["spec"]["containers"], template["spec"]["initContainers"]
    assert (server["name"], server["image"], server["command"], server["args"]) == (
        "server",
        IMAGE,
        ["serve"],
        ["--model", "$(SLIPWAY_MODEL_DIR)/model.onnx"],
    )
    assert fetch["image"] == SETTINGS.server_image
    env = {found["name"]: found.get("value") for found in server["env"]}
    assert len(env) == len(server["env"])
    assert env == {
        "SLIPWAY_MODEL_DIR": MODEL_DIR,
        "SLIPWAY_MODEL_NAME": "fraud",
        "SLIPWAY_MODEL_VERSION": "1",
        "SLIPWAY_MODEL_DIGEST": digest(1),
        "SLIPWAY_HTTP_PORT": "8000",
        "SLIPWAY_GRPC_PORT": "9001",
        "HOME": "/home/me",
        "WORKERS": "2",
    }
    assert {"name": "model", "mountPath": MODEL_DIR, "readOnly": True} in server["volumeMounts"]
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert server["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "http", "scheme": "HTTP"}
    assert "envFrom" not in server
    # Nobody is to scrape a port that is not there.
    assert not template["metadata"].get("annotations")


def test_clients_reach_it_by_the_names_of_its_ports() -> None:
    names = {"http": 8000, "grpc": 9001}
    (server,) = template_of(WHOLE)["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == names
    ports = stable_service(OWNER, "a1")["spec"]["ports"]
    assert {port["targetPort"] for port in ports} == set(names)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "registry.example.com/team/server:2"},
        {"command": ["other"]},
        {"args": []},
        {"ports": {"http": 8001}},
        {"readiness": {"path": "/other"}},
        {"protocol": "HTTP"},
        {"env": []},
    ],
)
def test_what_runs_is_part_of_the_revision_and_of_what_is_judged(change: dict[str, Any]) -> None:
    one, other = (revision_of(spec_of(found), model(1)) for found in (WHOLE, {**WHOLE, **change}))
    assert one.name != other.name
    assert one.judged != other.judged


def test_slipways_own_server_is_called_as_it_was() -> None:
    plain, said = (revision_of(spec_of(found), model(1)) for found in ({}, {"server": "Slipway"}))
    assert plain.name == said.name
    assert reached(plain.runtime) is None


def test_routers_reach_both_kinds_of_servers_where_they_are() -> None:
    own = ServerStatus(httpPort=8000, readyPath="/healthz")
    status = ModelDeploymentStatus.model_validate(
        {
            "stable": RevisionStatus(revision="a1", version="1", digest=digest(1)),
            "canary": RevisionStatus(revision="b2", version="2", digest=digest(2), server=own),
            "routerPort": 10000,
            "rollout": {
                "phase": "Progressing",
                "revision": "b2",
                "id": "b2.1",
                "startedAt": "2026-01-02T03:04:05Z",
                "stepStartedAt": "2026-01-02T03:04:05Z",
                "weight": 20,
            },
        }
    )
    resource = Resource(OWNER, 1, spec_of(WHOLE, rollout={"strategy": "Canary"}), status, deleting=False)
    (route,) = routes_of([resource])
    assert route.stable == Arm("a1", "fraud-a1", HTTP_PORT, GRPC_PORT)
    assert route.canary == Arm("b2", "fraud-b2", 8000, None, "/healthz")
    clusters = {found["name"]: found for found in clusters_of(route)}
    assert ready_path(clusters["fraud/a1"]) == READY_PATH
    assert ready_path(clusters["fraud/b2"]) == ready_path(clusters["fraud/b2/shadow"]) == "/healthz"
    assert "fraud/b2/grpc" not in clusters
    # What is written is read again, and says nothing new of routes that were there before.
    assert written(route) == (route,)
    plain = Route("fraud", 10000, Arm("a1", "fraud-a1", HTTP_PORT, GRPC_PORT))
    assert written(plain) == (plain,)
    assert "ready_path" not in yaml.safe_dump(routes(plain))


def ready_path(cluster: Manifest) -> str:
    (check,) = cluster["health_checks"]
    return str(check["http_health_check"]["path"])


def routes(route: Route) -> Manifest:
    made = router_objects("payments", [route], ROUTERS, [])
    return next(found for found in made if found["metadata"]["name"] == routes_map())


def written(route: Route) -> tuple[Route, ...]:
    return told(routes(route))
