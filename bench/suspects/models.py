"""Models with their profiles, and the server's own counter next to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from slipway.digest import digest_of
from slipway.profiling import make_profile
from slipway_server.call.call import Call
from slipway_server.metrics.ledger import PAGE_BYTES, Page, read_name
from slipway_server.monitoring.reference import read_reference
from slipway_server.monitoring.suspects import NEARBY, TOLD_FROM, TURNED, SuspectCounter
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.load import load
from slipway_server.runtime.run import Run
from slipway_server.settings import Serving

NAMES = ("measurements of cells", "flowers", "digits", "made up")


@dataclass(frozen=True, slots=True)
class Found:
    """Of what one sender sent and was compared, in rows, and whether the log would name it."""

    compared: float
    nearby: float
    turned: float
    is_named: bool

    @property
    def shares(self) -> tuple[float, float]:
        return self.nearby / self.compared, self.turned / self.compared


class _Asked(Call):
    """A request of a caller, as far as it is counted."""

    __slots__ = ("_caller",)

    def __init__(self, rows: int, caller: str) -> None:
        super().__init__(b"", None, 0.0, 0.0)
        self.rows, self._caller = rows, caller

    def caller(self) -> str:
        return self._caller

    def answered(self) -> None:
        """Nobody waits."""


class Served:
    """A model as a server has it, which is asked in deviations of each column from its mean."""

    def __init__(self, name: str, folder: Path) -> None:
        features, classes, model = _made(name)
        self.name, self.columns = name, features.shape[1]
        self._mean, self._deviation = features.mean(axis=0), features.std(axis=0)
        # A column that is always the same stays as it is.
        self._deviation[self._deviation == 0] = 1e-6
        self.rows: Array = (features - self._mean) / self._deviation
        model.fit(features, classes)
        directory = folder / name.replace(" ", "-")
        directory.mkdir(parents=True)
        options = {"zipmap": False}
        onnx.save(to_onnx(model, features[:1].astype(np.float32), options=options), directory / "model.onnx")
        frame = pd.DataFrame(features.astype(np.float32)).add_prefix("c").assign(label=classes)
        profile = make_profile(frame, directory / "model.onnx", labels="label")
        (directory / "profile.json").write_bytes(profile.text())
        serving = Serving("model", "1", digest_of(directory), suspectInputs=(NEARBY, TURNED))
        self._model = load(directory, serving)
        self._reference = read_reference(directory, serving)
        (self._input,) = self._model.inputs
        self.classes = len(set(classes))
        self.start()

    def start(self) -> None:
        """Forget all that was sent."""
        self._page = Page(memoryview(bytearray(PAGE_BYTES)))
        inputs, outputs = self._model.inputs, self._model.outputs
        self._counter = SuspectCounter(
            self._reference.scales, inputs, outputs, (NEARBY, TURNED), self._page, {}
        )
        self._sent, self._beside = 0, np.zeros(3)

    def ask(self, rows: Array, callers: Sequence[str] = ("eve",)) -> tuple[Array, Array]:
        """Classes and scores of rows in deviations, which come as one request or, of several callers, as one
        each; without callers nobody sees them."""
        inputs = {self._input: (rows * self._deviation + self._mean).astype(np.float32)}
        names = self._model.output_names
        answers = self._model.run_raw(inputs, names, Run())
        if len(callers) == 1:
            self._counter.add([_Asked(len(rows), callers[0])], inputs, names, answers)
        elif callers:
            calls = [_Asked(1, callers[(self._sent + place) % len(callers)]) for place in range(len(rows))]
            self._counter.add(calls, inputs, names, answers)
        # As four times a second.
        self._counter.flush()
        self._sent += len(rows) if callers else 0
        labels, scores = (np.asarray(answer) for answer in answers)
        return labels, scores

    def ask_beside(self, rows: Array) -> None:
        """Rows of the same caller that are not told of."""
        sent, before = self._sent, self._counts()
        self.ask(rows)
        self._sent, self._beside = sent, self._beside + self._counts() - before

    def found(self) -> Found:
        """Since the start."""
        compared, nearby, turned = self._counts() - self._beside
        named = max(self._counter.turned_lately().values(), default=0) >= TOLD_FROM
        return Found(compared, nearby, turned, named)

    def _counts(self) -> Array:
        named = {name: self._page.values[place] for place, name in enumerate(self._page.names())}
        found = {labels.get("detector"): named[name] for name in named for _, labels in [read_name(name)]}
        return np.array([found[each] for each in (None, NEARBY.lower(), TURNED.lower())])


def _made(name: str) -> tuple[Array, Array, Any]:
    """Features, classes, and what is to be trained."""
    if name == NAMES[0]:
        features, classes = load_breast_cancer(return_X_y=True)
        return features, classes, make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    if name == NAMES[1]:
        features, classes = load_iris(return_X_y=True)
        return features, classes, make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    if name == NAMES[2]:
        features, classes = load_digits(return_X_y=True)
        return features, classes, RandomForestClassifier(50, random_state=0)
    features, classes = make_classification(5000, n_features=10, n_informative=6, random_state=0)
    return features, classes, GradientBoostingClassifier(n_estimators=50, random_state=0)
