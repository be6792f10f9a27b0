"""``runtime.device: CUDA`` in a cluster: pods by the image for it, and clear words where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.contract import ModelFault
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from tests.unit.engine.test_breaches import acting
from tests.unit.engine.test_judging import SHIFTED, Traffic
from tests.unit.engine.test_judging import serving as judged
from tests.unit.engine.test_upgrades import PLAIN, canary, images, revisions, serving, upgrade
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World, failing

CUDA = {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}}
WITHOUT = replace(SETTINGS, cuda_image="")


def images_of(pod: Manifest) -> set[str]:
    return {found["image"] for found in pod["spec"]["containers"]}


def on_cuda(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "runtime": CUDA}


async def test_an_installation_without_an_image_for_cuda_starts_nothing_and_says_how_to_have_one() -> None:
    world = World()
    world.settings = WITHOUT
    await world.operator.start()
    await world.restart()
    world.create(on_cuda(PLAIN))
    await world.run(60)
    assert world.said() == {"Ready": "False CUDAImageMissing", "Stalled": "True CUDAImageMissing"}
    assert "server.cudaImage" in world.message("Ready")
    assert world.kube.all(ObjectKind.POD) == []
    await upgrade(world, SETTINGS, 120)
    assert world.said()["Ready"] == "True Serving"
    assert images(world) == {SETTINGS.cuda_image}
    assert world.status()["stable"]["device"] == "CUDA"


async def test_a_change_of_the_device_goes_by_steps_like_any_other() -> None:
    world = await serving(canary(1))
    assert "device" not in world.status()["stable"]
    world.create(on_cuda(canary(1)))
    await world.run(60)
    status = world.status()
    assert (status["rollout"]["phase"], status["rollout"]["weight"]) == ("Paused", 50)
    assert status["canary"]["device"] == "CUDA"
    assert images(world) == {SETTINGS.server_image, SETTINGS.cuda_image}


async def test_what_serves_by_an_image_that_is_no_longer_installed_goes_on_until_the_spec_changes() -> None:
    world = await serving(on_cuda(PLAIN))
    before = revisions(world)
    pods = {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)}
    await upgrade(world, WITHOUT)
    assert world.said()["Ready"] == "False CUDAImageMissing"
    assert {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)} == pods
    # The stable revision keeps its image while the other one starts.
    world.create(PLAIN)
    seen = set[str]()
    for _ in range(60):
        await world.run(5)
        seen |= images(world)
    assert seen == {SETTINGS.server_image, SETTINGS.cuda_image}
    assert world.said()["Ready"] == "True Serving"
    assert images(world) == {SETTINGS.server_image}
    assert not revisions(world) & before


async def test_a_deleted_deployment_is_not_made_again_without_an_image_and_the_next_revision_serves() -> None:
    world = await serving(on_cuda(PLAIN))
    [stable] = revisions(world)
    await upgrade(world, WITHOUT)
    # Pods that cannot be brought: so the stable revision stays stable.
    world.pod_status = lambda _: failing(ModelFault.MODEL_LOAD_FAILED, "no")
    world.create({**PLAIN, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(30)
    world.kube.drop((ObjectKind.DEPLOYMENT, NAMESPACE, naming.revision_object(NAME, stable)))
    begun = len(world.kube.requests)
    await world.run(120)
    written = [found for found in world.kube.requests[begun:] if found.name.endswith(stable)]
    assert [found for found in written if found.kind == ObjectKind.DEPLOYMENT] == []
    assert stable not in revisions(world)
    assert world.said()["Ready"] == "False CUDAImageMissing"
    assert f"revision {stable} runs on CUDA" in world.message("Ready")
    # What is missed need not come: another revision that can run takes over.
    world.pod_status = lambda _: None
    world.create({**PLAIN, "model": {"uri": "mlflow://fraud/3"}})
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == "3"


async def test_with_an_image_again_a_deleted_deployment_is_made_again() -> None:
    world = await serving(on_cuda(PLAIN))
    [stable] = revisions(world)
    await upgrade(world, WITHOUT)
    world.pod_status = lambda pod: (
        failing(ModelFault.MODEL_LOAD_FAILED, "no") if images_of(pod) == {SETTINGS.server_image} else None
    )
    world.create({**PLAIN, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(30)
    world.kube.drop((ObjectKind.DEPLOYMENT, NAMESPACE, naming.revision_object(NAME, stable)))
    await world.run(60)
    assert world.said()["Ready"] == "False CUDAImageMissing"
    await upgrade(world, SETTINGS, 120)
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["revision"] == stable
    assert SETTINGS.cuda_image in images(world)


@pytest.mark.parametrize("first", ["CPU", "CUDA"])
async def test_what_the_installation_has_no_image_for_is_no_way_back_from_a_breach(first: str) -> None:
    asked = acting("Rollback")
    world, traffic = await judged(asked if first == "CPU" else on_cuda(asked)), Traffic()
    for version, spec in ((2, on_cuda(asked)), (3, asked)):
        world.create({**spec, "model": {"uri": f"mlflow://fraud/{version}"}})
        await world.run(300)
        assert world.status()["stable"]["version"] == str(version)
    await upgrade(world, WITHOUT)
    await traffic.run(world, 600, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == ("1" if first == "CPU" else "3")
    assert images(world) == {SETTINGS.server_image}


def ended(pod: Manifest) -> dict[str, Any] | None:
    """Status of a pod whose server finds no driver, again and again."""
    (server,) = pod["spec"]["containers"] if "initContainers" in pod["spec"] else ({},)
    if server.get("image") != SETTINGS.cuda_image:
        return None
    return failing(ModelFault.DEVICE_UNAVAILABLE, "there is no NVIDIA driver (libcuda.so.1)")


async def test_pods_that_find_no_driver_are_told_of_and_are_no_verdict_on_the_model() -> None:
    world = World()
    await world.operator.start()
    world.pod_status = ended
    world.create(on_cuda(PLAIN))
    await world.run(60)
    assert world.said()["Ready"] == "False DeviceUnavailable"
    assert world.status()["canary"]["device"] == "CUDA"
    world = await serving(canary(1))
    world.pod_status = ended
    world.create(on_cuda(canary(1)))
    await world.run(120)
    assert world.said()["Ready"].startswith("True")
    assert world.said()["RevisionReady"] == "False DeviceUnavailable"
    assert "there is no NVIDIA driver" in world.message("RevisionReady")
    assert not world.status().get("rejected")
    # A node that has one now.
    world.pod_status = lambda _: None
    await world.run(120)
    assert world.status()["rollout"]["weight"] == 50
