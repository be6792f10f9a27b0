"""An upgrade from the release before, back, and again, under load and in the midst of rollouts.

It builds the images and the chart of the commit `BEFORE` from this repository's history.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.command import run, step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings
from e2e.helm import RELEASE, image_values
from e2e.images.archives import build, load
from e2e.images.catalog import ROOT, find_image
from e2e.kube import Kube
from e2e.ledger import hold, note
from e2e.load import Load, loading
from e2e.tests import figures
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import (
    MLFLOW_ADDRESS,
    SYSTEM_NAMESPACE,
    Installation,
    installation_values,
    temporary_namespace,
)
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout, again

pytestmark = [pytest.mark.long, pytest.mark.alone]

#: Commit that an installation of before runs, and the images that its chart knows.
BEFORE = "32f01a5"
IMAGES = ("operator", "server", "router")
#: Over all models; each model is asked at an equal rate.
REQUESTS = 20_000
RATE = 40.0
#: Until every model is upgraded, a few at a time.
UPGRADE_SECONDS = 600.0
APPROVAL: dict[str, Any] = {"pause": {"untilApproved": True}}
CANARY = {"strategy": "Canary", "steps": [{"setWeight": 50}, APPROVAL, {"setWeight": 80}, APPROVAL]}
MODEL_SERVERS = "app.kubernetes.io/component=model-server"


@dataclass(frozen=True)
class Served:
    """A model under load: which versions may answer, and the pods that there were."""

    rollout: Rollout
    load: Load
    versions: tuple[str, ...]
    may_answer: frozenset[str]

    def templates(self) -> dict[str, str]:
        """By Deployment of a revision, how often its pods were replaced."""
        kube, namespace = self.rollout.kube, self.rollout.namespace
        key = "deployment.kubernetes.io/revision"
        return {
            found["metadata"]["name"]: found["metadata"].get("annotations", {}).get(key, "")
            for found in kube.items("deployments", namespace, MODEL_SERVERS)
        }


@pytest.fixture(scope="module")
def before(settings: Settings) -> tuple[Path, dict[str, Any]]:
    """The chart of before, and values with the images of before."""
    folder = settings.cache / f"before-{BEFORE}"
    if not folder.exists():
        with step(f"taking {BEFORE} from the history"):
            _unpack(folder)
    images = [
        replace(
            found,
            short=f"before-{short}",
            name=f"slipway.dev/{short}:before",
            root=folder,
            # What builds hold to today need not have been there.
            inputs=tuple(one for one in found.inputs if (folder / one).exists()),
        )
        for short in IMAGES
        for found in [find_image(short)]
    ]
    loaded = load(build(images, settings.cache), settings)
    references = {short: loaded[f"before-{short}"] for short in IMAGES}
    return folder / "charts" / "slipway", image_values(references, mlflow={"trackingURI": MLFLOW_ADDRESS})


def _unpack(folder: Path) -> None:
    try:
        run(["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT)
    except ClusterError:
        raise ClusterError(
            f"commit {BEFORE} is not in this clone, which may be shallow: run `git fetch --unshallow`"
        ) from None
    archive = folder.with_suffix(".tar")
    run(["git", "archive", f"--output={archive}", BEFORE], cwd=ROOT)
    made = folder.with_suffix(".part")
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
        opened.extractall(made, filter="data")
    archive.unlink()
    made.rename(folder)


@pytest.fixture
def installed_before(installed: Installation, before: tuple[Path, dict[str, Any]]) -> Iterator[None]:
    """The release of before in the place of this checkout's, which comes back at the end."""
    chart, values = before
    kube, helm = installed.kube, installed.helm
    present = installation_values(installed)
    helm.uninstall(RELEASE, SYSTEM_NAMESPACE)
    try:
        helm.upgrade(RELEASE, SYSTEM_NAMESPACE, values, chart=chart)
        yield
    finally:
        helm.upgrade(RELEASE, SYSTEM_NAMESPACE, present)
        wait_for(lambda: figures.leader(kube), 60, "nobody leads")


@pytest.mark.usefixtures("installed_before")
def test_an_upgrade_a_rollback_and_an_upgrade_lose_nothing_and_let_nothing_rejected_in(
    installed: Installation, mlflow: Registry, token: str
) -> None:
    kube, helm = installed.kube, installed.helm
    with ExitStack() as stack:
        models = {
            name: stack.enter_context(serving(installed, mlflow, f"{name}-{token}", begin))
            for name, begin in BEGINNINGS.items()
        }
        rejected, canary, paused = (models[name] for name in ("rejected", "halfway", "paused"))
        rollouts = {name: models[name].rollout.status()["rollout"]["id"] for name in ("halfway", "paused")}
        watched = stack.enter_context(watching(models))

        revision = helm_revision(installed)
        present = installation_values(installed)
        steps: dict[str, Callable[[], None]] = {
            "upgrade": partial(helm.upgrade, RELEASE, SYSTEM_NAMESPACE, present, seconds=600),
            "rollback": partial(rollback, installed, revision),
            "second upgrade": partial(helm.upgrade, RELEASE, SYSTEM_NAMESPACE, present, seconds=600),
        }
        for title, go in steps.items():
            templates = {name: served.templates() for name, served in models.items()}
            began = time.monotonic()
            go()
            wait_until_at_rest(kube, models)
            hold(f"{title} of {len(models)} models", time.monotonic() - began, UPGRADE_SECONDS)
            for name, served in models.items():
                check_replaced_once(title, name, templates[name], served.templates())
            assert rejected.rollout.stable() == rejected.versions[0]
            assert rejected.rollout.canary() == ""
            for name, id_ in rollouts.items():
                going = models[name].rollout.status()["rollout"]
                assert (going["id"], going["phase"]) == (id_, "Paused"), f"{name} after the {title}: {going}"
            assert canary.rollout.status()["canaryWeight"] == 50

        canary.rollout.say("promote")
        canary.rollout.wait_for_weight(80)
        canary.rollout.say("promote")
        canary.rollout.wait_for_stable(canary.versions[1])
        paused.rollout.say("resume")
        paused.rollout.wait_for_weight(50)
        while (sent := sum(served.load.so_far()["sent"] for served in models.values())) < REQUESTS:
            served = next(iter(models.values()))
            served.load.wait_for(served.load.so_far()["sent"] + (REQUESTS - sent) // len(models) + 1, 300)
        accounts = {name: served.load.stop() for name, served in models.items()}
    note(
        f"upgrade, rollback, upgrade: { {name: account['sent'] for name, account in accounts.items()} } sent"
    )
    assert sum(account["sent"] for account in accounts.values()) >= REQUESTS
    assert {name: account["failures"] for name, account in accounts.items() if account["failed"]} == {}
    for name, served in models.items():
        assert set(accounts[name]["answers"]) <= served.may_answer, name
    assert watched.canaries["rejected"] == {""}


def _serve(rollout: Rollout, uris: list[str]) -> None:
    rollout.apply(uris[0], {"strategy": "RollingUpdate"}, scaling={"minReplicas": 2, "maxReplicas": 2})
    wait_until_ready(rollout.kube, rollout.name, rollout.namespace)


def _reject(rollout: Rollout, uris: list[str]) -> None:
    """The second version is kept out by a person."""
    _begin(rollout, uris)
    rollout.wait_for_weight(50)
    rollout.say("abort")
    rollout.wait_for_rejection()


def _go_halfway(rollout: Rollout, uris: list[str]) -> None:
    _begin(rollout, uris)
    rollout.wait_for_weight(50)


def _pause(rollout: Rollout, uris: list[str]) -> None:
    """Held by a person at its very beginning."""
    _begin(rollout, uris)
    rollout.wait_for_canary("2")
    rollout.say("pause")
    rollout.wait_for_phase("Paused")


def _begin(rollout: Rollout, uris: list[str]) -> None:
    rollout.apply(uris[0], CANARY)
    wait_until_ready(rollout.kube, rollout.name, rollout.namespace)
    rollout.wait_until_synced()
    rollout.change(uris[1])


Beginning = Callable[[Rollout, list[str]], None]
#: Models by name, and how each came to where it is when the upgrade begins.
BEGINNINGS: dict[str, Beginning] = {
    "serving": _serve,
    "rejected": _reject,
    "halfway": _go_halfway,
    "paused": _pause,
}


@contextmanager
def serving(installed: Installation, mlflow: Registry, model: str, begin: Beginning) -> Iterator[Served]:
    """A model in a namespace of its own, brought to its beginning and then under load."""
    versions = tuple(mlflow.register(model, again(factor, "")) for factor in (2, 3))
    name = model.rsplit("-", 1)[0]
    with temporary_namespace(installed.kube, name) as namespace:
        rollout = Rollout(installed.kube, namespace, name)
        begin(rollout, [f"mlflow://{model}/{version}" for version in versions])
        both = name in ("halfway", "paused")
        may_answer = frozenset(versions if both else versions[:1])
        plan = rollout.load(dict(zip(versions, (2, 3), strict=True)), RATE)
        with loading(installed.kube, namespace, installed.server_image, plan) as load:
            load.wait_for(100, 60)
            yield Served(rollout, load, versions, may_answer)


@dataclass
class Watched:
    """What was seen of models, once a second; versions on trial by model."""

    canaries: dict[str, set[str]] = field(default_factory=dict)


@contextmanager
def watching(models: dict[str, Served]) -> Iterator[Watched]:
    watched, over = Watched({name: set() for name in models}), threading.Event()

    def look() -> None:
        while not over.wait(1):
            for name, served in models.items():
                try:
                    watched.canaries[name].add(served.rollout.canary())
                except ClusterError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield watched
    finally:
        over.set()
        looking.join()


def helm_revision(installed: Installation) -> str:
    """Number of the release's present revision."""
    words = ("history", RELEASE, f"--namespace={SYSTEM_NAMESPACE}", "--max=1", "-o", "json")
    return str(json.loads(installed.helm.helm(*words))[0]["revision"])


def rollback(installed: Installation, revision: str) -> None:
    words = ("rollback", RELEASE, revision, f"--namespace={SYSTEM_NAMESPACE}", "--wait", "--timeout=600s")
    installed.helm.helm(*words, seconds=660)


def wait_until_at_rest(kube: Kube, models: dict[str, Served]) -> None:
    """Wait until the operator leads and no Deployment of a model has changed for a while."""
    wait_for(lambda: figures.leader(kube), 60, "nobody leads")
    last: dict[str, Any] = {}

    def at_rest() -> bool:
        nonlocal last
        time.sleep(15)
        now = {name: (served.templates(), _settled(served)) for name, served in models.items()}
        before, last = last, now
        return now == before and all(settled for _, settled in now.values())

    wait_for(at_rest, UPGRADE_SECONDS, lambda: f"pods are being replaced: {last}")


def _settled(served: Served) -> bool:
    """Whether every pod of a Deployment is of its newest template, and ready."""
    found = served.rollout.kube.items("deployments", served.rollout.namespace)
    return (
        all(
            one["status"].get("observedGeneration") == one["metadata"]["generation"]
            and one["status"].get("updatedReplicas", 0)
            == one["status"].get("readyReplicas", 0)
            == one["status"].get("replicas", 0)
            == one["spec"]["replicas"]
            for one in found
        )
        and "upgrade" not in served.rollout.status()
    )


def check_replaced_once(title: str, name: str, before: dict[str, str], after: dict[str, str]) -> None:
    """No pods of a model were replaced twice, and none became those of another revision."""
    assert after.keys() == before.keys(), f"{name}: revisions changed in the {title}: {before} to {after}"
    for deployment, number in after.items():
        assert int(number) - int(before[deployment]) <= 1, f"{deployment} in the {title}: {before} to {after}"
