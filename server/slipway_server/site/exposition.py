"""The model server's series in the Prometheus text format, all of them there from the start.

No label comes from a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from slipway import names
from slipway_server.board import Board
from slipway_server.metrics.counters import (
    CODE_SLOTS,
    DIED,
    DURATION_SUM,
    FIRST_BUCKET,
    IN_FLIGHT,
    LOAD_SECONDS,
    LOADED,
    PID,
    REASON_SLOTS,
    ROWS,
    RUNS_DIED,
    SECONDS,
    WIDTH,
)
from slipway_server.metrics.ledger import read_name, totals
from slipway_server.monitoring.cohorts import count_cohorts
from slipway_server.monitoring.reference import Reference
from slipway_server.settings import Serving

_LABELS = ("model", "model_version")
_HELP = {
    names.Metric.FEATURE_VALUES: "Values of a feature, by bin of the profile.",
    names.Metric.FEATURE_REFERENCE_RATIO: "Share of a bin in the profile, never 0.",
    names.Metric.FEATURE_REFERENCE_ROWS: "Values of a feature in the profile's bins.",
    names.Metric.PREDICTION_VALUES: "Answers of an output, by bin of the profile.",
    names.Metric.CONFIDENCE: "Answers by the probability of the likeliest class.",
    names.Metric.REFERENCE_ACCURACY: "Share of held-out rows of a confidence that were right.",
    names.Metric.MONITORING_DROPPED: "Rows that are missing from the counts, by why.",
    names.Metric.MONITORED_FEATURES: "Features of the profile that are counted, and those beyond the budget.",
    names.Metric.VIOLATIONS: "Values that broke a rule of the inputs.",
    names.Metric.COHORT_FEATURE_VALUES: "Values of a feature, by bin of the profile and cohort of callers.",
    names.Metric.COHORT_VIOLATIONS: "Values that broke a rule of the inputs, by cohort of callers.",
    names.Metric.REPORTED: "Inference requests that were answered although they broke a rule of the inputs.",
}
#: Metrics of :mod:`slipway_server.metrics.ledger`.
_LATER = {
    names.Metric.GROUP_PREDICTIONS: "Rows by group of a sensitive attribute and kind of outcome.",
    names.Metric.GROUP_FEEDBACK: "Labels that came back, by group, kind of outcome and kind of label.",
    names.Metric.FEEDBACK: "Labels that came back, by what became of them.",
    names.Metric.FEEDBACK_LABELS: "Labels that were taken, by predicted class and true one.",
    names.Metric.FEEDBACK_ERROR: "How far predicted numbers were from the true ones.",
    names.Metric.FEEDBACK_DELAY: "Seconds from a prediction to its label.",
    names.Metric.DATA_AGE: "Age of the data of rows when they were answered.",
    names.Metric.DATA_AGE_UNKNOWN: "Rows whose data has no age, by why.",
    names.Metric.SUSPECT_INPUTS: "Rows that may be a search for another answer, by detector; no proof.",
    names.Metric.COMPARED_ROWS: "Rows that were compared with earlier ones of whoever sent them.",
}
_LATER_BY_COHORT = {
    names.Metric.COHORT_DATA_AGE: "Rows by age of their data, each in one bucket, and cohort of callers.",
    names.Metric.COHORT_GROUP_PREDICTIONS: "Rows by group, kind of outcome and cohort of callers.",
    names.Metric.COHORT_GROUP_FEEDBACK: "Labels by group, kinds of outcome and label, and cohort of callers.",
    names.Metric.COHORT_FEEDBACK_LABELS: "Labels by predicted class, true one, and cohort of callers.",
}


class Exposition:
    """Renders a board; import it late, since the library takes longer to import than a model to load."""

    def __init__(self, board: Board, serving: Serving, reference: Reference) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Inference(board, serving))
        if not reference.is_empty:
            self._registry.register(_Monitoring(board, serving, reference))
        self._registry.register(_Later(board, _LATER))
        self._registry.register(_Processes(board))
        PlatformCollector(registry=self._registry)
        self._cohorts = CollectorRegistry()
        if not reference.is_empty:
            self._cohorts.register(_Cohorts(board, serving, reference))
        self._cohorts.register(_Later(board, _LATER_BY_COHORT))

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def cohorts(self) -> bytes:
        """What is judged, by cohort of callers; nothing where callers are not told apart."""
        return generate_latest(self._cohorts)


class _Inference(Collector):
    def __init__(self, board: Board, serving: Serving) -> None:
        self._board = board
        self._names = (serving.modelName, serving.modelVersion)
        self._digest = serving.digest
        self._freshness = serving.freshness

    def collect(self) -> Iterator[Metric]:
        total, label_values = self._board.total, self._names
        requests = CounterMetricFamily(
            names.Metric.REQUESTS, "Inference requests answered, by HTTP status.", labels=(*_LABELS, "code")
        )
        for code, slot in CODE_SLOTS.items():
            requests.add_metric((*label_values, str(code)), total(slot))
        yield requests
        rejected = CounterMetricFamily(
            names.Metric.REJECTED,
            "Inference requests that got no answer from the model, by why.",
            labels=(*_LABELS, "reason"),
        )
        for reason, slot in REASON_SLOTS.items():
            rejected.add_metric((*label_values, reason), total(slot))
        yield rejected
        counts = accumulate(total(slot) for slot in range(FIRST_BUCKET, WIDTH))
        bounds = [*(str(second) for second in SECONDS), "+Inf"]
        duration = HistogramMetricFamily(
            names.Metric.DURATION,
            "Seconds from the arrival of an inference request's head to its answer.",
            labels=_LABELS,
        )
        duration.add_metric(label_values, list(zip(bounds, counts, strict=True)), total(DURATION_SUM))
        yield duration
        rows = CounterMetricFamily(names.Metric.ROWS, "Rows in answered inference requests.", labels=_LABELS)
        rows.add_metric(label_values, total(ROWS))
        yield rows
        crashes = CounterMetricFamily(
            names.Metric.CRASHES,
            "Processes that ended by themselves: that of one run of the model, or a whole server's.",
            labels=(*_LABELS, "process"),
        )
        crashes.add_metric((*label_values, "run"), total(RUNS_DIED))
        crashes.add_metric((*label_values, "server"), total(DIED))
        yield crashes
        yield self._gauge(
            names.Metric.IN_FLIGHT, "Inference requests being answered now.", max(0, total(IN_FLIGHT))
        )
        yield self._gauge(
            names.Metric.LOAD_SECONDS,
            "Seconds it took to verify, load and warm up the model.",
            max(self._board.all(LOAD_SECONDS)),
        )
        if self._freshness is not None:
            yield self._gauge(
                names.Metric.DATA_AGE_LIMIT,
                "How old data may be, by spec.monitoring.freshness.",
                self._freshness.maxAgeSeconds,
            )
        info = GaugeMetricFamily(
            names.Metric.MODEL_INFO,
            "1 once the model with this digest is loaded.",
            labels=(*_LABELS, "digest"),
        )
        info.add_metric((*label_values, self._digest), max(self._board.all(LOADED)))
        yield info

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._names, value)
        return family


class _Monitoring(Collector):
    """What the profile wants counted, and the figures of the profile itself."""

    def __init__(self, board: Board, serving: Serving, reference: Reference) -> None:
        self._board = board
        self._names = (serving.modelName, serving.modelVersion)
        self._reference = reference

    def collect(self) -> Iterator[Metric]:
        counters: dict[names.Metric, CounterMetricFamily] = {}
        for slot, (metric, labels) in enumerate(self._reference.series):
            if metric not in counters:
                of = (*_LABELS, *(name for name, _ in labels))
                counters[metric] = CounterMetricFamily(metric, _HELP[metric], labels=of)
            counters[metric].add_metric(
                (*self._names, *(value for _, value in labels)), self._board.count(slot)
            )
        yield from counters.values()
        gauges: dict[names.Metric, GaugeMetricFamily] = {}
        for metric, labels, value in self._reference.gauges:
            if metric not in gauges:
                of = (*_LABELS, *(name for name, _ in labels))
                gauges[metric] = GaugeMetricFamily(metric, _HELP[metric], labels=of)
            gauges[metric].add_metric((*self._names, *(text for _, text in labels)), value)
        yield from gauges.values()
        features = GaugeMetricFamily(
            names.Metric.MONITORED_FEATURES,
            _HELP[names.Metric.MONITORED_FEATURES],
            labels=(*_LABELS, "state"),
        )
        features.add_metric((*self._names, "watched"), len(self._reference.features))
        features.add_metric((*self._names, "over_budget"), len(self._reference.left_out))
        yield features


class _Cohorts(Collector):
    """What is judged by the profile, as far as anything of it was counted of a cohort."""

    def __init__(self, board: Board, serving: Serving, reference: Reference) -> None:
        self._board = board
        self._names = (serving.modelName, serving.modelVersion)
        self._reference = reference
        self._cohorts = count_cohorts(serving, reference)

    def collect(self) -> Iterator[Metric]:
        slots = len(self._reference.series)
        families: dict[names.Metric, CounterMetricFamily] = {}
        for cohort in range(self._cohorts):
            for slot, (metric, labels) in enumerate(self._reference.series):
                by = names.BY_COHORT.get(metric)
                count = self._board.count(slots * (1 + cohort) + slot) if by is not None else 0
                if by is None or not count:
                    continue
                if by not in families:
                    of = (*_LABELS, *(name for name, _ in labels), "cohort")
                    families[by] = CounterMetricFamily(by, _HELP[by], labels=of)
                values = (value for _, value in labels)
                families[by].add_metric((*self._names, *values, f"{names.ASKED}{cohort}"), count)
        yield from families.values()


class _Later(Collector):
    """The series that a model, its profile and its feedback bring, by name."""

    def __init__(self, board: Board, help_texts: Mapping[names.Metric, str]) -> None:
        self._board = board
        self._help = help_texts

    def collect(self) -> Iterator[Metric]:
        metrics: dict[str, list[tuple[dict[str, str], float]]] = {}
        pages = [self._board.page(position) for position in range(self._board.rows)]
        for name, value in totals(pages).items():
            metric, labels = read_name(name)
            metrics.setdefault(metric, []).append((labels, value))
        for metric, help_text in self._help.items():
            if f"{metric}_bucket" in metrics:
                yield _histogram(metric, help_text, metrics)
            elif metric in metrics:
                family = CounterMetricFamily(metric, help_text, labels=list(metrics[metric][0][0]))
                for labels, value in metrics[metric]:
                    family.add_metric(list(labels.values()), value)
                yield family


def _histogram(
    metric: str, help_text: str, metrics: Mapping[str, list[tuple[dict[str, str], float]]]
) -> Metric:
    family = HistogramMetricFamily(metric, help_text, labels=_LABELS)
    for labels, total_sum in metrics[f"{metric}_sum"]:
        own = [
            (found["le"], value)
            for found, value in metrics[f"{metric}_bucket"]
            if all(found[name] == labels[name] for name in _LABELS)
        ]
        own.sort(key=lambda pair: float(pair[0]))
        counts = accumulate(value for _, value in own)
        buckets = [(bound, count) for (bound, _), count in zip(own, counts, strict=True)]
        family.add_metric([labels[name] for name in _LABELS], buckets, total_sum)
    return family


class _Processes(Collector):
    """The usual ``process_…`` series, added up over the server's processes; the oldest start counts."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        pids = {int(pid) for pid in self._board.all(PID) if pid}
        each = [
            list(ProcessCollector(pid=lambda pid=pid: pid, registry=CollectorRegistry()).collect())  # type: ignore[misc]
            for pid in sorted(pids)
        ]
        merged: dict[str, Metric] = {}
        for metric in (metric for metrics in each for metric in metrics):
            first = merged.setdefault(metric.name, metric)
            if first is metric:
                continue
            value, other = first.samples[0].value, metric.samples[0].value
            combined = min(value, other) if metric.name.endswith("start_time_seconds") else value + other
            first.samples[0] = first.samples[0]._replace(value=combined)
        yield from merged.values()
