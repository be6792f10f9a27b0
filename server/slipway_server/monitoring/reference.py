"""The profile beside the model as the server reads it, and which series are made of it.

Plain Python: the first of several processes reads it too, and has neither numpy nor pydantic. The documents
are :class:`slipway.profile.Profile`, which ``slipway-model fetch`` has checked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from slipway.bins import MISSING, OTHER, category_names, interval_names
from slipway.names import LARGEST_PROFILE, PROFILE_FILE, Metric
from slipway_server.settings import InputColumn, Serving

log = logging.getLogger(__name__)

#: The version of the documents that is read.
_SCHEMA = 1
#: Added to each count of the reference, so that no bin's share is 0.
_PSEUDO_COUNT = 0.5
#: Columns by which rows are compared with earlier ones.
_MOST_SCALES = 256
_LEAST_DEVIATION = 1e-30
#: Why rows are missing from a count.
DROPPED = ("output_not_requested", "not_a_number", "failed")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bins:
    """Where values are counted: a slot for each name from ``first`` on, in the order bins, other, missing."""

    first: int
    names: tuple[str, ...]
    edges: tuple[float, ...] | None
    categories: tuple[str | int, ...]

    @property
    def slots(self) -> range:
        return range(self.first, self.first + len(self.names))

    def slot(self, name: str) -> int | None:
        return self.first + self.names.index(name) if name in self.names else None


@dataclass(frozen=True, slots=True)
class Watched:
    """A feature or an output, whose values are counted. ``column`` is the feature's place in a row."""

    name: str
    tensor: str
    column: int
    datatype: str
    bins: Bins


@dataclass(frozen=True, slots=True)
class Rules:
    """What a column may hold, and the slot of each rule that it has."""

    column: InputColumn
    slots: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a column of numbers is spread over the training data."""

    tensor: str
    column: int
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Reference:
    """All that is watched of one model.

    Attributes:
        series: a counter for each slot, in order: the metric and its labels beyond the model's.
        gauges: figures of the reference itself.
        left_out: features beyond the budget.
        rules: of columns; ``reject`` says whether a request that breaks one is refused, and ``reported`` is
            the slot of those that are answered all the same.
        example: a recorded row and its answer, as documents.
        scales: of columns of numbers, where suspect inputs are counted.
    """

    features: tuple[Watched, ...] = ()
    predictions: tuple[Watched, ...] = ()
    confidence: Watched | None = None
    dropped: int = 0
    series: tuple[tuple[Metric, Labels], ...] = ()
    gauges: tuple[tuple[Metric, Labels, float], ...] = ()
    left_out: tuple[str, ...] = ()
    rules: tuple[Rules, ...] = ()
    reject: bool = False
    reported: int = 0
    example: Mapping[str, Any] | None = None
    scales: tuple[Scale, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.series


def read_reference(directory: Path, config: Serving) -> Reference:
    """What to watch by the profile in a model's directory and by the configuration.

    Without a profile, or with one that cannot be used, which is logged, that is what the configuration says.
    """
    path = directory / PROFILE_FILE
    try:
        if path.stat().st_size > LARGEST_PROFILE:
            raise ValueError(f"it has more than {LARGEST_PROFILE} bytes")
        document = orjson.loads(path.read_bytes())
        if document["schemaVersion"] != _SCHEMA:
            raise ValueError(
                f"it has schema version {document['schemaVersion']}, and this server reads {_SCHEMA}"
            )
        if document["modelDigest"] != config.digest:
            raise ValueError(
                f"it was made for the model {document['modelDigest']}, and this is {config.digest}"
            )
        found = _Plan(config).reference(document)
        return replace(found, scales=_scales(document)) if config.suspectInputs else found
    except FileNotFoundError:
        return _Plan(config).reference(None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the profile is not used", extra={"file": PROFILE_FILE, "error": f"{error}"[:300]})
        return _Plan(config).reference(None)


def _scales(document: Mapping[str, Any]) -> tuple[Scale, ...]:
    """Of the most important columns that are not the same in all rows."""
    ranked = sorted(document["features"], key=lambda each: (-each["importance"], each["name"]))
    spans = ((each, each.get("range")) for each in ranked)
    return tuple(
        Scale(each["tensor"], each["column"], span["mean"], span["deviation"])
        for each, span in spans
        if span is not None and span["deviation"] > _LEAST_DEVIATION
    )[:_MOST_SCALES]


class _Plan:
    """Gives each count its slot."""

    def __init__(self, config: Serving) -> None:
        self._most = config.monitoredFeatures
        self._inputs = config.inputs
        self._series: list[tuple[Metric, Labels]] = []
        self._gauges: list[tuple[Metric, Labels, float]] = []

    def reference(self, document: Mapping[str, Any] | None) -> Reference:
        if document is None:
            document = {"features": (), "predictions": ()}
        ranked = sorted(document["features"], key=lambda each: (-each["importance"], each["name"]))
        kept = {each["name"] for each in ranked[: self._most]}
        features = [each for each in document["features"] if each["name"] in kept]
        columns = [_usual(each) for each in features] if self._inputs is None else self._inputs.columns
        rules = tuple(self._rules(column) for column in columns)
        if not features and not rules:
            return Reference(example=document.get("example"))
        watched = tuple(self._feature(each) for each in features)
        outputs = document["predictions"] if features else ()
        predictions = tuple(
            self._output(each, Metric.PREDICTION_VALUES, (("output", each["output"]),), with_missing=True)
            for each in outputs
        )
        confidence = document.get("confidence") if features else None
        sure = (
            None
            if confidence is None
            else self._output(confidence, Metric.CONFIDENCE, (), with_missing=False)
        )
        if confidence is not None and sure is not None:
            for name, rows, right in zip(
                sure.bins.names, confidence["rows"], confidence["correct"], strict=False
            ):
                if rows:
                    self._gauges.append((Metric.REFERENCE_ACCURACY, (("bin", name),), right / rows))
        reported = len(self._series)
        if rules:
            self._series.append((Metric.REPORTED, ()))
        dropped = len(self._series)
        self._series += [(Metric.MONITORING_DROPPED, (("reason", reason),)) for reason in DROPPED]
        return Reference(
            features=watched,
            predictions=predictions,
            confidence=sure,
            dropped=dropped,
            series=tuple(self._series),
            gauges=tuple(self._gauges),
            left_out=tuple(each["name"] for each in ranked[self._most :]),
            rules=rules,
            reject=self._inputs is not None and self._inputs.onViolation == "Reject",
            reported=reported,
            example=document.get("example"),
        )

    def _rules(self, column: InputColumn) -> Rules:
        slots: dict[str, int] = {}
        for rule, there in (
            ("missing", not column.nullable),
            ("range", column.minimum is not None or column.maximum is not None),
            ("integer", column.type == "Integer"),
            ("enum", bool(column.enum)),
        ):
            if there:
                series = (Metric.VIOLATIONS, (("feature", column.name), ("rule", rule)))
                # Two inputs may have a column of the same name, which then count as one.
                if series not in self._series:
                    self._series.append(series)
                slots[rule] = self._series.index(series)
        return Rules(column, slots)

    def _feature(self, feature: Mapping[str, Any]) -> Watched:
        bins = feature["bins"]
        labels = (("feature", feature["name"]),)
        made = self._bins(bins, Metric.FEATURE_VALUES, labels, with_missing=True)
        self._gauges += [
            (Metric.FEATURE_REFERENCE_RATIO, (*labels, ("bin", name)), share)
            for name, share in _shares(feature, made.names)
        ]
        self._gauges.append((Metric.FEATURE_REFERENCE_ROWS, labels, float(sum(bins["counts"]))))
        return Watched(feature["name"], feature["tensor"], feature["column"], feature["datatype"], made)

    def _output(
        self, output: Mapping[str, Any], metric: Metric, labels: Labels, with_missing: bool
    ) -> Watched:
        name = output["output"]
        return Watched(name, name, 0, "", self._bins(output["bins"], metric, labels, with_missing))

    def _bins(self, bins: Mapping[str, Any], metric: Metric, labels: Labels, with_missing: bool) -> Bins:
        first = len(self._series)
        if bins["kind"] == "Intervals":
            edges, categories = tuple(bins["edges"]), ()
            names = interval_names(edges)
        else:
            edges, categories = None, tuple(bins["categories"])
            names = (*category_names(categories), OTHER)
        if with_missing:
            names = (*names, MISSING)
        self._series += [(metric, (*labels, ("bin", name))) for name in names]
        return Bins(first, names, edges, categories)


def _usual(feature: Mapping[str, Any]) -> InputColumn:
    """What the profile has seen of a column, as rules. Unknown categories have a bin of their own."""
    span = feature.get("range") or {}
    kind = "String" if feature["datatype"] == "BYTES" else "Integer" if span.get("integral") else "Number"
    return InputColumn(
        feature["name"],
        feature["tensor"],
        feature["column"],
        kind,
        span.get("minimum"),
        span.get("maximum"),
        nullable=feature["missing"] > 0,
    )


def _shares(feature: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Each bin's share of the values in bins, never 0; for other and missing values, their share of all."""
    bins = feature["bins"]
    counts, other, missing = bins["counts"], bins.get("other", 0), feature["missing"]
    inside = sum(counts)
    for name, count in zip(names, counts, strict=False):
        yield name, (count + _PSEUDO_COUNT) / (inside + _PSEUDO_COUNT * len(counts))
    rows = inside + other + missing
    if OTHER in names[len(counts) :]:
        yield OTHER, other / rows
    yield MISSING, missing / rows
