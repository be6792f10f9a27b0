"""A handle speaks to a real model server by way of an API server, and gives commands to a rollout."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

import slipway
from e2e import snippets
from slipway.notebook.handle import Model
from tests.ports import free_port
from tests.server.running import Server
from tests.unit.cli.conftest import cluster, world
from tests.unit.cli.serving import Served
from tests.unit.report.live import Cluster, model_deployment, serve

__all__ = ["cluster", "world"]

DATA = load_breast_cancer(as_frame=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("served")) as running:
        yield running.wait_until_ready()


@pytest.fixture
def fraud(server: Server, tmp_path: Path) -> Iterator[Model]:
    with Cluster(model_deployment(), {"fraud-a": server}) as found:
        yield slipway.model("fraud", kubeconfig=found.kubeconfig(tmp_path))


def test_a_frame_is_predicted_row_by_row_as_the_model_server_answers_it(fraud: Model, server: Server) -> None:
    twice = pd.concat([DATA.data, DATA.data])
    frame = twice.set_index(np.arange(len(twice)) + 1000)
    found = fraud.predict(frame)
    rows = frame.to_numpy(np.float32)
    direct = server.infer(
        {"name": "X", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    ).json()
    by_name = {one["name"]: one["data"] for one in direct["outputs"]}
    assert found["output_label"].ravel().tolist() == by_name["output_label"]
    assert found.version == "3"
    assert list(found.frame.index) == list(frame.index)
    assert len(found.tokens) == len(frame), "each row has a token, although a single request would have none"


def test_columns_are_found_by_the_names_of_the_spec(server: Server, tmp_path: Path) -> None:
    resource = model_deployment()
    columns = [{"name": str(name), "type": "Number"} for name in DATA.data.columns]
    resource["spec"]["inputs"] = {"tensors": [{"name": "X", "columns": columns}], "onViolation": "Report"}
    turned = DATA.data.iloc[:50, ::-1].assign(id=range(50))
    with Cluster(resource, {"fraud-a": server}) as found:
        fraud = slipway.model("fraud", kubeconfig=found.kubeconfig(tmp_path))
        plain = fraud.predict(DATA.data.iloc[:50])
        assert fraud.predict(turned)["output_label"].tolist() == plain["output_label"].tolist()
        with pytest.raises(slipway.PredictionError, match="the table lacks 'mean area'"):
            fraud.predict(turned.drop(columns="mean area"))


def test_labels_come_back_by_the_tokens_of_the_predictions_and_count_once(fraud: Model) -> None:
    found = fraud.predict(DATA.data.iloc[:20])
    labels = DATA.target.iloc[:20]
    assert fraud.feedback(found, labels)["accepted"] == 20
    assert fraud.feedback(found.tokens[:3], list(labels[:3])) == {
        "accepted": 0,
        "duplicate": 3,
        "expired": 0,
        "invalid": 0,
    }
    assert fraud.feedback(["forged"], [1])["invalid"] == 1
    with pytest.raises(slipway.PredictionError, match="20 tokens and 1 labels"):
        fraud.feedback(found, [1])


def test_what_the_model_server_refuses_is_told_in_its_own_words(fraud: Model) -> None:
    with pytest.raises(slipway.PredictionError, match=r"model payments/fraud: .*X") as refused:
        fraud.predict(DATA.data.assign(**{"mean area": 1e300}))
    assert refused.value.status == 400
    with pytest.raises(slipway.PredictionError, match="no rows"):
        fraud.predict(DATA.data.iloc[:0])


def test_a_model_with_a_url_is_asked_there_and_a_key_goes_nowhere_else(
    server: Server, tmp_path: Path
) -> None:
    with Cluster(model_deployment(), {"fraud-a": None}) as found:
        kubeconfig = found.kubeconfig(tmp_path)
        fraud = slipway.model("fraud", kubeconfig=kubeconfig, url=f"{server.url}/", key="a key")
        assert len(fraud.predict(DATA.data[:3])) == 3
        with pytest.raises(slipway.SlipwayError, match="give the url"):
            slipway.model("fraud", kubeconfig=kubeconfig, key="a key").predict(DATA.data[:3])
        nobody = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(slipway.SlipwayError, match="does not answer"):
            slipway.model("fraud", kubeconfig=kubeconfig, url=nobody).predict(DATA.data[:3])


def test_the_pages_python_runs_as_printed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [printed] = [block.text for block in snippets.blocks("docs/notebooks.md") if block.language == "python"]
    with Cluster(model_deployment(), {"fraud-a": server}) as found:
        monkeypatch.setenv("KUBECONFIG", found.kubeconfig(tmp_path))
        names: dict[str, Any] = {"rows": DATA.data[:7], "labels": DATA.target[:7]}
        printed = printed.replace('"payments")', f'"payments", kubeconfig="{found.kubeconfig(tmp_path)}")')
        exec(printed, names)
    assert len(names["answers"].frame) == 7


def test_a_service_without_a_ready_pod_is_told(tmp_path: Path) -> None:
    with Cluster(model_deployment(), {"fraud-a": None}) as found:
        fraud = slipway.model("fraud", kubeconfig=found.kubeconfig(tmp_path))
        with pytest.raises(slipway.SlipwayError, match="no endpoints available"):
            fraud.predict(DATA.data)


def test_the_card_and_the_report_show_the_same_model(fraud: Model, tmp_path: Path) -> None:
    shown = fraud._repr_mimebundle_()
    assert "version 3" in shown["text/plain"]
    assert "version 3" in shown["text/html"]
    fraud.predict(DATA.data)
    report = fraud.report()
    assert report.save(tmp_path / "report.html").read_text() == report.html
    assert report._repr_html_().startswith("<iframe sandbox srcdoc=")
    assert "<script" not in report.html


async def test_the_awaited_handle_does_the_same(server: Server, tmp_path: Path) -> None:
    with Cluster(model_deployment(), {"fraud-a": server}) as found:
        fraud = slipway.async_model("fraud", kubeconfig=found.kubeconfig(tmp_path))
        first, second = await asyncio.gather(fraud.predict(DATA.data[:5]), fraud.predict(DATA.data[5:9]))
        assert (len(first), len(second)) == (5, 4)
        assert (await fraud.feedback(first, DATA.target[:5]))["accepted"] == 5
        status = await fraud.status()
        assert status.stable is not None
        with pytest.raises(slipway.SlipwayError, match="no rollout under way"):
            await fraud.promote()


def handle(cluster: Served) -> Model:
    return slipway.model("fraud", kubeconfig=str(cluster.kubeconfig))


def test_commands_are_those_of_the_command_line(cluster: Served) -> None:
    fraud = handle(cluster)
    assert fraud.rollout is not None
    assert fraud.rollout.phase == "Paused"
    assert "holds at 20%" in fraud.pause()
    with pytest.raises(slipway.SlipwayError, match="is paused"):
        fraud.promote()
    assert "goes on" in fraud.resume()
    assert "goes on from step" in fraud.promote()
    assert "skips what is left" in fraud.promote(full=True)
    assert "is aborted" in fraud.abort()
    with pytest.raises(slipway.SlipwayError, match="no rejected revision"):
        fraud.retry()


def test_a_wait_says_what_it_waits_for(cluster: Served) -> None:
    with pytest.raises(TimeoutError, match=r"payments/fraud is not done after 0 s: .*approv"):
        handle(cluster).wait(timeout=0)


def test_following_prints_a_picture_where_no_notebook_shows_it(
    cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(cluster).follow(timeout=0)
    assert "20%  version 2" in capsys.readouterr().out


def test_a_list_is_shown_as_a_table(cluster: Served) -> None:
    found = slipway.list(kubeconfig=str(cluster.kubeconfig))
    assert [one.name for one in found] == ["fraud"]
    shown = found._repr_mimebundle_()
    assert shown["text/plain"].split()[:2] == ["NAME", "READY"]
    assert "<td" in shown["text/html"]
    assert repr(found[0]) == "<slipway.model payments/fraud>"


def test_somebody_can_be_impersonated(cluster: Served) -> None:
    fraud = slipway.model("fraud", kubeconfig=str(cluster.kubeconfig), user="ana", groups=["risk"])
    assert fraud.version == "1"
    sent = {name.lower(): value for name, value in cluster.headers[-1]}
    assert sent["impersonate-user"] == "ana"
    assert sent["impersonate-group"] == "risk"


def test_there_is_no_cluster_to_use(tmp_path: Path) -> None:
    with pytest.raises(slipway.SlipwayError, match="kubeconfig cannot be read"):
        slipway.model("fraud", kubeconfig=str(tmp_path / "none"))


def test_the_operator_imports_none_of_it() -> None:
    listed = (
        "import sys, slipway; print([name for name in sys.modules if 'notebook' in name or 'numpy' in name])"
    )
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_imports_no_library_that_only_other_clients_of_clusters_need() -> None:
    listed = "import sys, slipway; slipway.model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert "kubernetes.config.kube_config" in found
    assert found.isdisjoint({"requests", "requests_oauthlib", "oauthlib", "google.auth", "websocket"})
