"""From a model server's series to what is judged.

A series is its metric's name and its labels. Counts are of one window and one version of a model, added up
over its pods; gauges, which say what the reference was, are the same on every pod.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from slipway.bins import MISSING, OTHER
from slipway.core.monitoring.drift import ReferenceBins
from slipway.core.monitoring.fairness import Attribute, GroupCounts
from slipway.core.monitoring.performance import Feedback
from slipway.core.monitoring.quality import FeatureQuality
from slipway.names import BY_COHORT, Metric

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
Values = Mapping[Series, float]
#: By version of a model.
ByVersion = Mapping[str, Values]

FAVORABLE = "favorable"
#: Why a model server refuses what the tensors or the rules of its inputs do not allow.
_REFUSED = "schema"
#: Labels that tell where a series comes from, not what it counts.
_AGES = f"{Metric.DATA_AGE}_bucket"
_OF_ALL = {str(by): str(metric) for metric, by in BY_COHORT.items()}
_ORIGINS = frozenset({"model", "model_version", "namespace", "pod"})


def series(metric: str, labels: Mapping[str, str]) -> Series:
    """The key of a series; labels that only say where it comes from are left out."""
    return metric, tuple(sorted(label for label in labels.items() if label[0] not in _ORIGINS))


def add_up(samples: Iterable[tuple[str, Mapping[str, str], float]]) -> Values:
    """One pod's samples by series; of several with the same key the sum."""
    total: dict[Series, float] = defaultdict(float)
    for metric, labels, value in samples:
        total[series(metric, labels)] += value
    return dict(total)


def of_all_versions(counts: ByVersion) -> Values:
    """Counts of every version together."""
    total: dict[Series, float] = defaultdict(float)
    for values in counts.values():
        for name, value in values.items():
            total[name] += value
    return dict(total)


def feature_windows(counts: Values) -> dict[str, dict[str, float]]:
    """Counts of each feature by bin, without what lies in none."""
    return {
        feature: {bin_: count for bin_, count in values.items() if bin_ not in (MISSING, OTHER)}
        for feature, values in _by_feature(counts).items()
    }


def references(gauges: Values) -> dict[str, ReferenceBins]:
    """What each feature's window is compared with; features whose rows are not told are left out."""
    rows = {labels["feature"]: value for labels, value in _of(gauges, Metric.FEATURE_REFERENCE_ROWS)}
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, value in _of(gauges, Metric.FEATURE_REFERENCE_RATIO):
        if labels["bin"] not in (MISSING, OTHER):
            shares[labels["feature"]][labels["bin"]] = value
    return {
        feature: ReferenceBins(found, rows[feature]) for feature, found in shares.items() if feature in rows
    }


def feature_quality(counts: Values, gauges: Values) -> tuple[FeatureQuality, ...]:
    """What arrived of each feature, in the order of their names."""
    values = _by_feature(counts)
    violations: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, count in _of(counts, Metric.VIOLATIONS):
        violations[labels["feature"]][labels["rule"]] = count
    usual = {
        labels["feature"]: value
        for labels, value in _of(gauges, Metric.FEATURE_REFERENCE_RATIO)
        if labels["bin"] == OTHER
    }
    return tuple(
        FeatureQuality(
            feature,
            sum(values[feature].values()),
            values[feature].get(MISSING, 0.0),
            values[feature].get(OTHER, 0.0),
            usual.get(feature, 0.0),
            violations.get(feature, {}),
        )
        for feature in sorted(values)
    )


def feedback(counts: Values) -> Feedback:
    """The labels that came in the window, and the rows that were predicted in it."""
    confusion: dict[tuple[str, str], float] = {}
    for labels, count in _of(counts, Metric.FEEDBACK_LABELS):
        outcome, label = labels["outcome"], labels["label"]
        if outcome == label and labels.get("correct") == "false":
            # Two classes that both go by the name of what is not known are two.
            label = f"another {label}"
        confusion[outcome, label] = count
    delays = {float(labels["le"]): count for labels, count in _of(counts, f"{Metric.FEEDBACK_DELAY}_bucket")}
    return Feedback(confusion, sum(count for _, count in _of(counts, Metric.ROWS)), delays)


def data_ages(counts: Values) -> dict[float, float]:
    """Rows by the age of their data: upper bound in seconds → count up to it; the last is infinite."""
    return {float(labels["le"]): count for labels, count in _of(counts, f"{Metric.DATA_AGE}_bucket")}


def data_age_limit(gauges: Values) -> float | None:
    """Seconds; one of the bounds of :func:`data_ages`. None where no age is counted."""
    return next((value for _, value in _of(gauges, Metric.DATA_AGE_LIMIT)), None)


def requests(counts: Values) -> float:
    """Inference requests that were answered, whatever with."""
    return sum(count for _, count in _of(counts, Metric.REQUESTS))


def errors(counts: Values) -> float:
    """Of these, those that were the server's fault: 5xx, and 422 for rows that the model fails on."""
    return sum(
        count
        for labels, count in _of(counts, Metric.REQUESTS)
        if labels["code"] == "422" or labels["code"] >= "500"
    )


def slower(counts: Values, seconds: str) -> float:
    """Requests that took longer than a bound of the histogram, as Prometheus writes it."""
    buckets = {labels["le"]: count for labels, count in _of(counts, f"{Metric.DURATION}_bucket")}
    return buckets.get("+Inf", 0.0) - buckets.get(seconds, 0.0)


def violations(counts: Values) -> float:
    """Inference requests that broke the input contract: refused for it, or answered and reported."""
    refused = (count for labels, count in _of(counts, Metric.REJECTED) if labels["reason"] == _REFUSED)
    return sum(refused) + sum(count for _, count in _of(counts, Metric.REPORTED))


def of_all(counts: Values) -> Values:
    """Without what is counted once more by cohort."""
    return {one: count for one, count in counts.items() if one[0] not in _OF_ALL}


def by_cohort(counts: Values) -> dict[str, Values]:
    """What is judged once more for each cohort of callers, under the names of what all of them counted."""
    found: dict[str, dict[Series, float]] = defaultdict(dict)
    for (metric, labels), count in counts.items():
        plain = _OF_ALL.get(metric)
        if plain is not None:
            cohort = next((value for name, value in labels if name == "cohort"), "")
            found[cohort][plain, tuple(label for label in labels if label[0] != "cohort")] = count
    buckets = {float(dict(labels)["le"]): (metric, labels) for metric, labels in counts if metric == _AGES}
    for values in found.values():
        _add_up_ages(values, buckets)
    return dict(found)


def _add_up_ages(values: dict[Series, float], buckets: Mapping[float, Series]) -> None:
    """From rows in each bucket to rows up to it, as histograms have them."""
    single = {float(dict(one[1])["le"]): values.pop(one) for one in list(values) if one[0] == _AGES}
    total = 0.0
    for bound in sorted(buckets) if single else ():
        total += single.get(bound, 0.0)
        values[buckets[bound]] = total


def predictions(counts: Values) -> dict[str, dict[str, float]]:
    """Answers of each output by bin, those that are missing or in no other bin included."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, count in _of(counts, Metric.PREDICTION_VALUES):
        found[labels["output"]][labels["bin"]] = count
    return dict(found)


def confidences(counts: Values) -> dict[str, float]:
    """Rows by bin of the likeliest class's probability."""
    return {labels["bin"]: count for labels, count in _of(counts, Metric.CONFIDENCE)}


def held_out_accuracy(gauges: Values) -> dict[str, float]:
    """Share of held-out rows that were right, by the same bins."""
    return {labels["bin"]: value for labels, value in _of(gauges, Metric.REFERENCE_ACCURACY)}


def attribute(counts: Values, name: str, reference: str, groups: Iterable[str]) -> Attribute:
    """What each declared group of a sensitive attribute got; one that nobody belonged to got nothing."""
    outcomes: dict[str, dict[bool, float]] = defaultdict(dict)
    for labels, count in _of(counts, Metric.GROUP_PREDICTIONS):
        if labels["attribute"] == name:
            outcomes[labels["group"]][labels["outcome"] == FAVORABLE] = count
    labelled: dict[str, dict[tuple[bool, bool], float]] = defaultdict(dict)
    for labels, count in _of(counts, Metric.GROUP_FEEDBACK):
        if labels["attribute"] == name:
            pair = (labels["outcome"] == FAVORABLE, labels["label"] == FAVORABLE)
            labelled[labels["group"]][pair] = count
    found = {
        group: GroupCounts(
            outcomes[group].get(True, 0.0), outcomes[group].get(False, 0.0), dict(labelled[group])
        )
        for group in groups
    }
    return Attribute(name, reference, found)


def _by_feature(counts: Values) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, count in _of(counts, Metric.FEATURE_VALUES):
        found[labels["feature"]][labels["bin"]] = count
    return found


def _of(values: Values, metric: str) -> Iterator[tuple[dict[str, str], float]]:
    return ((dict(labels), value) for (name, labels), value in values.items() if name == metric)
