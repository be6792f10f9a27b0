"""Which other files an ONNX model needs, and its outline, read from its bytes while they pass by.

Big models keep their weights in files beside the ``.onnx`` file ("external data"), and only the model itself
says which. This reads just enough of the protobuf encoding to find their names: the bytes come in pieces,
weights are skipped, and nothing is kept, so a model of two gigabytes costs no memory. The ``onnx`` package
would need the whole model in memory, and 29 MB more of image. Whoever wants to look at the graph gets an
outline of it: the same message without what is large in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from slipway.contract import ModelFault
from slipway.models.faults import ModelError

#: The fields on the way to a tensor's ``external_data``, by message: field number → message inside
#: (numbers of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
#: Lists of plain values. A forest keeps millions of numbers in them, one field each, so the rest of a large
#: message is skipped: onnxruntime refuses an attribute that has another value next to its list.
_LISTS: dict[str, frozenset[int]] = {
    "Attribute": frozenset({7, 8, 9}),
    "Tensor": frozenset({4, 5, 6, 7, 10, 11}),
}
_STRING_DATA = 6
#: What says nothing of what a graph does: shapes of values and notes of exporters.
_IDLE: dict[str, frozenset[int]] = {"Graph": frozenset({10, 13, 14, 16}), "Node": frozenset({6, 9})}
_IR_VERSION_FIELD, _GRAPH_FIELD = 1, 7
_VARINT, _BYTES = 0, 2
#: Wire types with a fixed number of bytes.
_FIXED = {1: 8, 5: 4}
#: Protobuf's own limit on messages within messages.
_DEEPEST = 100
#: An outline has messages and values of so many bytes whole, enters larger messages and leaves out the rest.
_SMALL = 1024
#: Of so many bytes at most is an outline; a graph of 10,000 nodes has about two million.
MOST_OUTLINE = 16 * 1024 * 1024
#: As the tag of field 536870911, ``cut``: 64 times the bytes that were left out, and their field's number.
_CUT = b"\xf8\xff\xff\xff\x0f"
#: Longest key or value of one entry of external data, in bytes.
_LONGEST_TEXT = 4096

#: What people point at by mistake, by its first bytes.
_MISTAKES = {
    b"<": "it looks like a web page: does the address need credentials, or lead to a page about the file?",
    b"version https://git-lfs": "it is a Git LFS pointer: check the file out with 'git lfs pull' first",
    b"\x80\x04": "it is a Python pickle, which Slipway does not load: convert the model to ONNX",
    b"\x80\x05": "it is a Python pickle, which Slipway does not load: convert the model to ONNX",
    b"PK\x03\x04": "it is a zip archive: give the .onnx file itself",
    b"\x1f\x8b": "it is a gzip archive: give the .onnx file itself",
}
#: As many first bytes are kept for that.
_HEAD = 64


class _MalformedError(Exception):
    """The bytes do not have the form of a protobuf message."""


class _CutError(Exception):
    """The bytes end within a field."""


class Outline:
    """A model without its weights, as bytes of the messages of ``onnx_graph.proto``."""

    def __init__(self) -> None:
        self.content = b""
        #: Whether it is larger than :data:`MOST_OUTLINE`; its content is then of no use.
        self.is_too_large = False
        self._kept = 0

    def keep(self, out: bytearray, more: bytes) -> None:
        """Add bytes to a part of it."""
        self._kept += len(more)
        self.is_too_large = self.is_too_large or self._kept > MOST_OUTLINE
        if not self.is_too_large:
            out += more


class Tape:
    """Bytes that come in pieces and are read forwards only; each piece is recorded as it comes."""

    def __init__(self, pieces: Iterator[bytes], record: Callable[[bytes], object]) -> None:
        self._pieces = pieces
        self._record = record
        self._piece = b""
        self._at = 0
        self._before = 0
        self._head = b""

    @property
    def position(self) -> int:
        """How many bytes have been read or skipped."""
        return self._before + self._at

    def ended(self) -> bool:
        """Whether there are no more bytes."""
        return self._at == len(self._piece) and not self._turn()

    def byte(self) -> int:
        if self.ended():
            raise _CutError
        value = self._piece[self._at]
        self._at += 1
        return value

    def read(self, count: int) -> bytes:
        if count <= len(self._piece) - self._at:
            self._at += count
            return bytes(self._piece[self._at - count : self._at])
        return bytes(self.byte() for _ in range(count))

    def skip(self, count: int) -> None:
        while count > (left := len(self._piece) - self._at):
            self._at += left
            count -= left
            if not self._turn():
                raise _CutError
        self._at += count

    def head(self) -> bytes:
        """The first bytes, to say what they are when they are not a model."""
        while len(self._head) < _HEAD and self._turn():
            pass
        return self._head

    def _turn(self) -> bool:
        piece = next(self._pieces, b"")
        if not piece:
            return False
        self._record(piece)
        self._head += piece[: _HEAD - len(self._head)]
        self._before += len(self._piece)
        self._piece, self._at = piece, 0
        return True


def external_data(tape: Tape, name: str, outline: Outline | None = None) -> list[str]:
    """Read a whole model and give the files it needs beside it, as sorted paths relative to its folder.

    ``name`` is what messages call the model; an ``outline`` is filled on the way.
    Raises :class:`ModelError`: ``NOT_AN_ONNX_MODEL``,
    ``MODEL_TRUNCATED`` for a model that ends too early, ``MODEL_LOAD_FAILED`` for files outside of its
    folder.
    """
    walk = _Walk(tape, outline)
    try:
        walk.model()
    except _CutError:
        if walk.began:
            raise ModelError(
                ModelFault.MODEL_TRUNCATED,
                f"{name} ends after {tape.position} bytes in the middle of the model: "
                "it was not written completely; upload it again and compare its sha256sum",
            ) from None
        raise _not_onnx(name, tape.head()) from None
    except (_MalformedError, RecursionError):
        raise _not_onnx(name, tape.head()) from None
    return sorted({_beside(location, name) for location in walk.locations})


def _not_onnx(name: str, head: bytes) -> ModelError:
    hint = next((text for start, text in _MISTAKES.items() if head.lstrip().startswith(start)), None)
    if not head:
        hint = "it is empty: upload it again"
    return ModelError(
        ModelFault.NOT_AN_ONNX_MODEL,
        f"{name} is not an ONNX model: "
        + (hint or "its bytes have another format; export it, with skl2onnx or torch.onnx for example"),
    )


def _beside(location: str, name: str) -> str:
    path = posixpath.normpath(location)
    outside = path.startswith("/") or path.split("/")[0] in ("..", ".")
    if outside or "\\" in location or any(ord(character) < 32 for character in location):
        raise ModelError(
            ModelFault.MODEL_LOAD_FAILED,
            f"{name} keeps weights in {location!r}, which is not a file in its own folder: "
            "save it again with onnx.save_model(model, 'model.onnx', save_as_external_data=True, "
            "location='model.onnx.data')",
        )
    return path


class _Walk:
    """One pass over a model's bytes, to their end."""

    def __init__(self, tape: Tape, outline: Outline | None) -> None:
        self.tape = tape
        self.outline = outline
        self.locations: list[str] = []
        #: Whether the first field was the IR version, as every exporter writes it.
        self.began = False

    def model(self) -> None:
        has_graph = False
        out = bytearray() if self.outline is not None else None
        while not self.tape.ended():
            first = self.tape.position == 0
            number, _ = self._field("Model", None, 0, out)
            self.began = self.began or (first and number == _IR_VERSION_FIELD)
            has_graph = has_graph or number == _GRAPH_FIELD
        if not has_graph:
            raise _MalformedError
        if self.outline is not None and out is not None:
            self.outline.content = bytes(out)

    def _message(self, message: str, end: int, depth: int, out: bytearray | None) -> None:
        """Pass over a message up to ``end``, and add its outline to ``out`` if that is wanted."""
        if depth > _DEEPEST:
            raise _MalformedError
        lists = _LISTS.get(message, frozenset())
        while self.tape.position < end:
            number, kind = self._field(message, end, depth, out)
            left = end - self.tape.position
            one_by_one = kind != _BYTES or message == "Attribute" or number == _STRING_DATA
            if number in lists and one_by_one and left > _SMALL:
                self.tape.skip(left)
                self._keep(out, _cut(left, number))
        if self.tape.position != end:
            raise _MalformedError

    def _field(self, message: str, end: int | None, depth: int, out: bytearray | None) -> tuple[int, int]:
        """Pass over one field, into it where tensors may be inside; gives its number and wire type."""
        tag = self._varint()
        number, kind = divmod(tag, 8)
        if number == 0:
            raise _MalformedError
        if number in _IDLE.get(message, ()):
            out = None
        if kind == _VARINT:
            value = self._varint()
            self._keep(out, _encoded(tag) + _encoded(value))
        elif kind == _BYTES:
            self._bytes(tag, message, self._stop(end), depth, out)
        elif kind in _FIXED:
            if end is not None and self.tape.position + _FIXED[kind] > end:
                raise _MalformedError
            self._keep(out, _encoded(tag) + self.tape.read(_FIXED[kind]))
        else:
            raise _MalformedError
        return number, kind

    def _bytes(self, tag: int, message: str, stop: int, depth: int, out: bytearray | None) -> None:
        """Pass over what one field of wire type 2 holds."""
        inside = _FIELDS[message].get(tag // 8)
        length = stop - self.tape.position
        if out is not None and length <= _SMALL:
            content = self.tape.read(length)
            self._keep(out, _encoded(tag) + _encoded(length) + content)
            if inside is not None:
                self._within(content, inside, depth)
        elif inside is None:
            self.tape.skip(length)
            self._keep(out, _cut(length, tag // 8))
        elif inside == "Entry":
            self._entry(stop)
        else:
            part = None if out is None else bytearray()
            self._message(inside, stop, depth + 1, part)
            if part is not None:
                self._keep(out, _encoded(tag) + _encoded(len(part)))
                if out is not None and self.outline is not None and not self.outline.is_too_large:
                    out += part

    def _within(self, content: bytes, inside: str, depth: int) -> None:
        """Pass over a message that was read already."""
        whole, self.tape = self.tape, Tape(iter((content,)), len)
        try:
            if inside == "Entry":
                self._entry(len(content))
            else:
                self._message(inside, len(content), depth + 1, None)
        except _CutError:
            raise _MalformedError from None
        finally:
            self.tape = whole

    def _keep(self, out: bytearray | None, more: bytes) -> None:
        if out is not None and self.outline is not None:
            self.outline.keep(out, more)

    def _entry(self, end: int) -> None:
        """One ``StringStringEntryProto`` of a tensor's external data."""
        texts = {1: "", 2: ""}
        while self.tape.position < end:
            number, kind = divmod(self._varint(), 8)
            stop = self._stop(end)
            if kind != _BYTES or number not in texts or stop - self.tape.position > _LONGEST_TEXT:
                raise _MalformedError
            texts[number] = self.tape.read(stop - self.tape.position).decode("utf-8", "surrogateescape")
        if texts[1] == "location":
            self.locations.append(texts[2])

    def _stop(self, end: int | None) -> int:
        """Where the field that begins here ends, by the length that comes next."""
        length = self._varint()
        stop = self.tape.position + length
        if end is not None and stop > end:
            raise _MalformedError
        return stop

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.tape.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _MalformedError


def _cut(length: int, number: int) -> bytes:
    return _CUT + _encoded(length * 64 + min(number, 63))


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
