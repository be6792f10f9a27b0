"""The table of an audit: CSV, plain or by gzip, read in pieces and within bounds."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slipway.names import LARGEST_TABLE, MOST_AUDITED_ROWS

#: Rows that the model answers at once.
PIECE_ROWS = 4096
_MOST_COLUMNS = 2000
_READ_BYTES = 1024 * 1024


class AuditError(Exception):
    """An audit cannot be done; the message says why, and what to do."""


class Table:
    """A file, whose rows are read once and kept nowhere."""

    def __init__(self, path: Path, digest: str | None) -> None:
        """Check the file's digest, if one is given, and read its head. Raises :class:`AuditError`."""
        self._path = path
        try:
            with path.open("rb") as file:
                self.digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise AuditError(
                f"the table {path.name} cannot be read ({error.strerror}): has the ConfigMap this key?"
            ) from None
        if digest is not None and self.digest != digest:
            raise AuditError(
                f"the table {path.name} is {self.digest}, but the audit's data.digest asks for {digest}: "
                "restore the table, or set data.digest to its digest"
            )
        with self._rows() as rows:
            self.columns = next(rows, [])
        if not self.columns or len(self.columns) > _MOST_COLUMNS:
            raise AuditError(
                f"the table {path.name} has {len(self.columns)} columns: its first line must name up to "
                f"{_MOST_COLUMNS}, with commas between them"
            )
        if len(set(self.columns)) < len(self.columns):
            raise AuditError(f"two columns of the table {path.name} have the same name: rename one")

    def place(self, column: str) -> int:
        """Of a column in a row. Raises :class:`AuditError` where there is none of that name."""
        if column not in self.columns:
            # Not which it has: the ConfigMap may be anybody's, and many read status.
            count = len(self.columns)
            raise AuditError(
                f"the table {self._path.name} has no column {column!r} among the {count} of its first line: "
                "rename one, or fix the audit"
            )
        return self.columns.index(column)

    def pieces(self) -> Iterator[list[list[str]]]:
        """All rows, in pieces of :data:`PIECE_ROWS` at most. Raises :class:`AuditError`."""
        with self._rows() as rows:
            next(rows, None)
            piece: list[list[str]] = []
            for number, row in enumerate(rows, 1):
                if not row:
                    continue
                if number > MOST_AUDITED_ROWS:
                    raise AuditError(
                        f"the table {self._path.name} has more than {MOST_AUDITED_ROWS:,} rows: take a sample"
                    )
                if len(row) != len(self.columns):
                    raise AuditError(
                        f"row {number} of the table {self._path.name} has {len(row)} values for "
                        f"{len(self.columns)} columns: fix the row"
                    )
                piece.append(row)
                if len(piece) == PIECE_ROWS:
                    yield piece
                    piece = []
            if piece:
                yield piece

    @contextmanager
    def _rows(self) -> Iterator[Iterator[list[str]]]:
        name = self._path.name
        try:
            with self._path.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                plain = gzip.GzipFile(fileobj=file) if packed else file
                bounded = io.BufferedReader(_Bounded(plain, name), _READ_BYTES)
                yield csv.reader(io.TextIOWrapper(bounded, "utf-8-sig", newline=""), strict=True)
        except UnicodeDecodeError:
            raise AuditError(
                f"the table {name} is no text in UTF-8: write it as CSV, plain or by gzip"
            ) from None
        except csv.Error as error:
            raise AuditError(f"the table {name} is no CSV: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise AuditError(f"the table {name} cannot be read: {error}") from None


class _Bounded(io.RawIOBase):
    """No more bytes than a table may have: a few of them by gzip can be any number."""

    def __init__(self, inner: IO[bytes] | gzip.GzipFile, name: str) -> None:
        self._inner, self._name, self._left = inner, name, LARGEST_TABLE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self._inner.read(min(len(buffer), _READ_BYTES))
        self._left -= len(found)
        if self._left < 0:
            raise AuditError(f"the table {self._name} has more than {LARGEST_TABLE >> 20} MiB: take a sample")
        buffer[: len(found)] = found
        return len(found)


def numbers(cells: Sequence[str], column: str) -> list[float]:
    """Cells as numbers, NaN where one is empty. Raises :class:`AuditError`."""
    found = []
    for cell in cells:
        try:
            found.append(float(_WORDS.get(cell.strip().lower(), cell)) if cell.strip() else float("nan"))
        except ValueError:
            raise AuditError(
                f"column {column!r} holds something that is no number, and the model takes a number there: "
                "give the table the columns that the model was trained on"
            ) from None
    return found


def spellings(cell: str) -> tuple[str, str]:
    """A class or a group as the table has it, and as the model and the resource name it."""
    return cell.strip(), _plain_name(cell)


def _plain_name(cell: str) -> str:
    """``1`` for 1, 1.0 and true."""
    cell = cell.strip()
    known = _WORDS.get(cell.lower(), cell)
    try:
        number = float(known)
    except ValueError:
        return cell
    return str(int(number)) if number.is_integer() else cell


_WORDS = {"true": "1", "false": "0"}
