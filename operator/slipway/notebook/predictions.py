"""What a model answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slipway.notebook.errors import PredictionError
from slipway.notebook.tables import Array

_TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


@dataclass(frozen=True)
class Predictions:
    """Answers to the rows of a table, in their order; shown as a table.

    Attributes:
        outputs: arrays by the names of the model's outputs; the first axis is the rows.
        columns: names of the values of a row, of outputs whose labels the model knows.
        tokens: one for each row, for :meth:`slipway.notebook.handle.Model.feedback`; none unless
            ``spec.monitoring.performance.feedback`` is set.
        version: of the model that answered; the last, where a rollout went on meanwhile.
        index: of the frame that was given, or None.
    """

    outputs: Mapping[str, Array]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    version: str = ""
    index: Any = None

    def __getitem__(self, output: str) -> Array:
        return self.outputs[output]

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values()), ()))

    @property
    def frame(self) -> Any:
        """A pandas DataFrame with one column for each value of a row.

        Raises:
            ModuleNotFoundError: where pandas is not installed.
        """
        import pandas as pd

        found: dict[str, Array] = {}
        for name, values in self.outputs.items():
            flat = values.reshape(len(values), -1)
            if flat.shape[1] == 1 and name not in self.columns:
                found[name] = flat[:, 0]
                continue
            parts = self.columns.get(name, tuple(str(place) for place in range(flat.shape[1])))
            found |= {f"{name}[{part}]": flat[:, place] for place, part in enumerate(parts)}
        return pd.DataFrame(found, index=self.index)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}{list(values.shape)}" for name, values in self.outputs.items())
        return f"Predictions of version {self.version}: {shapes}"

    def _repr_html_(self) -> str | None:
        try:
            frame = self.frame
        except ModuleNotFoundError:
            return None
        return str(frame.to_html(max_rows=10, notebook=True))


def predictions_of(answers: Sequence[Mapping[str, Any]], index: Any = None) -> Predictions:
    """Answers to requests one after the other, as if they were one.

    Raises:
        PredictionError: where an answer is not as the protocol has it.
    """
    parts: dict[str, list[Array]] = {}
    columns: dict[str, tuple[str, ...]] = {}
    tokens: list[str] = []
    try:
        for answer in answers:
            for output in answer["outputs"]:
                parts.setdefault(output["name"], []).append(_array(output))
                if labels := (output.get("parameters") or {}).get("labels"):
                    columns[output["name"]] = tuple(str(label) for label in _listed(labels))
            tokens += str((answer.get("parameters") or {}).get("feedback_token", "")).split()
        outputs = {name: np.concatenate(found) for name, found in parts.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionError(f"the answer is not of the Open Inference Protocol: {error}") from error
    version = str(answers[-1].get("model_version", "")) if answers else ""
    return Predictions(outputs, columns, tuple(tokens), version, index)


def _array(output: Mapping[str, Any]) -> Array:
    kind, data = output["datatype"], output["data"]
    if kind.startswith("FP"):
        data = [np.nan if value is None else value for value in data]
    return np.array(data, dtype=_TYPES.get(kind, object)).reshape(output["shape"])


def _listed(labels: Any) -> list[Any]:
    import json

    return list(json.loads(labels) if isinstance(labels, str) else labels)
