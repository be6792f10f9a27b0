"""The report: everything on one page, nothing from outside, and nothing that users could smuggle in."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from slipway.api.audits import AuditFigure, AuditResult
from slipway.core.monitoring.drift import DriftLimits, ReferenceBins, judge_drift
from slipway.core.monitoring.fairness import (
    Attribute,
    FairnessLimit,
    FairnessLimits,
    FairnessMetric,
    GroupCounts,
    judge_fairness,
)
from slipway.core.monitoring.performance import (
    Feedback,
    Objective,
    PerformanceMetric,
    estimate_accuracy,
    judge_performance,
)
from slipway.report.audits import AuditReport
from slipway.report.charts import BARS_HEIGHT, BARS_WIDTH, WHISKER_WIDTH, bars, whisker
from slipway.report.page import CalibrationBin, Distribution, Event, FeatureReport, Report, render

EVIL = "<script>alert('1')</script>\" onload=\"x"


class Page(HTMLParser):
    """Tags, attributes and text; refuses tags that are not closed."""

    VOID = frozenset({"meta", "rect", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def audited(name: str) -> AuditResult:
    """What an audit found of a version that is called as the model is."""
    figure = AuditFigure(
        metric="AccuracyLoss", of=name, value="0.0123", low="-0.0010", high="0.0250", limit="0.02"
    )
    return AuditResult(
        name="groups",
        revision="a1",
        version=name,
        key="0123456789",
        verdict="Inconclusive",
        message=f"{name} loses 1.23%",
        finishedAt="2026-02-28T08:00:00Z",
        dataDigest="sha256:" + "cd" * 32,
        rows=2000,
        figures=(figure,),
    )


def full_report(name: str = "fraud", feature: str = "age") -> Report:
    names = tuple(f"{position:02}" for position in range(10))
    window = {bin_: 300.0 if int(bin_) < 5 else 100.0 for bin_ in names}
    reference = ReferenceBins(dict.fromkeys(names, 0.1), 10_000)
    drift, features = judge_drift({feature: window}, {feature: reference}, DriftLimits())
    confusion = {("1", "1"): 300.0, ("0", "0"): 480.0, ("1", "0"): 120.0, ("0", "1"): 100.0}
    performance, measurements = judge_performance(
        Feedback(confusion, 20_000, {}), [Objective(PerformanceMetric.ACCURACY, 0.82)]
    )
    groups = {"m": GroupCounts(400, 600, {}), "f": GroupCounts(210, 790, {}), "x": GroupCounts(1, 9, {})}
    fairness, gaps = judge_fairness(
        [Attribute("sex", "m", groups)],
        FairnessLimits([FairnessLimit(FairnessMetric.DISPARATE_IMPACT_RATIO, 0.8)]),
    )
    shares = tuple(count / 2000 for count in window.values())
    return Report(
        namespace="payments",
        name=name,
        made_at="2026-03-01 12:00 UTC",
        window="the last hour; groups and labels: the last 24 hours",
        facts={"Version": "7", "Digest": "sha256:" + "ab" * 32},
        card={"Owner": "risk-team", "Intended use": "card payments"},
        verdicts=(drift, performance, fairness),
        features=(FeatureReport(features[0], Distribution(names, shares, (0.1,) * 10)),),
        calibration=(CalibrationBin("(0.5,0.6]", 120, 0.58), CalibrationBin("(0.9,1]", 900, None)),
        measurements=measurements,
        estimate=estimate_accuracy({"a": 100.0}, {"a": 0.9}),
        gaps=gaps,
        audits=(AuditReport(audited(name), "stable"),),
        events=(Event("2026-02-28 09:00 UTC", "Promoted", "gate error-rate: 0 errors in 5,000"),),
    )


def test_the_page_says_everything_that_monitoring_does() -> None:
    report = full_report()
    page = Page(render(report))
    text = " ".join(" ".join(page.text).split())
    for verdict in report.verdicts:
        assert verdict.message in text
    for words in ("risk-team", "the last hour", "(0.9,1] 900 unknown", "gate error-rate: 0 errors in 5,000"):
        assert words in text
    assert "moved (critical)" in text
    assert "groups fraud, stable Inconclusive 2,000 2026-02-28T08:00:00Z fraud loses 1.23%" in text
    assert "AccuracyLoss fraud 0.0123 -0.0010 to 0.0250 0.02" in text
    assert "if the same inputs still mean the same" in text
    assert page.tags.count("rect") == 10
    assert page.tags.count("circle") == 2


def test_nothing_comes_from_outside_and_nothing_runs() -> None:
    text = render(full_report())
    page = Page(text)
    assert "script" not in page.tags
    assert not {"src", "href", "action", "data"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"https?:|//|url\(|@import", text)
    policy = dict(page.attributes)["content"]
    assert "default-src 'none'" in text
    assert policy


def test_what_users_wrote_is_text_and_nothing_else() -> None:
    text = render(full_report(name=EVIL, feature=EVIL))
    page = Page(text)
    assert "script" not in page.tags
    assert "onload" not in {name for name, _ in page.attributes}
    assert EVIL in "".join(page.text)


def test_a_small_group_is_not_on_the_page() -> None:
    text = render(full_report())
    assert "1 group of fewer than 100 rows is not shown" in text
    assert not re.search(r"\bx 10%", text)


def test_a_model_of_which_nothing_is_known_has_a_page_too() -> None:
    bare = Report("payments", "fraud", "now", "the last hour", {}, {}, ())
    page = Page(render(bare))
    text = " ".join(page.text)
    assert "Nothing is monitored." in text
    assert "None yet." in text
    assert "figure" not in page.tags


def test_bars_stay_within_their_chart() -> None:
    found = bars(("a", "b", "c"), (0.0, 0.25, 0.75), (0.5, 0.5, 0.0))
    assert all(bar.left >= 0 and bar.left + bar.width <= BARS_WIDTH for bar in found)
    assert all(bar.top + bar.height == pytest.approx(BARS_HEIGHT) for bar in found)
    assert [bar.height for bar in found] == [0.0, pytest.approx(BARS_HEIGHT / 3, abs=0.01), BARS_HEIGHT]
    assert found[1].title == "b: 25% now, 50% in the reference"
    assert bars((), (), ()) == ()


def test_a_share_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        bars(("a", "b"), (0.5,), (0.5, 0.5))


def test_what_lies_outside_of_a_scale_is_drawn_at_its_end() -> None:
    found = whisker(float("inf"), -1.0, float("nan"), 0.5, 2.0)
    assert (found.value, found.low, found.high, found.limit) == (WHISKER_WIDTH, 0.0, 0.0, WHISKER_WIDTH / 4)
