"""``convert``: from a model and rows to ONNX, with the proof that it answers as the original."""

from __future__ import annotations

import getpass
import hashlib
import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from threadpoolctl import threadpool_limits

from slipway.conversion import TOLD, Compared, Conversion, Rows
from slipway.convert.answers import Answers, Differences, differences
from slipway.convert.edges import edges
from slipway.convert.errors import ConvertError, DifferentError
from slipway.convert.layout import Layout, layout_of
from slipway.convert.networks import Network
from slipway.convert.onnx_models import Converted, with_outputs
from slipway.convert.originals import Original, versions
from slipway.convert.outputs import meanings, meanings_in_network, with_names
from slipway.convert.scikit import to_onnx
from slipway.names import PROOF_FILE

#: Largest difference that is allowed unless another is given.
TOLERANCE = 1e-4
#: Rows of a network that are answered one by one.
_ALONE = 5
_KINDS = {
    Rows.DATA: "of the data",
    Rows.THRESHOLDS: "at thresholds",
    Rows.MISSING: "with a missing value",
    Rows.UNKNOWN: "with an unknown category",
    Rows.OUTSIDE: "outside the data's range",
    Rows.EXTREMES: "with an extreme value",
}


@dataclass(frozen=True)
class Result:
    """A converted model and its proof."""

    model: onnx.ModelProto
    proof: Conversion
    layout: Layout

    def write(self, path: Path) -> None:
        """The model as a file, and the proof next to it. Raises ``OSError``."""
        path.write_bytes(self.model.SerializeToString())
        path.with_name(PROOF_FILE).write_bytes(self.proof.text())


def convert(
    original: Original,
    frame: pd.DataFrame,
    *,
    data_digest: str | None = None,
    tolerance: float = TOLERANCE,
    accept: Collection[Rows] = (),
    double: bool | None = None,
    strict: bool = False,
    keep_output_names: bool = False,
) -> Result:
    """Convert a model and compare it with the original.

    Args:
        original: the model.
        frame: rows to compare on, with the columns that the model takes and no others.
        data_digest: of the file that they are from.
        tolerance: largest difference of probabilities, and relative difference of values above 1.
        accept: edges at which differences are written down, but not refused.
        double: whether the model takes real numbers of 64 bits, or of 32; None: of 32 where it answers as
            the original then, and of 64 where it does not.
        strict: refuse differences at extremes, too.
        keep_output_names: leave the outputs the names that the converter or exporter gives.

    Raises:
        DifferentError: where the answers differ by more than the tolerance.
        ConvertError: where the model has no ONNX, or does not take the rows.
    """
    if not len(frame):
        raise ConvertError("the data has no rows: give rows to compare on")
    names = original.columns([str(name) for name in frame.columns])
    frame = frame.rename(columns=str)[names].reset_index(drop=True)
    allowed = {*accept} if strict else {*accept, *TOLD}
    renames = not keep_output_names

    if isinstance(original, Network):
        layout = _layout_of_network(original, names, double)
        with threadpool_limits(1):
            return _convert(original, frame, layout, data_digest, tolerance, allowed, renames)

    # Many small batches gain nothing from threads.
    with threadpool_limits(1):

        def attempt(double: bool) -> Result:
            layout = layout_of(frame, names, by_name=original.by_name, double=double)
            return _convert(original, frame, layout, data_digest, tolerance, allowed, renames)

        return attempt(double) if double is not None else _with_enough_bits(attempt)


def _with_enough_bits(attempt: Callable[[bool], Result]) -> Result:
    """With numbers of 32 bits where the model answers as the original then, and of 64 where it does not."""
    try:
        return attempt(False)
    except DifferentError as error:
        different = error
    try:
        made = attempt(True)
    except DifferentError:
        raise DifferentError(f"{different}. Numbers of 64 bits do not help", different.compared) from None
    except ConvertError as error:
        raise DifferentError(f"{different}. It cannot take 64 bits: {error}", different.compared) from None
    if not made.layout.is_double:
        raise different
    return replace(made, proof=made.proof.model_copy(update={"compared32": different.compared}))


def _layout_of_network(original: Network, names: Sequence[str], double: bool | None) -> Layout:
    layout = original.layout(names)
    if double is not None and double != layout.is_double:
        has, wanted = ("64", "float") if layout.is_double else ("32", "double")
        raise ConvertError(
            f"the network takes numbers of {has} bits, as it was exported: call .{wanted}() before that, or "
            "leave out --float64 and --no-float64"
        )
    return layout


def _convert(
    original: Original,
    frame: pd.DataFrame,
    layout: Layout,
    data_digest: str | None,
    tolerance: float,
    allowed: Collection[Rows],
    renames: bool,
) -> Result:
    like = _answers(original, frame)
    if isinstance(original, Network):
        model, given = original.exported(), original.outputs
        meant = meanings_in_network(model, like)
    else:
        model, given = to_onnx(original, layout, frame), ()
        meant = meanings(like)
        model = with_outputs(model, len(meant))
    if renames:
        model = with_names(model, meant, given)
    converted = Converted(model, layout, has_labels=like.labels is not None)
    if isinstance(original, Network):
        _check_alone(original, converted, frame, like, tolerance)
    compared = _compare(original, converted, frame, layout, tolerance)
    refused = {kind for kind, found in compared.items() if found.beyond} - {*allowed}
    if refused:
        raise DifferentError(_difference(compared, refused, tolerance), compared)
    proof = Conversion(
        by=user(),
        at=datetime.now(UTC).replace(microsecond=0),
        original=original.source,
        modelDigest=f"sha256:{hashlib.sha256(model.SerializeToString()).hexdigest()}",
        dataDigest=data_digest or _digest(frame),
        versions={"python": platform.python_version(), **versions()},
        tolerance=tolerance,
        accepted=tuple(kind for kind in Rows if kind in allowed),
        compared=compared,
        float64=layout.is_double,
    )
    return Result(model, proof, layout)


def _check_alone(
    original: Network, converted: Converted, frame: pd.DataFrame, like: Answers, tolerance: float
) -> None:
    """That a row is answered as among others: clients send one alone, and exporters take 1 for a constant."""
    few = frame.iloc[:_ALONE]
    among = converted.answers(few, like.rows(0, len(few)))
    for at in range(len(few)):
        row, expected = frame.iloc[at : at + 1], like.rows(at, at + 1)
        if differences(expected, original.answers(row), tolerance).beyond.any():
            raise ConvertError(
                "the original answers a row otherwise when it comes again, without the others: call eval() "
                "before it is exported or saved, so that neither dropout nor the other rows of a batch count"
            )
        if differences(among.rows(at, at + 1), converted.answers(row, expected), tolerance).beyond.any():
            raise ConvertError(
                "the converted model answers one row alone otherwise than among others: the exporter took a "
                "number of rows for a constant; export the original for any number of them"
            )


def summary(proof: Conversion) -> list[str]:
    """A line for each kind of rows, and what a client has to know."""
    lines = [
        _line(kind, found) + (" (no refusal)" if found.beyond and kind in proof.accepted else "")
        for kind, found in proof.compared.items()
    ]
    if proof.compared32 is not None:
        beyond = [
            f"{found.beyond} of {_line(kind, found)}"
            for kind, found in proof.compared32.items()
            if found.beyond
        ]
        lines.append(f"the model takes numbers of 64 bits (FP64), because with 32, {'; '.join(beyond)}")
    return lines


def _line(kind: Rows, found: Compared) -> str:
    share = found.labelsDiffer / found.rows if found.rows else 0.0
    largest = "not a number" if found.largestDifference is None else f"{found.largestDifference:.2g}"
    refused = f"; {found.refused} more are refused by the original" if found.refused else ""
    return (
        f"{found.rows} rows {_KINDS[kind]}: {share:.3%} of the labels differ, "
        f"the largest difference is {largest}{refused}"
    )


def _answers(original: Original, frame: pd.DataFrame) -> Answers:
    try:
        return original.answers(frame)
    except ConvertError:
        raise
    except Exception as error:
        raise ConvertError(
            f"the original refuses the data ({type(error).__name__}: {str(error)[:300]}): give rows as it "
            "was trained on"
        ) from None


def _compare(
    original: Original, converted: Converted, frame: pd.DataFrame, layout: Layout, tolerance: float
) -> dict[Rows, Compared]:
    found: dict[Rows, list[Differences]] = {}
    refused: dict[Rows, int] = {}

    def compare(kind: Rows, rows: pd.DataFrame) -> None:
        like = original.answers(rows)
        found.setdefault(kind, []).append(differences(like, converted.answers(rows, like), tolerance))

    compare(Rows.DATA, frame)
    for kind, rows in edges(original, frame, layout):
        if not len(rows):
            continue
        try:
            compare(kind, rows)
        except ConvertError:
            raise
        except Exception:
            # Whatever a model raises says that it does not take such rows.
            refused[kind] = refused.get(kind, 0) + len(rows)
    return {
        kind: _together(found.get(kind, [])).summed_up(refused.get(kind, 0))
        for kind in Rows
        if kind in found or kind in refused
    }


def _together(each: Sequence[Differences]) -> Differences:
    if not each:
        return Differences(np.zeros(0, bool), np.zeros(0), np.zeros(0, bool))
    return Differences(
        np.concatenate([one.labels for one in each]),
        np.concatenate([one.numbers for one in each]),
        np.concatenate([one.beyond for one in each]),
    )


def _difference(compared: dict[Rows, Compared], refused: set[Rows], tolerance: float) -> str:
    lines = [f"{found.beyond} of {_line(kind, found)}" for kind, found in compared.items() if kind in refused]
    advice = [f"raise --tolerance, which is {tolerance:g}"]
    at_edges = sorted(refused - {Rows.DATA})
    if at_edges and Rows.DATA not in refused:
        advice.append(f"if no such row comes, accept the difference (--accept {' '.join(at_edges)})")
    return (
        "the converted model answers otherwise than the original by more than the tolerance: "
        + "; ".join(lines)
        + ". "
        + ", or ".join(advice).capitalize()
    )


def _digest(frame: pd.DataFrame) -> str:
    hashed = hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return f"sha256:{hashed.hexdigest()}"


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
