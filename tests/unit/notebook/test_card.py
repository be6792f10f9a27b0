"""The card says the same in HTML and in text, and does no harm to the page around it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from slipway.core.resource import read
from slipway.notebook.card import html_of, table_of, text_of
from tests.unit.report.live import DIGEST, model_deployment

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CANARY = {"revision": "bbbbbbbbbb", "version": "4", "digest": DIGEST, "replicas": 1, "readyReplicas": 1}
STEPS = [{"setWeight": 20}, {"pause": {"untilApproved": True}}, {"setWeight": 50}, {"analysis": {}}]


def condition(type_: str, status: str, reason: str, message: str = "numbers") -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-29T11:00:00Z",
    }


def in_a_rollout(**changes: Any) -> dict[str, Any]:
    rollout = {
        "id": "bbbbbbbbbb.1",
        "revision": "bbbbbbbbbb",
        "phase": "Paused",
        "startedAt": "2026-11-29T11:00:00Z",
        "stepStartedAt": "2026-11-29T11:30:00Z",
        "step": 1,
        "weight": 20,
        "canaryReplicas": 1,
        "message": "waits for approval",
        "gates": [{"name": "errors", "verdict": "Pass", "message": "3 of 900 failed"}],
    }
    drift = {
        "type": "Drift",
        "status": "True",
        "reason": "FeaturesDrifted",
        "message": "1 of 6 features moved",
        "judgedAt": "2026-11-29T11:00:00Z",
        "countedSince": "2026-11-29T10:00:00Z",
        "features": [{"name": "age", "severity": "Critical", "psi": "0.41", "rows": 5000}],
    }
    resource = model_deployment(
        canary=CANARY,
        canaryWeight=20,
        rollout=rollout,
        monitoring={"version": "3", "verdicts": [drift]},
        conditions=[
            condition("Ready", "True", "Serving"),
            condition("Drift", "True", "FeaturesDrifted", "1 of 6 features moved"),
            condition("Fairness", "True", "WithinLimits"),
            condition("TrafficSynced", "False", "RouterSilent", "no router answered"),
            condition("AccessControlled", "False", "AccessOpen", "everybody may ask"),
            *changes.pop("conditions", []),
        ],
        **changes,
    )
    resource["spec"]["rollout"] = {"strategy": "Canary", "steps": STEPS}
    return resource


def words(html: str) -> str:
    class Text(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data: str) -> None:
            self.parts.append(data)

    parser = Text()
    parser.feed(html)
    return " ".join(" ".join(parser.parts).split())


@pytest.mark.parametrize(
    "said",
    [
        "payments/fraud",
        "stable 80% 80% version 3",
        "canary 20% 20% version 4 revision bbbbbbbbbb 1/1 pods ready",
        "rollout Paused for 60m",
        "waits for approval",
        "✓ 20% of the traffic → wait for approval → 50% of the traffic → wait for evidence",
        "gate errors Pass 3 of 900 failed",
        "Drift FeaturesDrifted 1 of 6 features moved",
        "age Critical PSI 0.41 of 5000 rows",
        "Fairness WithinLimits numbers",
        "TrafficSynced False, RouterSilent: no router answered",
        "rejected cccccccccc at 2026-11-21T11:00:00Z: gate error-rate: <b>canary 14 errors</b> in 1,210",
    ],
)
def test_the_card_tells_what_serves_how_far_it_is_and_what_was_found(said: str) -> None:
    assert said in words(html_of(read(in_a_rollout()), NOW))


def test_the_text_says_what_the_html_says() -> None:
    resource = read(in_a_rollout())
    text = " ".join(text_of(resource, NOW).split())
    for said in (
        "version 4, revision bbbbbbbbbb, 1/1 pods ready",
        "rollout bbbbbbbbbb.1: Paused",
        "→ wait for approval",
        "gate errors: Pass; 3 of 900 failed",
        "Drift True FeaturesDrifted: 1 of 6 features moved",
        "TrafficSynced False RouterSilent: no router answered",
    ):
        assert said in text


def test_what_is_no_trouble_is_not_told_as_such() -> None:
    assert "AccessOpen" not in html_of(read(in_a_rollout()), NOW)


def test_what_comes_from_users_is_text() -> None:
    resource = in_a_rollout()
    resource["status"]["rollout"]["message"] = '<script>alert("x")</script>'
    resource["spec"]["model"]["uri"] = "mlflow://<img src=x onerror=alert(1)>/1"
    html = html_of(read(resource), NOW)
    assert "<script" not in html
    assert "<img" not in html
    assert '<script>alert("x")</script>' in unescape(html)


def test_it_has_no_script_no_style_sheet_no_id_and_nothing_from_outside() -> None:
    html = html_of(read(in_a_rollout()), NOW)
    assert not re.search(
        r"<(script|style|link|iframe|img)\b|\sid=|\sclass=|\son[a-z]+=|https?://(?!wiki)", html
    )
    # Colours of text and lines are those of the editor, so that it can be read on dark and on light.
    assert "color:inherit" in html
    assert not re.search(r"background(-color)?:\s*(#|white)", html)


def test_a_model_that_serves_nothing_and_one_that_is_not_valid_have_a_card() -> None:
    fresh = model_deployment(stable=None, promotedAt=None, rejected=[])
    del fresh["status"]
    assert "nothing is known yet" in words(html_of(read(fresh), NOW))
    assert "nothing serves yet" in words(html_of(read(fresh), NOW))
    broken = model_deployment()
    broken["spec"]["model"] = {"uri": 3}
    assert "InvalidResource: spec.model.uri" in words(html_of(read(broken), NOW))


def test_a_list_has_a_row_for_each_and_says_where_there_is_none() -> None:
    text, html = table_of([in_a_rollout()], NOW, namespaces=True)
    assert "payments" in text
    assert words(html).startswith("NAMESPACE NAME READY VERSION CANARY WEIGHT")
    assert "fraud True 3 4 20% Paused" in words(html)
    assert table_of([], NOW, namespaces=False)[0] == "no ModelDeployments found"
