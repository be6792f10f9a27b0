"""The converted model, as onnxruntime runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd

from slipway.convert.answers import Answers, answers_of
from slipway.convert.errors import ConvertError
from slipway.convert.layout import Layout

_BATCH_ROWS = 8192


class Converted:
    """Runs the model on one CPU, as the server does."""

    def __init__(self, model: onnx.ModelProto, layout: Layout, *, has_labels: bool) -> None:
        """Raises :class:`ConvertError` where onnxruntime refuses the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ConvertError(f"onnxruntime refuses the converted model: {_first_line(error)}") from None
        self._layout, self._has_labels = layout, has_labels

    def answers(self, frame: pd.DataFrame, like: Answers) -> Answers:
        """Of rows to which the original answers ``like`` that."""
        found = [self._batch(frame.iloc[at : at + _BATCH_ROWS]) for at in range(0, len(frame), _BATCH_ROWS)]
        outputs = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        if self._layout.inputs:
            return _as(like, answers_of(outputs, len(frame)))
        labels = outputs[0].reshape(-1) if self._has_labels else None
        numbers = outputs[-1].reshape(len(frame), -1) if like.numbers is not None else None
        if numbers is not None and like.numbers is not None:
            numbers = _in_shape(numbers, like.numbers.shape[1])
        return Answers(labels, numbers, like.are_probabilities)

    def _batch(self, frame: pd.DataFrame) -> list[Any]:
        try:
            return [np.asarray(output) for output in self._session.run(None, self._layout.tensors(frame))]
        except Exception as error:
            raise ConvertError(
                f"the converted model refuses rows that the original takes: {_first_line(error)}"
            ) from None


def _as(like: Answers, found: Answers) -> Answers:
    widths = [None if each.numbers is None else each.numbers.shape[1] for each in (like, found)]
    if widths[0] != widths[1] or (like.labels is None) != (found.labels is None):
        raise ConvertError(
            f"the converted model gives {widths[1] or 'no'} numbers a row, and the original "
            f"{widths[0] or 'none'}: they cannot be compared"
        )
    return found


def _in_shape(numbers: Any, columns: int) -> Any:
    # Of two classes, scikit-learn gives the score of the second alone.
    if columns == 1 and numbers.shape[1] == 2:
        return numbers[:, 1:]
    if numbers.shape[1] != columns:
        raise ConvertError(
            f"the converted model gives {numbers.shape[1]} numbers a row, and the original {columns}: they "
            "cannot be compared"
        )
    return numbers


def with_outputs(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The model with its first outputs alone: what is not compared is not served."""
    del model.graph.output[count:]
    return model


def session(model: onnx.ModelProto) -> Any:
    """A model on one CPU, with the operators of onnxruntime-extensions. Raises :class:`ConvertError`."""
    from onnxruntime_extensions import get_library_path

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.register_custom_ops_library(get_library_path())
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConvertError(f"onnxruntime refuses the model: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
