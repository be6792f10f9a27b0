"""MLServer and a FastAPI server from their examples: real servers, MLflow's scikit-learn flavor, rollouts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from e2e.cluster.settings import Settings
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube
from e2e.tests.conditions import condition, wait_for, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.rollout import LOOKS, QUICK, Rollout

#: Two large servers, two rollouts each: minutes on a quiet machine, and no request may fail meanwhile.
pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Three flowers, one of each species.
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.7, 4.5, 1.5], [6.5, 3.0, 5.8, 2.2]]
SPECIES = ("setosa", "versicolor", "virginica")


@dataclass(frozen=True)
class Api:
    """How an example's server is asked about the flowers, and what it says of their species."""

    path: str
    body: dict[str, Any]
    species: Callable[[Any], list[int]]


APIS = {
    "mlserver.yaml": Api(
        "/v2/models/iris/infer",
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [3, 4],
                    "data": [value for row in ROWS for value in row],
                }
            ]
        },
        lambda answer: [int(number) for number in answer["outputs"][0]["data"]],
    ),
    "fastapi.yaml": Api(
        "/species",
        {"flowers": [{"sepal": row[:2], "petal": row[2:]} for row in ROWS]},
        lambda answer: [SPECIES.index(name) for name in answer["species"]],
    ),
}


def fitted(shift: int = 0, columns: int = 4) -> LogisticRegression:
    """A model whose species are called as the next ones; of fewer columns, no request fits it."""
    data = load_iris()
    return LogisticRegression(max_iter=500).fit(data.data[:, :columns], (data.target + shift) % 3)


@dataclass
class Asked:
    """What a client was answered: the species, or none where that failed."""

    answers: list[list[int] | None] = field(default_factory=list)

    def good(self) -> int:
        return sum(answer is not None for answer in self.answers)


@contextmanager
def asking(kube: Kube, namespace: str, name: str, api: Api) -> Iterator[Asked]:
    """A client that asks again and again, through the Service."""
    asked, over = Asked(), threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not over.wait(0.02):
                try:
                    answer = client.post(api.path, json=api.body)
                except httpx.TransportError:
                    # Of the forward through the API server, which other tests do without.
                    continue
                asked.answers.append(api.species(answer.json()) if answer.status_code == 200 else None)

    with kube.port_forward(f"service/{name}", namespace, 80) as url:
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="module")
def image(installed: Installation, settings: Settings) -> str:
    """The image of both servers, as `name@sha256:…`."""
    del installed
    return load(build([find_image("own-servers")], settings.cache), settings)["own-servers"]


def test_mlserver_and_fastapi_take_a_better_version_on_and_a_broken_one_back(
    installed: Installation, mlflow: Registry, restricted_namespace: str, image: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"iris-{token}"
    mlflow.register_scikit_learn(model, fitted(), "champion")
    rollouts: dict[str, Rollout] = {}
    for example in APIS:
        manifest = yaml.safe_load((EXAMPLES / example).read_text())
        spec = manifest["spec"]
        manifest["metadata"]["namespace"] = namespace
        spec["model"] = {"uri": f"mlflow://{model}@champion", "refreshSeconds": 5}
        spec["runtime"]["image"] = image
        # A node of two cores has room for few.
        spec["runtime"]["resources"]["requests"] = {"cpu": "20m", "memory": "128Mi"}
        spec["scaling"] = {"maxReplicas": 1}
        spec["rollout"].update(QUICK)
        spec["rollout"]["analysis"].update(LOOKS)
        errors, slow = spec["rollout"]["analysis"]["gates"]
        # Beside all other tests.
        slow["thresholdMilliseconds"] = 10_000
        assert errors["type"] == "ErrorRate"
        kube.apply(manifest)
        rollouts[example] = Rollout(kube, namespace, manifest["metadata"]["name"])
    for rollout in rollouts.values():
        found = wait_until_ready(kube, rollout.name, namespace, within=300)
        assert found["status"]["model"]["folder"] is True
        assert condition(found, "Watched")["status"] == "False"
        rollout.wait_until_synced()

    with ExitStack() as stack:
        clients = {
            example: stack.enter_context(asking(kube, namespace, rollout.name, APIS[example]))
            for example, rollout in rollouts.items()
        }
        wait_for(
            lambda: all(client.good() > 20 for client in clients.values()), 60, "the servers do not answer"
        )
        two = mlflow.register_scikit_learn(model, fitted(shift=1), "champion")
        for rollout in rollouts.values():
            rollout.wait_for_stable(two, 300)
        for example, client in clients.items():
            # A canary costs no request, and both versions answered.
            assert None not in client.answers, example
            assert {tuple(answer) for answer in client.answers if answer} == {(0, 1, 2), (1, 2, 0)}

        three = mlflow.register_scikit_learn(model, fitted(columns=3), "champion")
        for rollout in rollouts.values():
            assert "errors" in rollout.wait_for_rejection(300)
            assert rollout.stable() == two
        before = {example: len(client.answers) for example, client in clients.items()}
        wait_for(
            lambda: all(len(client.answers) > before[example] + 150 for example, client in clients.items()),
            60,
            "the clients are not answered any more",
        )
        for example, client in clients.items():
            assert all(answer == [1, 2, 0] for answer in client.answers[before[example] + 50 :]), example
            assert None in client.answers, f"{example}: {three} failed no request"
