"""Values that are needed for a moment every fifteen seconds, and lie there for hours."""

from __future__ import annotations

import pickle
from typing import Generic, TypeVar
from zlib import compress, decompress

T = TypeVar("T")


class Packed(Generic[T]):
    """A value that takes a tenth of its memory after :meth:`pack`, until somebody asks for it.

    What was packed here is unpacked here: it never comes from anywhere else.
    """

    __slots__ = ("_packed", "_value")

    def __init__(self, value: T) -> None:
        self._value: T | None = value
        self._packed: bytes | None = None

    @property
    def value(self) -> T:
        """The value; it is not to be changed."""
        if self._value is None:
            assert self._packed is not None
            self._value = pickle.loads(decompress(self._packed))
        assert self._value is not None
        return self._value

    def pack(self) -> None:
        """Take less memory."""
        if self._packed is None:
            self._packed = compress(pickle.dumps(self._value))
        self._value = None
