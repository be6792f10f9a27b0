"""A real Argo CD, a real git server: the operator and its models by commits, approvals by clicks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings
from e2e.helm import CHART, RELEASE
from e2e.images.catalog import ROOT
from e2e.kube import Object
from e2e.tests.argocd_models import example, model, models_application
from e2e.tests.argocd_stage import ArgoCD, argo_cd
from e2e.tests.conditions import condition, wait_for
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation, installation_values, temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout
from e2e.tests.test_figures_rolling import times

#: Argo CD's image takes ten minutes to build, and its operator is the cluster's.
pytestmark = [pytest.mark.long, pytest.mark.alone]

CRD = "modeldeployments.slipway.dev"
SERVER = "system:serviceaccount:argocd:argocd-server"
WAITING = {"promote", "promote-full", "abort", "pause"}
OPERATOR = "slipway"


@pytest.fixture(scope="module")
def argocd(
    installed: Installation, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArgoCD]:
    """Argo CD, which has taken the operator over from Helm; Helm has it back at the end."""
    kube, helm = installed.kube, installed.helm
    with argo_cd(kube, settings, tmp_path_factory.mktemp("argocd")) as made:
        helm.uninstall(RELEASE, SYSTEM_NAMESPACE)
        try:
            platform = made.repository("platform/slipway")
            platform.commit(chart_files())
            application = example("operator.yaml", platform)
            helm_part = application["spec"]["source"]["helm"]
            helm_part["valuesObject"] = {**installation_values(installed), "policies": {"approvals": True}}
            made.apply(application)
            yield made
        finally:
            give_back(made, installed)


def give_back(argocd: ArgoCD, installed: Installation) -> None:
    """Helm has the operator again."""
    argocd.delete(OPERATOR)
    installed.helm.upgrade(RELEASE, SYSTEM_NAMESPACE, installation_values(installed))


def chart_files() -> dict[str, str]:
    """The chart, as files of a repository."""
    return {
        f"charts/slipway/{path.relative_to(CHART)}": path.read_text()
        for path in sorted(CHART.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def versions(mlflow: Registry, token: str) -> list[str]:
    """URIs of three versions of one model; the first has the alias champion."""
    model = f"argocd-{token}"
    return [
        f"mlflow://{model}/{mlflow.register(model, times(factor), 'champion' if factor == 2 else None)}"
        for factor in (2, 3, 4)
    ]


def test_the_operator_is_installed_from_git_and_upgraded_with_its_crd(argocd: ArgoCD) -> None:
    argocd.wait_for(OPERATOR, "Synced", "Healthy", within=180)
    platform = argocd.repository("platform/slipway")
    path = "charts/slipway/templates/crd.yaml"
    text = (platform.folder / path).read_text()
    was = "A model that is served."
    shown = next(line for line in text.splitlines() if "description:" in line)
    commit = platform.commit({path: text.replace(shown, f"{shown} {was}", 1)})
    argocd.refresh(OPERATOR)
    argocd.wait_for(OPERATOR, "Synced", "Healthy", commit=commit)
    assert was in argocd.kube.kubectl("get", "crd", CRD, "-o", "json")


def test_both_examples_are_in_sync_after_the_first_sync_and_a_missing_model_is_degraded(
    argocd: ArgoCD,
) -> None:
    # Pain 1: argo-cd#28724, #11139: defaults that the API server fills in within lists.
    with temporary_namespace(argocd.kube, "argo") as namespace:
        repository = argocd.repository("risk/examples")
        examples = [
            yaml.safe_load((ROOT / "examples" / name).read_text())
            for name in ("quickstart.yaml", "watched-canary.yaml")
        ]
        for each in examples:
            each["metadata"]["namespace"] = namespace
            each["spec"]["model"]["uri"] = "mlflow://nobody-registered-this/1"
        commit = repository.manifest("examples/models.yaml", *examples)
        argocd.apply(models_application("examples", repository, namespace))
        argocd.wait_for("examples", "Synced", "Degraded", commit=commit)
        names = [each["metadata"]["name"] for each in examples]
        # One of them is enough for the Application's.
        wait_for(
            lambda: {argocd.resource("examples", name)[0] for name in names} == {"Degraded"},
            60,
            "the other is not called Degraded",
        )
        for name in names:
            assert argocd.resource("examples", name)[1].startswith("ModelNotFound: ")
        argocd.refresh("examples", "hard")
        assert argocd.state("examples") == ("Synced", "Degraded")
        argocd.delete("examples")


@pytest.mark.parametrize("tracking", ["annotation", "label"])
def test_no_child_is_claimed_or_pruned_and_a_scale_by_hand_is_taken_back(
    argocd: ArgoCD, versions: list[str], tracking: str
) -> None:
    # Pains 5, 6 and 7: kserve#2232, argo-cd#7820, kserve#3710.
    kube = argocd.kube
    patch = json.dumps({"data": {"application.resourceTrackingMethod": tracking}})
    kube.kubectl("patch", "configmap", "argocd-cm", "--namespace=argocd", f"--patch={patch}")
    name = f"models-by-{tracking}"
    with temporary_namespace(kube, "argo") as namespace:
        repository = argocd.repository(f"risk/{name}")
        repository.manifest(f"{name}/fraud.yaml", model(namespace, versions[0]))
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy")
        found = kube.get("modeldeployment", "fraud", namespace) or {}
        assert tracking_of(found, tracking)
        children = children_of(argocd, namespace)
        assert {each["kind"] for each in children.values()} >= {"Deployment", "Service"}
        assert not [uid for uid, each in children.items() if tracking_of(each, tracking)]
        kube.kubectl("scale", "modeldeployment", "fraud", "--replicas=2", f"--namespace={namespace}")
        wait_for(
            lambda: (
                (kube.get("modeldeployment", "fraud", namespace) or {})["spec"]["scaling"]["minReplicas"] == 1
            ),
            60,
            "self-heal does not take the scale back",
        )
        argocd.refresh(name, "hard")
        argocd.wait_for(name, "Synced", "Healthy")
        [only] = argocd.found(name)["status"]["resources"]
        assert only["kind"] == "ModelDeployment"
        assert set(children) <= set(children_of(argocd, namespace))
        found = json.loads(
            kube.kubectl(
                "get", "mdep", "fraud", f"--namespace={namespace}", "-o", "json", "--show-managed-fields"
            )
        )
        for each in found["metadata"]["managedFields"]:
            if "slipway" in each["manager"]:
                assert set(each["fieldsV1"]) == {"f:status"}, each["manager"]
        argocd.delete(name)
        assert kube.get("modeldeployment", "fraud", namespace) is None


def tracking_of(found: Object, method: str) -> str:
    """By what Argo CD knows an object for its own; empty without."""
    meta = found["metadata"]
    if method == "label":
        return str(meta.get("labels", {}).get("app.kubernetes.io/instance", ""))
    return str(meta.get("annotations", {}).get("argocd.argoproj.io/tracking-id", ""))


def children_of(argocd: ArgoCD, namespace: str) -> dict[str, Object]:
    """What the operator made for its models, by uid; pods and what follows from Services aside."""
    kinds = "deployments,services,horizontalpodautoscalers,controllerrevisions,configmaps"
    return {
        each["metadata"]["uid"]: each
        for each in argocd.kube.items(kinds, namespace, "app.kubernetes.io/managed-by=slipway")
    }


def test_a_click_takes_argo_cds_rbac_and_an_approval_the_right_of_its_server(
    argocd: ArgoCD, versions: list[str]
) -> None:
    # Pains 2 and 14: argo-cd#2742, #25054.
    kube, name = argocd.kube, "approved"
    with temporary_namespace(kube, "argo") as namespace:
        repository, rollout = argocd.repository("risk/approved"), Rollout(kube, namespace, "fraud")
        file = f"{name}/fraud.yaml"

        def commit(uri: str) -> None:
            made = repository.manifest(file, model(namespace, uri))
            argocd.refresh(name)
            argocd.wait_for(name, "Synced", "Suspended", commit=made, within=240)
            rollout.wait_for_weight(50)

        repository.manifest(file, model(namespace, versions[0]))
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy", within=240)
        assert argocd.offered("admin", name, "fraud") == set()
        rollout.wait_until_synced()

        commit(versions[1])
        assert "waits for" in argocd.resource(name, "fraud")[1]
        assert argocd.offered("alice", name, "fraud") == WAITING
        with pytest.raises(ClusterError, match="permission denied"):
            argocd.run_action("bob", name, "promote", "fraud")
        argocd.run_action("bob", name, "pause", "fraud")
        wait_for(lambda: "resume" in argocd.offered("bob", name, "fraud"), 60, "resume is not offered")
        # What holds a rollout is released by an approval, which Argo CD's server has no right to as it comes.
        with pytest.raises(ClusterError, match=f"{SERVER} may not approve rollouts of fraud"):
            argocd.run_action("bob", name, "resume", "fraud")
        argocd.delete(name)


def test_a_rollout_that_an_alias_began_leaves_the_application_healthy(
    argocd: ArgoCD, mlflow: Registry, versions: list[str]
) -> None:
    # Pains 3 and 13: no commit asked for it, so no wave waits for it; Git and cluster agree.
    kube, name = argocd.kube, "alias"
    registered = versions[0].split("/")[2]
    with temporary_namespace(kube, "argo") as namespace:
        repository, rollout = argocd.repository("risk/alias"), Rollout(kube, namespace, "fraud")
        uri = f"mlflow://{registered}@champion"
        commit = repository.manifest(f"{name}/fraud.yaml", model(namespace, uri))
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy", commit=commit, within=240)
        mlflow.set_alias(registered, "champion", "2")
        rollout.wait_for_weight(50, within=240)
        argocd.refresh(name)
        assert argocd.state(name) == ("Synced", "Healthy")
        health, message = argocd.resource(name, "fraud")
        assert health == "Healthy"
        assert "FollowingName" in message
        assert condition(rollout.found(), "Suspended")["status"] == "True"
        argocd.delete(name)


def test_what_the_patch_ships_is_what_argo_cds_own_code_reads(argocd: ArgoCD, tmp_path: Path) -> None:
    folder = CHART / "argocd/slipway.dev/ModelDeployment"
    config = argocd.kube.get("configmap", "argocd-cm", "argocd") or {}
    path = tmp_path / "argocd-cm.yaml"
    path.write_text(yaml.safe_dump(config))
    for case in yaml.safe_load((folder / "health_test.yaml").read_text())["tests"]:
        printed = argocd.admin("health", str(folder / case["inputPath"]), f"--argocd-cm-path={path}")
        assert f"STATUS: {case['healthStatus']['status']}\n" in printed
        assert f"MESSAGE: {case['healthStatus']['message']}" in printed


def test_an_application_of_operator_and_models_can_be_deleted_at_once(
    argocd: ArgoCD, versions: list[str]
) -> None:
    # Pain 9: argo-cd#9296, kopf#75: no finalizer waits for an operator that is gone.
    kube, name = argocd.kube, "whole"
    with temporary_namespace(kube, "argo") as namespace:
        repository = argocd.repository("risk/whole")
        repository.manifest(f"{name}/fraud.yaml", model(namespace, versions[0]))
        argocd.apply(models_application(name, repository, namespace))
        argocd.wait_for(name, "Synced", "Healthy", within=240)
        argocd.delete(OPERATOR)
        assert kube.items("deployments", SYSTEM_NAMESPACE, f"app.kubernetes.io/instance={RELEASE}") == []
        assert kube.get("crd", CRD) is not None, "crds.keep keeps models"
        argocd.delete(name)
        assert kube.get("modeldeployment", "fraud", namespace) is None
        kube.kubectl("delete", "namespace", namespace, "--timeout=120s", seconds=150)
