"""What people say of pods reaches each kind of them, changes no revision, and takes nothing of Slipway's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from slipway.api.pods import OWNED_ANNOTATIONS, OWNED_LABELS, SKIPPED_CONTAINERS, PodOptions, over
from slipway.api.types import ModelDeploymentSpec
from slipway.cli.undo import restored
from slipway.contract import (
    ADMIN_PORT,
    GRPC_PORT,
    HTTP_PORT,
    STORE_IDENTITY_ENV,
    WITHOUT_CREDENTIALS_ENV,
)
from slipway.core import naming
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.deployment import deployment
from slipway.core.objects.resolver import resolver_pod
from slipway.core.objects.service_account import service_account
from slipway.core.observed import Manifest
from slipway.core.revision import Revision, Settings, revision_from, revision_of
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT
from slipway.core.traffic.envoy.objects import RouterSettings, router_objects
from slipway.core.traffic.routed import FIRST_PORT, MOST_PORTS
from slipway.core.upgrade import applied_mark, is_behind, is_of_one_installation
from tests.unit.core.tables import OWNER, SETTINGS, model
from tests.unit.core.test_properties import FEW, specs

ROOT = Path(__file__).parents[3]
ROUTERS = RouterSettings("slipway.dev/router:1")
EVERYTHING: dict[str, Any] = {
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccountName": "reader",
    "labels": {"team": "risk", "sidecar.istio.io/inject": "false"},
    "annotations": {"example.com/why": "fraud", "prometheus.io/scrape": "false"},
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "topologySpread": [
        {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"},
        {"topologyKey": "kubernetes.io/hostname"},
    ],
}


def spec_of(pod: dict[str, Any], **runtime: Any) -> ModelDeploymentSpec:
    found = {"model": {"uri": "mlflow://fraud/1"}, "runtime": {"pod": pod, **runtime}}
    return ModelDeploymentSpec.model_validate(found)


def pod_of(kind: str, own: dict[str, Any], settings: Settings = SETTINGS) -> Manifest:
    """The pod, or the template of pods, that comes of what is said."""
    spec = spec_of(own)
    if kind == "resolver":
        return resolver_pod(OWNER, spec, settings)
    if kind == "model":
        made = deployment(OWNER, revision_of(spec, model(1)), settings, spec.runtime.pod)
    else:
        routers = replace(ROUTERS, pods=settings.pods, image_pull_secrets=settings.image_pull_secrets)
        name, said = ("fraud", spec.runtime.pod) if kind == "dedicated" else ("", PodOptions())
        made = next(
            found
            for found in router_objects("payments", [], routers, [], name, said)
            if found["kind"] == "Deployment"
        )
    template: Manifest = made["spec"]["template"]
    return template


def installed(pod: dict[str, Any], *secrets: str) -> Settings:
    return replace(SETTINGS, pods=PodOptions.model_validate(pod), image_pull_secrets=secrets)


KINDS = ("model", "resolver", "dedicated", "shared")


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_said_no_pod_differs(kind: str) -> None:
    pod = pod_of(kind, {})
    assert not {"imagePullSecrets", "priorityClassName", "runtimeClassName"} & set(pod["spec"])
    assert {name for name in pod["metadata"]["labels"] if "slipway" not in name} == {
        naming.MANAGED_BY_LABEL,
        naming.COMPONENT_LABEL,
    }
    made = deployment(OWNER, revision_of(spec_of({}), model(1)), SETTINGS)
    assert "annotations" not in made["metadata"]


@pytest.mark.parametrize("where", ["spec", "chart"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_reaches_each_pod_that_it_is_for(kind: str, where: str) -> None:
    own, settings = (EVERYTHING, SETTINGS) if where == "spec" else ({}, installed(EVERYTHING, "pull"))
    pod = pod_of(kind, own, settings)
    reached = where == "chart" or kind != "shared"
    labels, annotations = pod["metadata"]["labels"], pod["metadata"].get("annotations", {})
    assert (EVERYTHING["labels"].items() <= labels.items()) == reached
    assert (EVERYTHING["annotations"].items() <= annotations.items()) == reached
    assert (pod["spec"].get("priorityClassName") == "high") == reached
    # Which ServiceAccount and RuntimeClass a model needs is nothing to routers.
    of_model = kind in ("model", "resolver")
    assert (pod["spec"]["serviceAccountName"] == "reader") == of_model
    assert (pod["spec"].get("runtimeClassName") == "gvisor") == (of_model or where == "chart")
    assert pod["spec"]["automountServiceAccountToken"] is False
    # Of the installation they come by the ServiceAccount, but where that is not Slipway's.
    in_pod = of_model or (where == "spec" and kind == "dedicated")
    assert pod["spec"].get("imagePullSecrets") == ([{"name": "pull"}] if in_pod else None)
    if kind != "resolver":
        zone, node = pod["spec"]["topologySpreadConstraints"] if reached else ({}, {})
        assert (zone.get("maxSkew"), zone.get("whenUnsatisfiable")) == (
            (2, "DoNotSchedule") if reached else (None,) * 2
        )
        assert all(
            found["labelSelector"]["matchLabels"].items() <= labels.items() for found in (zone, node) if found
        )
        assert node.get("whenUnsatisfiable", "ScheduleAnyway") == "ScheduleAnyway"


def test_a_spec_goes_before_the_chart_name_by_name() -> None:
    chart = PodOptions.model_validate(
        {"labels": {"team": "all", "cost": "ml"}, "priorityClassName": "low", "runtimeClassName": "gvisor"}
    )
    own = PodOptions.model_validate({"labels": {"team": "risk"}, "priorityClassName": "high"})
    assert over(chart, own) == PodOptions.model_validate(
        {"labels": {"team": "risk", "cost": "ml"}, "priorityClassName": "high", "runtimeClassName": "gvisor"}
    )


@pytest.mark.parametrize("where", ["spec", "chart"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_slipway_finds_pods_by_stays_whatever_is_said(kind: str, where: str) -> None:
    """The schema refuses such names; an operator reads leniently what an older schema let in."""
    taken = {
        "labels": dict.fromkeys((*OWNED_LABELS, naming.MODEL_LABEL, naming.REVISION_LABEL), "mine"),
        "annotations": dict.fromkeys(OWNED_ANNOTATIONS[:2], "mine"),
    }
    own, settings = (taken, SETTINGS) if where == "spec" else ({}, installed(taken))
    pod, usual = pod_of(kind, own, settings), pod_of(kind, {})
    assert usual["metadata"]["labels"].items() <= pod["metadata"]["labels"].items()
    # A resolver serves no counters.
    if kind != "resolver":
        assert usual["metadata"]["annotations"].items() <= pod["metadata"]["annotations"].items()


def test_a_cloud_is_told_to_give_no_credentials_to_the_container_that_serves() -> None:
    annotations = pod_of("model", {"serviceAccountName": "reader"})["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/skip-containers"] == naming.SERVER_CONTAINER
    assert annotations["azure.workload.identity/skip-containers"] == naming.SERVER_CONTAINER
    assert not any("skip" in name for name in pod_of("model", {})["metadata"]["annotations"])


def test_secrets_of_the_chart_and_of_the_spec_are_both_tried() -> None:
    """A pod that names any gets none of its ServiceAccount's."""
    settings = installed({}, "chart", "both")
    found = pod_of("model", {"imagePullSecrets": [{"name": "own"}, {"name": "both"}]}, settings)
    assert found["spec"]["imagePullSecrets"] == [{"name": "chart"}, {"name": "both"}, {"name": "own"}]
    assert service_account(OWNER, ("chart",))["imagePullSecrets"] == [{"name": "chart"}]


@FEW
@given(specs())
def test_no_revision_and_no_rejection_is_of_what_is_said_of_pods(spec: dict[str, Any]) -> None:
    others = [
        ModelDeploymentSpec.model_validate({**spec, "runtime": {**spec.get("runtime", {}), "pod": pod}})
        for pod in ({}, EVERYTHING)
    ]
    one, other = (revision_of(found, model(1)) for found in others)
    assert (one.name, one.judged, one.content()) == (other.name, other.judged, other.content())
    assert one == other
    assert "pod" not in one.content()["runtime"]


def live(manifest: dict[str, Any]) -> Manifest:
    """As it is once it was applied."""
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), naming.APPLIED_ANNOTATION: applied_mark(manifest)}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


REVISION: Revision = revision_of(spec_of({}), model(1))
NEWER = replace(SETTINGS, server_image="slipway.dev/server:next")
LABELLED = {"labels": {"team": "risk"}}


@pytest.mark.parametrize(
    ("before", "own_before", "now", "own_now", "behind", "one"),
    [
        (SETTINGS, {}, SETTINGS, {}, False, True),
        (SETTINGS, {}, SETTINGS, LABELLED, True, True),
        (SETTINGS, LABELLED, SETTINGS, {}, True, True),
        (SETTINGS, LABELLED, SETTINGS, {"labels": {"team": "other"}}, True, True),
        (SETTINGS, {}, NEWER, {}, True, False),
        (SETTINGS, LABELLED, NEWER, LABELLED, True, False),
        (SETTINGS, {}, NEWER, LABELLED, True, False),
        (SETTINGS, {}, installed(LABELLED), {}, True, False),
        (SETTINGS, {"priorityClassName": "a"}, installed(LABELLED), {"priorityClassName": "a"}, True, False),
        # Said by both, it changes nothing.
        (SETTINGS, LABELLED, installed(LABELLED), LABELLED, False, True),
        (SETTINGS, {}, installed({}, "pull"), {}, False, True),
        (installed({}, "a"), {}, installed({}, "a"), {"imagePullSecrets": [{"name": "own"}]}, True, True),
        (
            installed({}, "a"),
            {"imagePullSecrets": [{"name": "own"}]},
            installed({}, "b"),
            {"imagePullSecrets": [{"name": "own"}]},
            True,
            False,
        ),
    ],
)
def test_a_change_of_the_spec_is_told_from_one_of_the_installation(
    before: Settings,
    own_before: dict[str, Any],
    now: Settings,
    own_now: dict[str, Any],
    behind: bool,
    one: bool,
) -> None:
    was = live(deployment(OWNER, REVISION, before, PodOptions.model_validate(own_before)))
    wanted = deployment(OWNER, REVISION, now, PodOptions.model_validate(own_now))
    assert (is_behind(was, wanted), is_of_one_installation(was, wanted)) == (behind, one)
    # A person who restarts pods by hand puts an annotation into the template; that is nobody's change.
    was["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    assert is_of_one_installation(was, wanted) == one


def test_a_resolver_that_is_refused_for_want_of_a_label_gives_way_to_one_that_has_it() -> None:
    names = {resolver_pod(OWNER, spec_of(pod), SETTINGS)["metadata"]["name"] for pod in ({}, LABELLED)}
    assert len(names) == 2


GPU = {"resources": {"extended": {"nvidia.com/gpu": 1, "nvidia.com/mig-1g.5gb": 2}}}


def test_devices_are_asked_for_and_limited_alike_and_only_for_what_serves() -> None:
    spec = spec_of({}, **GPU)
    template = deployment(OWNER, revision_of(spec, model(1)), SETTINGS)["spec"]["template"]["spec"]
    asked = {"nvidia.com/gpu": "1", "nvidia.com/mig-1g.5gb": "2"}
    (server,), (fetch,) = template["containers"], template["initContainers"]
    for amounts in ("requests", "limits"):
        assert asked.items() <= server["resources"][amounts].items()
        assert not any("/" in name for name in fetch["resources"][amounts])
    (resolver,) = resolver_pod(OWNER, spec, SETTINGS)["spec"]["containers"]
    assert not any("/" in name for amounts in resolver["resources"].values() for name in amounts)


def test_other_devices_are_another_revision_and_none_are_the_one_of_before() -> None:
    plain, with_gpu = (revision_of(spec_of({}, **more), model(1)) for more in ({}, GPU))
    assert plain.name != with_gpu.name
    assert plain.name == revision_of(spec_of({}, resources={"extended": {}}), model(1)).name
    assert revision_from(with_gpu.content()).runtime == with_gpu.runtime


def test_the_page_names_what_is_refused_and_the_ports_that_a_policy_has_to_open() -> None:
    page = (ROOT / "docs/pods.md").read_text()
    for name in (*OWNED_LABELS, *OWNED_ANNOTATIONS):
        assert name in page or name.rpartition("/")[2] in page, name
    ports = f"{FIRST_PORT}–{FIRST_PORT + MOST_PORTS - 1}, or {HTTP_PORT} and {GRPC_PORT}"
    assert f"| {ports} |" in page
    assert f"| the operator | `router` | {ROUTER_ADMIN_PORT} |" in page
    assert f"| the operator | `model-server` | {ADMIN_PORT} |" in page
    values = yaml.safe_load((ROOT / "charts/slipway/values.yaml").read_text())
    for name in ("router", "modelServers"):
        assert f"`{name}.networkPolicy`" in page
        assert "networkPolicy" in values[name]


ENTERED = {"model": {"uri": "s3://models/fraud/", "credentials": {"serviceAccountName": "reader"}}}


def _envs(container: Manifest) -> set[str]:
    return {found["name"] for found in container["env"]}


def test_a_store_is_entered_by_a_service_account_and_the_container_that_serves_is_not_given_it() -> None:
    spec = ModelDeploymentSpec.model_validate(ENTERED)
    asking = resolver_pod(OWNER, spec, SETTINGS)
    assert asking["spec"]["serviceAccountName"] == "reader"
    assert STORE_IDENTITY_ENV in _envs(asking["spec"]["containers"][0])
    # Nothing of it is kept from the one container that is to have it.
    assert "annotations" not in asking["metadata"]
    revision = revision_of(spec, model(1))
    template = deployment(OWNER, revision, SETTINGS)["spec"]["template"]
    for name in SKIPPED_CONTAINERS:
        assert template["metadata"]["annotations"][name] == "server"
    assert template["spec"]["serviceAccountName"] == "reader"
    assert template["spec"]["automountServiceAccountToken"] is False
    (fetch,), (server,) = template["spec"]["initContainers"], template["spec"]["containers"]
    assert STORE_IDENTITY_ENV in _envs(fetch)
    assert WITHOUT_CREDENTIALS_ENV not in _envs(fetch)
    assert STORE_IDENTITY_ENV not in _envs(server)
    assert WITHOUT_CREDENTIALS_ENV in _envs(server)


def test_another_service_account_is_another_revision_and_is_remembered() -> None:
    spec = ModelDeploymentSpec.model_validate(ENTERED)
    revision, plain = revision_of(spec, model(1)), revision_of(spec_of({}), model(1))
    assert revision.name != plain.name
    kept = revision_from(controller_revision(OWNER, revision, 1)["data"])
    assert kept.service_account == "reader"
    assert kept.name == revision.name
    # What has neither is called as it always was.
    assert "serviceAccount" not in plain.content()
    assert restored({}, kept)["model"]["credentials"] == {"serviceAccountName": "reader"}
