"""What a Prometheus and an Alertmanager answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import yaml

from e2e.cluster.errors import ClusterError

#: Between two points of a range.
STEP_SECONDS = 1.0


@dataclass(frozen=True)
class Series:
    """Labels of one result, and its values by time in seconds since 1970; an instant query has one."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus behind a client whose base URL is its own; calls raise ClusterError with what it said."""

    client: httpx.Client

    def query(self, expression: str) -> list[Series]:
        """The expression's results now."""
        return _series(self._get("query", query=expression))

    def query_range(self, expression: str, start: float, end: float) -> list[Series]:
        """The expression's results between two times in seconds since 1970."""
        return _series(self._get("query_range", query=expression, start=start, end=end, step=STEP_SECONDS))

    def values(self, label: str, selector: str) -> list[str]:
        """What a label is in the series that a selector picks."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": selector})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that is loaded, with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Whatever is scraped."""
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        try:
            document = answer.json()
        except ValueError:
            raise ClusterError(f"Prometheus answered {answer.status_code}: {answer.text[:300]}") from None
        if document["status"] != "success":
            raise ClusterError(f"Prometheus refuses {parameters}: {document['error']}")
        return document["data"]


@dataclass(frozen=True)
class Alertmanager:
    """An Alertmanager behind a client whose base URL is its own."""

    client: httpx.Client

    def groups(self, *matchers: str) -> list[dict[str, Any]]:
        """Alerts that all of these matchers pick, by receiver and group, the muted ones too."""
        return self._get("alerts/groups", matchers)

    def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """The same alerts, without their groups."""
        return self._get("alerts", matchers)

    def _get(self, path: str, matchers: Sequence[str]) -> list[dict[str, Any]]:
        answer = self.client.get(f"/api/v2/{path}", params=[("filter", each) for each in matchers])
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


def hurried_rules(text: str, wait: str) -> str:
    """A rule file whose alerts fire after ``wait`` at the latest; nothing else of them is changed."""
    document = yaml.safe_load(text)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if "alert" in rule:
            rule["for"] = min(rule["for"], wait, key=_seconds)
    return yaml.safe_dump(document, sort_keys=False, width=110)


def hurried_routes(text: str, wait: str) -> str:
    """Alertmanager's configuration, with groups that wait no longer than ``wait``; otherwise as it is."""
    document = yaml.safe_load(text)

    def hurry(route: dict[str, Any]) -> None:
        for name in ("group_wait", "group_interval"):
            if name in route:
                route[name] = wait
        for each in route.get("routes", ()):
            hurry(each)

    hurry(document["route"])
    return yaml.safe_dump(document, sort_keys=False)


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def _series(data: Mapping[str, Any]) -> list[Series]:
    found = []
    for one in data["result"]:
        points = one["values"] if "values" in one else [one["value"]]
        found.append(Series(one["metric"], tuple((float(at), float(value)) for at, value in points)))
    return found
