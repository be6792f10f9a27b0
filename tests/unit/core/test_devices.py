"""``runtime.device``: which image runs, what the server is told, and what of it is another revision."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from slipway.api.reasons import Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.cli.schema import complaints
from slipway.contract import SERVING_CONFIG_ENV
from slipway.core import naming
from slipway.core.allowed import device_fault
from slipway.core.objects.deployment import deployment, settings_of
from slipway.core.objects.resolver import resolver_pod
from slipway.core.observed import Manifest, observe
from slipway.core.revision import Revision, revision_from, revision_of
from slipway.core.upgrade import applied_mark, is_behind, part
from slipway.names import API_VERSION, KIND
from tests.unit.core.tables import OWNER, SETTINGS, model

GPU = {"resources": {"extended": {"nvidia.com/gpu": 1}}}
CUDA = {"device": "CUDA", **GPU}
OWN = "registry.example.com/server-cuda:2"


def spec_of(**runtime: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}, "runtime": runtime})


def revision(**runtime: Any) -> Revision:
    return revision_of(spec_of(**runtime), model(1))


def server(made: Manifest) -> Manifest:
    (found,) = made["spec"]["template"]["spec"]["containers"]
    return dict(found)


def fetch(made: Manifest) -> Manifest:
    (found,) = made["spec"]["template"]["spec"]["initContainers"]
    return dict(found)


def told(made: Manifest) -> dict[str, Any]:
    (text,) = [each["value"] for each in server(made)["env"] if each["name"] == SERVING_CONFIG_ENV]
    return dict(json.loads(text))


def live(made: Manifest) -> Manifest:
    annotations = {**made["metadata"].get("annotations", {}), naming.APPLIED_ANNOTATION: applied_mark(made)}
    return {**made, "metadata": {**made["metadata"], "uid": "d", "annotations": annotations}}


def said(**runtime: Any) -> list[str]:
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "fraud"},
        "spec": {"model": {"uri": "mlflow://fraud/1"}, "runtime": runtime},
    }
    return complaints(manifest)


def test_cuda_takes_the_image_for_it_and_what_brings_the_model_stays_as_it_is() -> None:
    made = deployment(OWNER, revision(**CUDA), SETTINGS)
    assert server(made)["image"] == SETTINGS.cuda_image
    assert told(made)["device"] == "CUDA"
    assert server(made)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert fetch(made)["image"] == SETTINGS.server_image
    (resolver,) = resolver_pod(OWNER, spec_of(**CUDA), SETTINGS)["spec"]["containers"]
    assert resolver["image"] == SETTINGS.server_image


def test_a_server_on_the_cpu_is_told_nothing_of_devices_so_that_older_ones_start_too() -> None:
    for runtime in ({}, GPU, {"device": "CPU"}):
        made = deployment(OWNER, revision(**runtime), SETTINGS)
        assert server(made)["image"] == SETTINGS.server_image
        assert "device" not in told(made)


def test_an_image_of_ones_own_stands_instead_and_has_to_start_cuda_as_well() -> None:
    made = deployment(OWNER, revision(**CUDA, image=OWN), replace(SETTINGS, cuda_image=""))
    assert server(made)["image"] == OWN
    assert told(made)["device"] == "CUDA"


def test_another_device_is_another_revision_and_the_cpu_is_the_one_of_before() -> None:
    plain, on_gpu, cuda = revision(), revision(**GPU), revision(**CUDA)
    assert len({plain.name, on_gpu.name, cuda.name}) == len({plain.judged, on_gpu.judged, cuda.judged}) == 3
    assert revision(device="CPU").name == plain.name
    assert revision_from(cuda.content()).runtime == cuda.runtime


@pytest.mark.parametrize(("runtime", "behind"), [(CUDA, True), ({}, False), ({**CUDA, "image": OWN}, False)])
def test_another_image_for_cuda_upgrades_what_runs_by_it_and_nothing_else(
    runtime: dict[str, Any], behind: bool
) -> None:
    wanted = revision(**runtime)
    newer = replace(SETTINGS, cuda_image="slipway.dev/server-cuda:2")
    found = part(
        OWNER, wanted, newer, observe([live(deployment(OWNER, wanted, SETTINGS))]), True, wanted.runtime.pod
    )
    assert found.live is not None
    assert is_behind(found.live, found.newest) == behind


def test_what_runs_by_an_image_that_the_installation_no_longer_has_keeps_it() -> None:
    wanted = revision(**CUDA)
    there = observe([live(deployment(OWNER, wanted, SETTINGS))])
    found = part(OWNER, wanted, replace(SETTINGS, cuda_image=""), there, True, wanted.runtime.pod)
    assert server(found.newest)["image"] == SETTINGS.cuda_image
    assert not found.awaits_a_turn


@pytest.mark.parametrize("runtime", [{}, GPU, CUDA], ids=["CPU", "a GPU alone", "CUDA"])
def test_pods_tell_what_the_installation_had_for_them(runtime: dict[str, Any]) -> None:
    wanted = revision(**runtime)
    found = settings_of(deployment(OWNER, wanted, SETTINGS))
    expected = SETTINGS.cuda_image if wanted.runtime.device == "CUDA" else ""
    assert found is not None
    assert (found.server_image, found.cuda_image) == (SETTINGS.server_image, expected)


def test_an_installation_without_an_image_for_cuda_says_how_to_have_one() -> None:
    fault = device_fault(spec_of(**CUDA), "")
    assert fault is not None
    assert fault.reason is Reason.CUDA_IMAGE_MISSING
    assert "server.cudaImage" in fault.message
    assert "spec.runtime.image" in fault.message
    for fine in (spec_of(), spec_of(**GPU), spec_of(**CUDA, image=OWN)):
        assert device_fault(fine, "") is None
    assert device_fault(spec_of(**CUDA), "a/cuda:1") is None


def test_cuda_without_a_gpu_is_refused_and_told_how_to_ask_for_one() -> None:
    says = "device: CUDA needs a GPU: ask for one in resources.extended, such as nvidia.com/gpu: 1"
    for runtime in ({}, {"resources": {"limits": {"cpu": "1"}}}, {"resources": {"extended": {}}}):
        assert [says in line for line in said(device="CUDA", **runtime)] == [True]
    assert said(**CUDA) == said(**CUDA, image=OWN) == said(**GPU) == []


def test_a_device_for_a_server_of_ones_own_is_refused() -> None:
    own = {"server": "External", "image": "registry.example.com/triton:1", **GPU}
    assert ["leave it out" in line for line in said(**own, device="CUDA")] == [True]
    assert said(**own) == []
