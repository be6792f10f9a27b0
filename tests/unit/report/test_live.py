"""``slipway report``: the page that real servers' counters make, and what is said where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.core.resource import read
from slipway.names import Metric
from slipway.report.live import Counted, Sample, report_of
from tests.server.running import Server
from tests.unit.report.live import MOVED, Cluster, model_deployment, send_traffic, serve
from tests.unit.report.test_page import Page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("reported")) as running:
        send_traffic(running.wait_until_ready())
        yield running


def report(tmp_path: Path, resource: dict[str, Any], pods: dict[str, Server | None], *words: str) -> int:
    with Cluster(resource, pods) as cluster:
        return main(["report", "fraud", "--kubeconfig", cluster.kubeconfig(tmp_path), *words])


def test_a_page_of_two_pods_shows_what_they_counted_and_what_became_of_rollouts(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert report(tmp_path, model_deployment(), {"fraud-a": server, "fraud-b": server}, "-o", str(path)) == 0
    page = Page(path.read_text())
    text = " ".join(" ".join(page.text).split())
    # The same server stands for both pods, so that everything counts twice.
    for words in (
        "counts since the pods started, the first 2026-11-24 09:30 UTC",
        "Rows 3,414",
        "72 answered 200",
        f"{MOVED} moved",
        "FeaturesDrifted 1 of 6 features moved",
        "Age of the data half of 3,414 rows below ",
        "33.3% older than the 60 min that are allowed",
        "Accuracy, at least 90% 9",
        "Performance True ObjectivesMet",
        "Fairness True WithinLimits sex: DisparateImpactRatio 1.0",
        "of 1,138 labels",
        "33.3% of the rows have labels",
        "Estimated without labels: accuracy",
        "sex female favorable, of all",
        "sex male favorable, of those whose label is not",
        "1 group of fewer than 100 rows is not shown",
        "2026-11-21 11:00 UTC Rejected cccccccccc: gate error-rate: <b>canary 14 errors</b> in 1,210",
        "Owner risk-team Limitations no transfers More https://wiki.example.com/fraud",
        "Model made 2026-01-02 03:04 UTC, ",
        " days before this page; 90 are allowed",
        "days old, 90 allowed",
        "2026-11-20 09:00 UTC Promoted aaaaaaaaaa: version 3",
        "2026-11-20 08:00 UTC New revision aaaaaaaaaa: version 3",
    ):
        assert words in text, words
    assert page.tags.count("figure") == 6
    assert not {"script", "b", "img", "link"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}


def test_what_the_operator_says_stands_before_what_the_page_would(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"type": "Drift", "status": "False", "reason": "NoDrift", "message": "as before, over 1 h"}
    other = {"type": "Ready", "status": "True", "reason": "Serving", "message": "2 pods"}
    common = {"observedGeneration": 1, "lastTransitionTime": "2026-11-24T12:00:00Z"}
    resource = model_deployment(conditions=[said | common, other | common])
    assert report(tmp_path, resource, {"fraud-a": server}, "-o", "-") == 0
    text = " ".join(" ".join(Page(capsys.readouterr().out).text).split())
    assert "Judged by the operator. Drift False NoDrift as before, over 1 h" in text
    assert "FeaturesDrifted" not in text
    assert "Ready True, Serving: 2 pods" in text


def test_a_pod_that_does_not_answer_is_named_on_the_page(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, model_deployment(), {"fraud-a": server, "fraud-b": None}, "-o", "-") == 0
    text = capsys.readouterr().out
    assert "fraud-b did not answer and is not counted" in text
    assert "1,707" in text


@pytest.mark.parametrize(
    ("status", "pods", "says"),
    [
        (
            {},
            {"fraud-a": None},
            "no pod of payments/fraud answered; fraud-a: metrics of pod payments/fraud-a",
        ),
        ({}, {}, "payments/fraud has no ready pod of revision aaaaaaaaaa"),
        ({"stable": None}, {}, "payments/fraud serves nothing yet"),
    ],
)
def test_where_there_is_nothing_to_read_the_command_says_why(
    status: dict[str, Any],
    pods: dict[str, Server | None],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(tmp_path, model_deployment(**status), pods) == 1
    assert f"error: {says}" in capsys.readouterr().err
    assert not list(Path.cwd().glob("fraud-report.html"))


def test_a_resource_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cluster(model_deployment(), {}) as cluster:
        assert main(["report", "nobody", "--kubeconfig", cluster.kubeconfig(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: there is no ModelDeployment payments/nobody\n"


def test_labels_count_wherever_they_came_in_and_all_else_where_the_model_serves() -> None:
    of_3, of_4 = {"model": "fraud", "model_version": "3"}, {"model": "fraud", "model_version": "4"}

    def labels(count: float) -> Sample:
        return Metric.FEEDBACK_LABELS, {**of_3, "outcome": "1", "label": "1", "correct": "true"}, count

    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    stable = Counted("fraud-a", "aaaaaaaaaa", at, ((Metric.ROWS, of_3, 100.0), labels(10)))
    strange = (Metric.ROWS, of_3, 7.0)
    canary = Counted("fraud-b", "bbbbbbbbbb", at, ((Metric.ROWS, of_4, 50.0), labels(5), strange))
    found = report_of(read(model_deployment()), [stable, canary], {}, (), at)
    assert found.facts["Rows"] == "100"
    assert found.facts["Pods read"] == "1"
    assert [one.share.rows for one in found.measurements] == [15]
    with pytest.raises(ValueError, match="no pod of fraud that serves was read"):
        report_of(read(model_deployment()), [canary], {}, (), at)
