"""``make_profile``: from training data and a model to a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from slipway.models.source import digest_of_files
from slipway.profile import (
    FEWEST_ROWS,
    Attribute,
    CategoryBins,
    Confidence,
    Feature,
    Group,
    IntervalBins,
    Prediction,
    Profile,
    ProfileError,
)
from slipway.profiling.binning import category_bins, count_in, interval_bins, range_of
from slipway.profiling.columns import Column, Table
from slipway.profiling.model_files import ModelFiles
from slipway.profiling.scoring import Answers, Place, Scorer

Array = npt.NDArray[Any]

#: Bins of a feature, and of one among more than :data:`_MANY_FEATURES`.
FEATURE_BINS, FEWER_BINS = 20, 10
_MANY_FEATURES = 50
CONFIDENCE_BINS = 10
_MOST_GROUPS = 20


class Watch(Protocol):
    """Told of how far the work is."""

    def begin(self, what: str, total: int | None) -> None: ...

    def advance(self, by: int) -> None: ...


class Unwatched:
    def begin(self, what: str, total: int | None) -> None: ...

    def advance(self, by: int) -> None: ...


def make_profile(
    data: Any,
    model: str | Path,
    *,
    labels: str | None = None,
    sensitive: Sequence[str] = (),
    ignore: Sequence[str] = (),
    holdout: Any = None,
    watch: Watch | None = None,
) -> Profile:
    """The profile of a model on the data that it was trained on.

    Args:
        data: path of a parquet or CSV file, or a frame of pandas, polars or pyarrow.
        model: path of the ONNX file; weights that it keeps elsewhere lie beside it.
        labels: column with the true answers; needed for ``holdout`` alone.
        sensitive: columns whose groups are counted; they may be inputs of the model or not.
        ignore: columns that are neither.
        holdout: data as above that the model was *not* trained on, to see how often it is right.
        watch: told of the progress.

    Raises:
        ProfileError: with what does not fit, and what to do.
    """
    watch = watch or Unwatched()
    path = Path(model)
    table, scorer = Table(data), Scorer(path)
    aside = [*([labels] if labels else []), *sensitive, *ignore]
    unknown = [name for name in aside if name not in table.names]
    if unknown:
        raise ProfileError(
            f"{table.called} has no column {unknown[0]!r}; it has {', '.join(table.names[:30])}"
        )
    left = [name for name in table.names if name not in ignore and name != labels]
    places = scorer.places(left, sensitive, table.called)
    columns, rows = _read(table, places, [*sensitive], watch)
    watch.begin("running the model", rows)
    answers = scorer.score(places, columns, rows, watch.advance)
    most = FEATURE_BINS if len(places) <= _MANY_FEATURES else FEWER_BINS
    watch.begin("weighing columns", None)
    weights = scorer.importances(places, columns, rows)
    watch.begin("counting", len(places))
    features, middles = [], {}
    for place, weight in zip(places, weights, strict=True):
        feature, middles[place.column] = _feature(place, columns[place.column], weight, most)
        features.append(feature)
        watch.advance(1)
    identity = table.identity(rows)
    held_out, held_data = (None, None)
    if holdout is not None:
        held_out, held_data = _hold_out(holdout, labels, places, scorer, watch)
    return Profile(
        modelDigest=digest_of_files(ModelFiles(path)),
        data=identity,
        holdout=held_data,
        features=tuple(features),
        predictions=tuple(_prediction(name, values) for name, values in answers.values.items()),
        confidence=_confidence(answers, held_out),
        attributes=tuple(_attribute(name, columns[_group_column(name)]) for name in sensitive),
        example=scorer.example(places, middles),
    )


def _group_column(name: str) -> str:
    return f"group:{name}"


def _read(
    table: Table, places: Sequence[Place], groups: Sequence[str], watch: Watch
) -> tuple[dict[str, Column], int]:
    watch.begin("reading", table.row_count)
    columns = table.read([(place.column, place.input.dtype) for place in places], watch.advance)
    if groups:
        # Once more, since a column may be a number to the model and a group to people.
        texts = table.read([(name, None) for name in groups], lambda _: None)
        columns.update({_group_column(name): column for name, column in texts.items()})
    return columns, len(columns[places[0].column].values)


def _feature(place: Place, column: Column, weight: float, most: int) -> tuple[Feature, Any]:
    """The feature, and its middle value."""
    bins: IntervalBins | CategoryBins
    if column.is_text:
        counts = {
            str(each["values"]): int(each["counts"])
            for each in pc.value_counts(column.values.fill_null("")).to_pylist()
        }
        missing = counts.pop("", 0)
        bins, span = category_bins(counts), None  # type: ignore[arg-type]
        middle: Any = bins.categories[0] if bins.categories else ""
    else:
        values = np.asarray(column.values)
        there = ~np.isnan(values) if values.dtype.kind == "f" else column.valid
        values = values if there is None or there.all() else values[there]
        missing = len(column.values) - len(values)
        numbers = values.astype(np.uint8) if values.dtype.kind == "b" else values
        bins, span = interval_bins(numbers, most), range_of(numbers)
        finite = numbers[np.isfinite(numbers)]
        # The lower of the two in the middle: a value that the column really holds.
        middle = np.partition(finite, (len(finite) - 1) // 2)[(len(finite) - 1) // 2] if len(finite) else 0
    feature = Feature(
        name=place.column,
        tensor=place.input.name,
        column=place.position,
        datatype=place.input.datatype,
        missing=missing,
        importance=weight,
        bins=bins,
        range=span,
    )
    return feature, middle


def _prediction(name: str, values: Array) -> Prediction:
    if values.dtype.kind == "f":
        return Prediction(output=name, bins=interval_bins(values[~np.isnan(values)], FEATURE_BINS))
    found, counts = np.unique(values.astype(str) if values.dtype.hasobject else values, return_counts=True)
    classes = {
        (str(value) if values.dtype.hasobject else int(value)): int(count)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True)
    }
    return Prediction(output=name, bins=category_bins(classes))


def _confidence(answers: Answers, held_out: tuple[Array, Array] | None) -> Confidence | None:
    if not answers.confidence:
        return None
    name, values = next(iter(answers.confidence.items()))
    bins = interval_bins(values[~np.isnan(values)], CONFIDENCE_BINS)
    if held_out is None:
        return Confidence(output=name, bins=bins)
    sure, right = held_out
    return Confidence(output=name, bins=bins, rows=count_in(bins, sure), correct=count_in(bins, sure, right))


def _hold_out(data: Any, labels: str | None, places: Sequence[Place], scorer: Scorer, watch: Watch) -> Any:
    """Confidence and whether the class was right, for each held-out row; and which data that was."""
    table = Table(data)
    if labels is None:
        raise ProfileError("held-out data needs labels to compare with: name their column with --labels")
    columns, rows = _read(table, places, [labels], watch)
    watch.begin("running the model on held-out rows", rows)
    answers = scorer.score(places, columns, rows, watch.advance)
    classes = [values for values in answers.values.values() if values.dtype.kind != "f"]
    if not answers.confidence or not classes:
        raise ProfileError(
            "held-out accuracy needs a model that gives a class and the probabilities of all classes: "
            "leave --holdout out for this one"
        )
    confidence = next(iter(answers.confidence.values()))
    truth = columns[_group_column(labels)].values.fill_null("").to_pylist()
    right = np.array([_same(one, other) for one, other in zip(classes[0].tolist(), truth, strict=True)], bool)
    return (confidence, right), table.identity(rows)


def _same(predicted: Any, label: str) -> bool:
    """Whether a class is what the label says, which may be written as ``1``, ``1.0`` or ``true``."""
    if str(predicted) == label:
        return True
    if isinstance(predicted, str):
        return False
    if label in ("true", "false"):
        return bool(predicted) == (label == "true")
    try:
        return float(label) == float(predicted)
    except ValueError:
        return False


def _attribute(name: str, column: Column) -> Attribute:
    counted = {
        str(each["values"]): int(each["counts"])
        for each in pc.value_counts(column.values.fill_null("")).to_pylist()
    }
    counted.pop("", None)
    shown = {group: rows for group, rows in counted.items() if rows >= FEWEST_ROWS}
    if len(shown) > _MOST_GROUPS:
        raise ProfileError(
            f"the sensitive column {name!r} has {len(shown)} groups, more than {_MOST_GROUPS}: "
            "put its values into fewer groups first"
        )
    groups = tuple(Group(name=group, rows=rows) for group, rows in sorted(shown.items()))
    return Attribute(name=name, groups=groups, suppressed=sum(counted.values()) - sum(shown.values()))
