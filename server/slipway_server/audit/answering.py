"""A model that answers rows of a table with classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway.contract import AuditTask
from slipway_server.audit.inputs import InputReader, places_of
from slipway_server.audit.table import AuditError, Table
from slipway_server.monitoring.outcomes import OutcomeReader
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.load import load
from slipway_server.runtime.model import ModelInputError, plain
from slipway_server.runtime.run import Run
from slipway_server.settings import Serving


class Answering:
    """A loaded model, and where columns of a table go in its inputs."""

    def __init__(self, directory: Path, digest: str, task: AuditTask, table: Table) -> None:
        """Raises :class:`~slipway_server.runtime.load.LoadError` or :class:`AuditError`."""
        self._model = load(directory, Serving("audit", "", digest, threads=task.threads))
        self.reader = InputReader(
            table, self._model.inputs, places_of(directory, digest, task.inputs, self._model.inputs)
        )
        self._outcomes = OutcomeReader(self._model.outputs)

    def classes(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """What it says of rows of the table. Raises :class:`AuditError`."""
        return self.classes_of(self.reader.read(rows), len(rows))

    def classes_of(self, inputs: Mapping[str, Array], rows: int) -> list[str]:
        """What it says of so many rows of its inputs. Raises :class:`AuditError`."""
        names = self._model.output_names
        try:
            answers = self._model.run_raw(dict(inputs), names, Run())
        except ModelInputError as error:
            raise AuditError(f"the model refuses rows of the table: {plain(str(error))}") from None
        found = self._outcomes.read(names, answers, rows)
        if found is None or not found.is_class:
            raise AuditError("the model answers with numbers; an audit compares classes")
        return found.texts
