"""Columns of training data as the model takes them, from files and frames, read in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from slipway.profile import Data, ProfileError

Array = npt.NDArray[Any]
#: Told of rows as they are read.
Progress = Callable[[int], None]

_PIECE_ROWS = 65_536
_PIECE_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Column:
    """One column: numbers have the served dtype and NaN for what is missing; strings stay Arrow's.

    ``valid`` marks the values that are there, where the dtype has no NaN.
    """

    name: str
    values: Any
    valid: Array | None

    @property
    def is_text(self) -> bool:
        return isinstance(self.values, pa.ChunkedArray)

    def rows(self, start: int, stop: int) -> Array:
        """As the model takes them: numbers, or an array of ``str`` objects."""
        if not self.is_text:
            return np.asarray(self.values[start:stop])
        return np.array(self.values.slice(start, stop - start).fill_null("").to_pylist(), dtype=object)


class Table:
    """A parquet or CSV file, or a frame of pandas, polars or pyarrow."""

    def __init__(self, source: Any) -> None:
        """Raises :class:`ProfileError` for anything else, and for what cannot be read."""
        self._path = Path(source) if isinstance(source, str | Path) else None
        self._frame: pa.Table | None = None
        self.called = str(source) if self._path else f"a {type(source).__module__.partition('.')[0]} frame"
        try:
            if self._path is None:
                self._frame = _table_of(source)
                self.names: list[str] = self._frame.column_names
            elif self._path.suffix == ".csv":
                with self._csv(self._path) as reader:
                    self.names = reader.schema.names
            else:
                self.names = pa.parquet.ParquetFile(self._path).schema_arrow.names
        except (OSError, pa.ArrowException) as error:
            raise ProfileError(
                f"{self.called} cannot be read as {self._form}: {_first_line(error)}"
            ) from None
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ProfileError(f"{self.called} has two columns {min(twice)!r}: rename one")

    @property
    def _form(self) -> str:
        if self._path is None:
            return "a frame"
        return "CSV" if self._path.suffix == ".csv" else "parquet"

    @property
    def row_count(self) -> int | None:
        """None where it shows only in reading."""
        if self._frame is not None:
            return int(self._frame.num_rows)
        if self._path is None or self._path.suffix == ".csv":
            return None
        return int(pa.parquet.ParquetFile(self._path).metadata.num_rows)

    def identity(self, rows: int) -> Data:
        """The SHA-256 of the file, or of the frame as an Arrow stream."""
        hashed = hashlib.sha256()
        if self._path is not None:
            with self._path.open("rb") as file:
                while piece := file.read(_READ_BYTES):
                    hashed.update(piece)
        elif self._frame is not None:
            for batch in self._frame.combine_chunks().to_batches(_PIECE_ROWS):
                hashed.update(batch.serialize())
        return Data(digest=f"sha256:{hashed.hexdigest()}", rows=rows)

    def read(
        self, wanted: Sequence[tuple[str, np.dtype[Any] | None]], progress: Progress
    ) -> dict[str, Column]:
        """Columns by name, each in the dtype given with it; None for text.

        Raises :class:`ProfileError`, naming the column that does not fit.
        """
        missing = [name for name, _ in wanted if name not in self.names]
        if missing:
            raise ProfileError(
                f"{self.called} has no column {missing[0]!r}; it has {', '.join(self.names[:30])}"
            )
        pieces: dict[str, list[Any]] = {name: [] for name, _ in wanted}
        masks: dict[str, list[Array]] = {name: [] for name, _ in wanted}
        try:
            for batch in self._batches(list(pieces)):
                for name, dtype in wanted:
                    values, valid = _served(batch.column(name), dtype, name)
                    pieces[name].append(values)
                    if valid is not None:
                        masks[name].append(valid)
                progress(batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise ProfileError(f"{self.called} cannot be read: {_first_line(error)}") from None
        columns: dict[str, Column] = {}
        for name, dtype in wanted:
            parts, marks = pieces.pop(name), masks.pop(name)
            if not parts or not sum(map(len, parts)):
                raise ProfileError(f"{self.called} has no rows")
            values = pa.chunked_array(parts, pa.string()) if dtype is None else np.concatenate(parts)
            columns[name] = Column(name, values, np.concatenate(marks) if marks else None)
        return columns

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        if self._frame is not None:
            yield from self._frame.select(names).to_batches(_PIECE_ROWS)
        elif self._path is not None and self._path.suffix == ".csv":
            with self._csv(self._path, names) as reader:
                yield from reader
        else:
            # Without threads and read-ahead: those keep whole row groups of all columns in memory.
            file = pa.parquet.ParquetFile(self._path, pre_buffer=False)
            yield from file.iter_batches(_PIECE_ROWS, columns=names, use_threads=True)

    def _csv(self, path: Path, names: list[str] | None = None) -> Any:
        return pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=_PIECE_BYTES),
            convert_options=pa.csv.ConvertOptions(include_columns=names, strings_can_be_null=True),
        )


def _table_of(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if hasattr(source, "to_arrow"):
        return source.to_arrow()
    if type(source).__module__.startswith("pandas"):
        return pa.Table.from_pandas(source, preserve_index=False)
    raise ProfileError(
        f"the data is a {type(source).__name__}: give the path of a parquet or CSV file, "
        "or a frame of pandas, polars or pyarrow"
    )


def _served(column: pa.Array, dtype: np.dtype[Any] | None, name: str) -> tuple[Any, Array | None]:
    """The column's values as the model takes them, and which are there where the dtype cannot say so."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if dtype is None:
        return column.cast(pa.string()), None
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise ProfileError(
            f"column {name!r} holds {kind}, but the model takes numbers of {dtype}: "
            "turn it into numbers as the training did"
        )
    if dtype.kind == "f":
        # By way of 64 bits, since that is how clients' numbers reach the model.
        wide = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            return wide.astype(dtype), None
    valid = np.asarray(column.is_valid())
    whole = pc.fill_null(column, pa.scalar(0, column.type)).to_numpy(zero_copy_only=False)
    served = whole.astype(dtype)
    if not (served == whole).all():
        raise ProfileError(f"column {name!r} has values that {dtype}, which the model takes, cannot hold")
    return served, valid


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
