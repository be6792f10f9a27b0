"""How large a picture is, told from its first bytes: before a decoder makes gigabytes of a few kilobytes.

What the walk here cannot read is damaged, and refused. A decoder that ends its process over a picture ends a
runner (:mod:`.guard`).
"""

from __future__ import annotations

from collections.abc import Iterable

#: Pixels of one request, all its pictures together: they take three bytes each, and again when cut.
MOST_PIXELS = 32_000_000
#: Parts of a file: a walk over more of them takes longer than a request should.
_MOST_PARTS = 20_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
#: Baseline, extended and progressive, each by Huffman's codes; of the rest decoders take this or that.
_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
#: Markers without a length.
_BARE = (0x01, *range(0xD0, 0xD8))
_START_OF_SCAN = 0xDA
_END = b"\xff\xd9"

#: One black pixel, for the first run.
SMALLEST = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da63606060000000040001c8eaebf90000000049454e44ae426082"
)


class PictureError(ValueError):
    """A picture is none, or a damaged one, or too large; the message says which and what to do."""


def check(pictures: Iterable[bytes], name: str, grey: bool) -> None:
    """Raises :class:`PictureError` for what a decoder should not be given; ``grey``: it takes grey JPEGs."""
    pixels = 0
    for position, data in enumerate(pictures):
        where = f"picture {position} of input {name[:60]!r}"
        try:
            width, height = size_of(data, grey)
        except PictureError as error:
            raise PictureError(f"{where} {error}") from None
        pixels += width * height
        if pixels > MOST_PIXELS:
            alone = width * height > MOST_PIXELS
            what = (
                f"{where} has {width} × {height} pixels"
                if alone
                else f"with {where} there are {pixels} pixels"
            )
            raise PictureError(
                f"{what}, and a request may have {MOST_PIXELS}: send "
                + ("a smaller one" if alone else "fewer at once, or smaller ones")
            )


def size_of(data: bytes, grey: bool = True) -> tuple[int, int]:
    """Width and height of a whole JPEG or PNG picture. Raises :class:`PictureError`."""
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        return _jpeg(data, grey)
    begins = f"begins with {data[:8].hex(' ')}" if data else "is empty"
    raise PictureError(f"is neither JPEG nor PNG (it {begins}): send it as one of them")


def _png(data: bytes) -> tuple[int, int]:
    if data[8:16] != b"\0\0\0\rIHDR":
        raise _damaged()
    size = _positive(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    at = 8
    for _ in range(_MOST_PARTS):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at > len(data) or len(kind) < 4:
            raise _damaged()
        if kind == b"IEND":
            return size
    raise _damaged()


def _jpeg(data: bytes, grey: bool) -> tuple[int, int]:
    at, size = 2, None
    for _ in range(_MOST_PARTS):
        if data[at : at + 1] != b"\xff":
            raise _damaged()
        marker = data[at + 1] if at + 1 < len(data) else 0
        if marker == 0xFF:  # fills up
            at += 1
            continue
        at += 2
        if marker in _BARE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise _damaged()
        if marker == _START_OF_SCAN:
            # Decoders make up what is missing.
            if size is None or data.rfind(_END, at) < 0:
                raise _damaged()
            return size
        if marker in _OTHER_FRAMES:
            raise PictureError(
                "is a JPEG that is lossless or coded by arithmetic: send it as a baseline JPEG"
            )
        if marker in _FRAMES:
            if size is not None or length < 8:
                raise _damaged()
            size = _frame(data[at + 2 : at + 8], grey)
        at += length
    raise _damaged()


def _frame(head: bytes, grey: bool) -> tuple[int, int]:
    if head[5] == 1 and not grey:
        raise PictureError("is a grey JPEG, which this model does not decode: send it in colours, or as PNG")
    if head[0] != 8 or head[5] not in (1, 3):
        raise PictureError(
            f"is a JPEG of {head[5]} channels of {head[0]} bits (CMYK has 4): send it in grey or in colours, "
            "of 8 bits"
        )
    return _positive(int.from_bytes(head[3:5], "big"), int.from_bytes(head[1:3], "big"))


def _positive(width: int, height: int) -> tuple[int, int]:
    if not width or not height:
        raise _damaged()
    return width, height


def _damaged() -> PictureError:
    return PictureError("is damaged or cut off: send it again whole")
