"""Everything that can go wrong has its own reason within a minute, disturbs nobody else, and can be fixed.

All cases run side by side, so that one that took down another, or the operator, would show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from e2e.cluster.settings import Settings
from e2e.kube import Kube
from e2e.tests import bad_models, bad_surroundings, models
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import MLFLOW_ADDRESS, Installation, temporary_namespace
from e2e.tests.pods import Client, Web
from e2e.tests.registry import Registry
from e2e.tests.stage import Stage, answers, question

AT_ONCE = 10
#: Those that take longest come first.
CASES = (*bad_surroundings.CASES, *bad_models.CASES)


@pytest.fixture(scope="module")
def stage(
    settings: Settings, kube: Kube, installed: Installation, mlflow: Registry, token: str
) -> Iterator[Stage]:
    with ExitStack() as leaving:
        namespace = leaving.enter_context(temporary_namespace(kube, "e2e-bad"))
        web = Web.deploy(kube, namespace, "web", installed.server_image, MLFLOW_ADDRESS)
        stage = Stage(
            kube=kube,
            mlflow=mlflow,
            namespace=namespace,
            token=token,
            volumes=settings.volumes,
            web=web,
            shelf=leaving.enter_context(web.control()),
            server_image=installed.server_image,
            leaving=leaving,
        )
        mlflow.register(stage.registered, models.iris(), "champion")
        yield stage


@pytest.fixture(scope="module")
def neighbour(stage: Stage) -> Client:
    """A healthy ModelDeployment in the midst of them, asked five times a second."""
    stage.create("neighbour", stage.good_uri)
    wait_until_ready(stage.kube, "neighbour", stage.namespace)
    return Client.start(
        stage.kube,
        stage.namespace,
        "client",
        stage.server_image,
        f"http://neighbour.{stage.namespace}.svc/v2/models/neighbour/infer",
        question(),
        answers()["label"].tolist(),
    )


@pytest.fixture(scope="module")
def operators(installed: Installation) -> list[str]:
    """The operator's pods before anything goes wrong."""
    return installed.pods()


@pytest.fixture(scope="module")
def running(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    """All cases, under way."""
    for before in ("operators", "neighbour"):
        request.getfixturevalue(before)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = {}
        for case in CASES:
            started[case.__name__] = pool.submit(case, stage)
            # All in one second they would wait for the machine rather than for the operator.
            time.sleep(1)
        yield started
        pool.shutdown(cancel_futures=True)


@pytest.mark.timed
@pytest.mark.parametrize("name", [case.__name__ for case in CASES])
def test_a_bad_case_is_told_within_a_minute_and_serves_once_mended(
    running: Mapping[str, Future[None]], name: str
) -> None:
    running[name].result()


def test_a_healthy_neighbour_answered_every_request_meanwhile(
    running: Mapping[str, Future[None]], neighbour: Client
) -> None:
    for future in running.values():
        future.exception()
    asked = neighbour.tally()
    assert asked["wrong"] == 0, asked
    more = wait_for(
        lambda: (now := neighbour.tally())["right"] > asked["right"] and now, 10, "the neighbour is silent"
    )
    assert more["wrong"] == 0, more
    assert more["right"] > 50


def test_the_operator_was_not_restarted(
    running: Mapping[str, Future[None]], installed: Installation, operators: list[str]
) -> None:
    for future in running.values():
        future.exception()
    assert installed.pods() == operators
