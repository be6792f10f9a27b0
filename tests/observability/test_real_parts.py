"""Rules, dashboards and routes on a real Prometheus and a real Alertmanager, with nothing made up between."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from e2e import credit, grafana
from e2e.cluster.tools import AMTOOL
from e2e.grafana import Shown
from e2e.pictures import draw
from slipway.api.generated import ROOT
from slipway.observability import rules
from slipway.observability.rule import Record
from tests.observability import rig
from tests.observability.rig import CANARY, NAMESPACE, ROUTES, STABLE, Rig, wait_for

ROWS = 2_400
SVG = "{http://www.w3.org/2000/svg}"
#: A scrape, an evaluation, a group of alerts: each comes every second, on a busy machine later.
SEEN_SECONDS = 45.0
OF_THE_MODEL = (f'namespace="{NAMESPACE}"', f'model="{credit.NAME}"')


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two versions of a model, asked about applicants who have become richer and more indebted."""
    with rig.running(tmp_path_factory.mktemp("rig")) as running:
        running.wait_until_scraped()
        asked = credit.applicants(ROWS, seed=1, shift=credit.SHIFT)
        assert running.send(asked, pause=0.05) == ROWS
        drifted = 'slipway:feature_rows:increase1h{feature="income"} > 1000'
        wait_for(lambda: len(running.prometheus.query(drifted)) == 2, SEEN_SECONDS, running.prometheus.rules)
        yield running


def test_every_rule_is_evaluated_and_records_something(parts: Rig) -> None:
    loaded = parts.prometheus.rules()
    expected = [rule for group in rules.groups().values() for rule in group]
    assert len(loaded) == len(expected)
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
    recorded = {rule.record for rule in expected if isinstance(rule, Record)}
    yesterday = {name for name in recorded if "yesterday" in name}

    def nothing() -> set[str]:
        return {name for name in recorded if not parts.prometheus.query(f'{{__name__="{name}"}}')}

    # Nothing here is a day old.
    wait_for(lambda: nothing() == yesterday, SEEN_SECONDS, nothing)


def test_every_panel_of_every_dashboard_shows_something(parts: Rig) -> None:
    def empty() -> list[tuple[str, str, str]]:
        return [each.target.place for each in look(parts) if not each.series]

    wait_for(lambda: not empty(), SEEN_SECONDS, empty)
    places = [each.target.place for each in look(parts)]
    assert len(set(places)) == len(places) > 50


def test_a_picture_has_every_panel_and_every_line(parts: Rig) -> None:
    end = time.time()
    for board in grafana.dashboards().values():
        shown = grafana.look(parts.prometheus, board, rig.chosen(), rig.SCRAPE_SECONDS, parts.began, end)
        drawn = ElementTree.fromstring(draw(board, shown, parts.began, end))
        groups = drawn.findall(f"{SVG}g")
        assert len(groups) == len(board["panels"])
        for number, (group, panel) in enumerate(zip(groups, board["panels"], strict=True)):
            words = [text.text for text in group.iter(f"{SVG}text")]
            assert words[0] == grafana.fill(panel["title"], rig.chosen())
            if panel["type"] == "timeseries":
                series = [one for each in shown if each.target.number == number for one in each.series]
                lines = [line for line in group.iter(f"{SVG}polyline") if line.get("stroke-width") == "1.5"]
                # More than one for a line with gaps.
                assert len(lines) >= len(series) >= 1


def test_what_both_replicas_of_the_operator_say_is_counted_once(parts: Rig) -> None:
    shown = {each.target.place: each for each in look(parts)}
    assert numbers(shown["Slipway / Fleet", "Models", ""]) == {"": 1.0}
    pods = numbers(shown["Slipway / Rollout", "Pods", "{{role}} ready"])
    assert pods == {"stable ready": 1.0, "canary ready": 1.0}
    for board, panel, legend in (
        ("Slipway / Fleet", "What monitoring says", ""),
        ("Slipway / Rollout", "Phase", "{{phase}}"),
        ("Slipway / Rollout", "What each gate says", "{{gate}} {{verdict}}"),
    ):
        assert len(shown[board, panel, legend].series) == 1


def test_no_two_lines_of_a_panel_have_the_same_name(parts: Rig) -> None:
    for each in look(parts):
        if each.target.kind == "timeseries":
            names = [grafana.legend(each.target, one.labels) for one in each.series]
            assert len(set(names)) == len(names), each.target.place


def test_a_drifted_feature_reaches_who_is_to_hear_of_it_once(parts: Rig) -> None:
    def active(receiver: str) -> set[tuple[str, str]]:
        return {
            (alert["labels"]["feature"], alert["labels"]["model_version"])
            for group in parts.alertmanager.groups(*OF_THE_MODEL, 'alertname="SlipwayFeatureDrift"')
            if group["receiver"]["name"] == receiver
            and group["labels"] == {"namespace": NAMESPACE, "model": credit.NAME}
            for alert in group["alerts"]
            if alert["status"]["state"] == "active" and alert["labels"]["severity"] == "critical"
        }

    drifted = {(feature, version) for feature in ("income", "debt") for version in (STABLE, CANARY)}
    wait_for(lambda: active("on-call") == active("risk") == drifted, SEEN_SECONDS, parts.alertmanager.alerts)
    warnings = parts.alertmanager.alerts(
        *OF_THE_MODEL, 'alertname="SlipwayFeatureDrift"', 'severity="warning"'
    )
    assert {(one["labels"]["feature"], one["status"]["state"]) for one in warnings} == {
        ("income", "suppressed"),
        ("debt", "suppressed"),
    }
    [one] = {
        alert["annotations"]["summary"].split(": PSI")[0]
        for alert in parts.alertmanager.alerts('feature="debt"', f'model_version="{STABLE}"')
    }
    assert one == f"debt of {credit.NAME} {STABLE} in {NAMESPACE} moved"
    wait_for(
        lambda: any(
            message["groupLabels"] == {"namespace": NAMESPACE, "model": credit.NAME}
            and {alert["labels"]["feature"] for alert in message["alerts"]} == {"income", "debt"}
            for path, message in parts.inbox.messages
            if path == "/slipway"
        ),
        SEEN_SECONDS,
        lambda: parts.inbox.messages,
    )


def test_an_alert_ends_with_what_it_is_about(parts: Rig) -> None:
    def told(status: str) -> list[dict[str, Any]]:
        return [
            alert
            for path, message in parts.inbox.messages
            if path == "/slipway"
            for alert in message["alerts"]
            if alert["labels"]["alertname"] == "SlipwayModelNotReady" and alert["status"] == status
        ]

    parts.operator.say(ready=False)
    wait_for(lambda: bool(told("firing")), SEEN_SECONDS, parts.alertmanager.alerts)
    assert told("firing")[0]["labels"] == {
        "alertname": "SlipwayModelNotReady",
        "namespace": NAMESPACE,
        "name": credit.NAME,
        "model": credit.NAME,
        "severity": "critical",
    }
    assert told("resolved") == []
    parts.operator.say(ready=True)
    wait_for(lambda: bool(told("resolved")), SEEN_SECONDS, parts.alertmanager.alerts)
    wait_for(
        lambda: not parts.alertmanager.alerts('alertname="SlipwayModelNotReady"'),
        SEEN_SECONDS,
        parts.alertmanager.alerts,
    )


def test_the_example_of_routes_is_valid_and_the_page_shows_what_it_does() -> None:
    assert "SUCCESS" in amtool("check-config", str(ROUTES))
    page = (ROOT / rules.PAGE).read_text()
    [(words, answer)] = re.findall(r"\$ amtool (config routes.*?[^\\])\n([^ ]\S*)\n```", page, re.DOTALL)
    said = amtool(*words.replace("\\\n", " ").replace("=alertmanager.yaml", f"={ROUTES}").split())
    assert said.strip() == answer


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("severity=critical namespace=risk", "on-call,risk"),
        ("severity=critical namespace=shop", "on-call"),
        ("severity=warning namespace=risk", "risk"),
        ("severity=warning namespace=shop", "models"),
        ("severity=info namespace=risk", "nobody"),
    ],
)
def test_an_alert_goes_to(labels: str, receivers: str) -> None:
    words = ["config", "routes", "test", f"--config.file={ROUTES}", "alertname=SlipwayFeatureDrift"]
    assert amtool(*words, *labels.split()).strip() == receivers


def amtool(*words: str) -> str:
    argv = [rig.program(AMTOOL), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def look(parts: Rig) -> list[Shown]:
    """Every query of the three dashboards."""
    return [
        each
        for board in grafana.dashboards().values()
        for each in grafana.look(
            parts.prometheus, board, rig.chosen(), rig.SCRAPE_SECONDS, parts.began, time.time()
        )
    ]


def numbers(shown: Shown) -> dict[str, float]:
    return {grafana.legend(shown.target, one.labels): one.last for one in shown.series}
