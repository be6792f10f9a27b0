"""From raw samples to what routers counted."""

from __future__ import annotations

from typing import Any

from slipway.core.traffic.envoy.prometheus import Samples, query, scraped


def completed(pod: str, points: list[tuple[float, float]], **labels: str) -> tuple[Samples, ...]:
    name: dict[str, Any] = {"envoy_cluster_name": "fraud/a", "pod": pod, "instance": pod, **labels}
    metrics = ("envoy_cluster_upstream_rq_completed", "envoy_cluster_upstream_rq_total")
    return tuple(Samples({**name, "__name__": metric}, points) for metric in metrics)


def requests(found: dict[str, Any], pod: str, revision: str = "a") -> int:
    return int(found[pod].arms["fraud", revision].counters.requests)


def test_a_pod_that_two_jobs_scrape_counts_once_by_the_newest() -> None:
    found = scraped(
        [
            *completed("r-0", [(10.0, 5.0), (20.0, 9.0)], job="pods"),
            *completed("r-0", [(11.0, 6.0), (21.0, 10.0)], job="monitors"),
            *completed("r-1", [(12.0, 7.0)], job="pods"),
        ]
    )
    assert found["r-0"].times == (11.0, 21.0)
    assert (requests(found, "r-0"), requests(found, "r-1")) == (10, 7)


def test_a_series_that_ended_before_the_last_scrape_is_no_count_any_more() -> None:
    gone = completed("r-0", [(10.0, 50.0)], envoy_cluster_name="fraud/b")
    found = scraped([*gone, *completed("r-0", [(10.0, 5.0), (20.0, 9.0)])])
    assert set(found["r-0"].arms) == {("fraud", "a")}


def test_samples_without_a_pod_are_nobodys() -> None:
    assert scraped([Samples({"__name__": "envoy_cluster_upstream_rq_total"}, [(1.0, 1.0)])]) == {}


def test_a_query_names_one_model_of_one_namespace_and_no_more() -> None:
    found = query("payments", "fraud.v2")
    assert found.startswith('{namespace="payments",__name__=~"envoy_cluster_(')
    assert found.endswith('envoy_cluster_name=~"fraud\\\\.v2/.*"}[180s]')
