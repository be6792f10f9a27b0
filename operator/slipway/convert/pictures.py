"""Pictures as bytes of JPEG or PNG: the steps inside the model, and the same by Pillow, to compare with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from slipway.convert.compose import MICROSOFT, PREFIX, Steps, inputs_of, joined, sizes_of
from slipway.convert.errors import ConvertError

Array = npt.NDArray[Any]

#: The input of the model with its steps.
INPUT = "pictures"
_TYPES: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.UINT8: np.uint8,
}


@dataclass(frozen=True)
class Picture:
    """How a picture becomes a row: cut, resized, its channels chosen, then ``(value / scale - mean) / std``.

    ``shape`` is that of the model's row, such as (3, 224, 224); ``mean`` and ``std`` have one number, or one
    for each channel.
    """

    width: int
    height: int
    channels: str
    shape: tuple[int, ...]
    channels_first: bool
    dtype: Any
    crop: bool = False
    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def depth(self) -> int:
        return 1 if self.channels == "grey" else 3

    def row(self, data: bytes) -> Array:
        """By Pillow and numpy."""
        from PIL import Image

        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
        if self.crop:
            width, height = self._cut(picture.width, picture.height)
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            picture = picture.crop((left, top, left + width, top + height))
        picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
        if self.channels == "grey":
            picture = picture.convert("L")
        table = np.asarray(picture, np.float32).reshape(self.height, self.width, self.depth)
        if self.channels == "bgr":
            table = table[..., ::-1]
        if self.dtype is not np.uint8:
            mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
            table = (table / np.float32(self.scale) - mean) / std
        if self.channels_first:
            table = table.transpose(2, 0, 1)
        return np.ascontiguousarray(table).astype(self.dtype).reshape(self.shape)

    def _cut(self, width: int, height: int) -> tuple[int, int]:
        """The largest part of the model's proportions."""
        if width * self.height > height * self.width:
            return max(1, height * self.width // self.height), height
        return width, max(1, width * self.height // self.width)


def picture_of(
    model: onnx.ModelProto, size: tuple[int, int] | None = None, channels: str | None = None, **rest: Any
) -> Picture:
    """What the model's input asks for; ``size`` (width, height) and ``channels`` where it leaves them open.

    Raises :class:`ConvertError`.
    """
    inputs = inputs_of(model)
    if len(inputs) != 1:
        raise ConvertError(f"the model takes {len(inputs)} tensors: steps for pictures need one, of pixels")
    (value,) = inputs
    dtype = _TYPES.get(value.type.tensor_type.elem_type)
    sizes = sizes_of(value)
    what = f"the model's input {value.name!r} of shape {[size or '?' for size in sizes]}"
    if dtype is None or len(sizes) not in (2, 3, 4):
        raise ConvertError(f"{what} is no table of pixels: it has to be [N, 3, H, W], [N, H, W, 3] or flat")
    if sizes[0] is not None:
        raise ConvertError(
            f"{what} takes {sizes[0]} pictures at a time: export it with a free first dimension"
        )
    first = len(sizes) == 4 and sizes[1] in (1, 3)
    if len(sizes) == 4:
        depth, given = (sizes[1], sizes[2:]) if first else (sizes[3], sizes[1:3])
    else:
        depth, given = None, sizes[1:] if len(sizes) == 3 else [None, None]
    height, width = given
    if size is not None:
        if (width or size[0], height or size[1]) != size:
            raise ConvertError(
                f"{what} does not take pictures of {size[0]}x{size[1]} pixels: leave --size out"
            )
        width, height = size
    if width is None or height is None:
        raise ConvertError(f"{what} leaves open how large a picture is: say it by --size WIDTHxHEIGHT")
    if len(sizes) == 2 and sizes[1] is not None:
        depth, over = divmod(sizes[1], width * height)
        if over or depth not in (1, 3):
            raise ConvertError(f"{what} does not hold {width}x{height} pixels of 1 or 3 channels: see --size")
    if len(sizes) == 3:
        depth = 1
    channels = channels or ("grey" if depth == 1 else "rgb")
    own = 1 if channels == "grey" else 3
    if depth not in (None, own):
        raise ConvertError(f"{what} has {depth} channels, and {channels} has {own}: see --channels")
    shape = {
        2: (own * width * height,),
        3: (height, width),
        4: (own, height, width) if first else (height, width, own),
    }[len(sizes)]
    made = Picture(width, height, channels, shape, first, dtype, **rest)
    for numbers in (made.mean, made.std):
        if len(numbers) not in (1, own):
            raise ConvertError(
                f"there are {len(numbers)} numbers for {own} channels: give one, or one for each"
            )
    return made


def with_pictures(model: onnx.ModelProto, picture: Picture, labels: tuple[str, ...] = ()) -> onnx.ModelProto:
    """The model that takes a list of pictures, ``pictures``, each a tensor of bytes.

    ONNX has no tensor of strings that are no text, so it is a sequence; Slipway serves it as ``BYTES``.
    """
    steps, body = Steps(), _body(picture)
    count = steps.add("SequenceLength", [INPUT], PREFIX + "count")
    yes = steps.constant("yes", np.array(True))
    steps.add("Loop", [count, yes], inputs_of(model)[0].name, body=body)
    taken = helper.make_tensor_sequence_value_info(INPUT, TensorProto.UINT8, [None])
    return joined(model, steps, taken, MICROSOFT, labels)


def _body(picture: Picture) -> onnx.GraphProto:
    """One picture; the sizes in it are those of the model, but for what is cut, so that none can grow."""
    steps = Steps()
    number, goes_on = PREFIX + "number", PREFIX + "goes_on"

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return steps.add(kind, inputs, PREFIX + output, **attributes)

    one = add("SequenceAt", [INPUT, number], "bytes")
    # Never as bgr: it would read grey JPEGs, which have one channel, as if they had three.
    pixels = steps.add("DecodeImage", [one], PREFIX + "decoded", MICROSOFT, color_space="rgb")
    pixels = add("Expand", [pixels, steps.constant("three", np.array([1, 1, 3]))], "pixels")
    if picture.crop:
        pixels = _cut(steps, pixels, picture)
    pixels = add("Unsqueeze", [pixels, steps.constant("first", np.array([0]))], "batch_of_one")
    size = steps.constant("size", np.array([1, picture.height, picture.width, 3]))
    # As Pillow does it, to the bit.
    resized = add("Resize", [pixels, "", "", size], "resized", mode="linear", antialias=1, exclude_outside=1)
    if picture.channels == "grey":
        resized = _grey(steps, resized)
    elif picture.channels == "bgr":
        resized = add("Gather", [resized, steps.constant("turned", np.array([2, 1, 0]))], "bgr", axis=3)
    values = resized
    if picture.dtype is not np.uint8:
        values = add("Cast", [values], "numbers", to=TensorProto.FLOAT)
        values = add("Div", [values, steps.constant("scale", np.float32(picture.scale))], "scaled")
        values = add("Sub", [values, steps.constant("mean", np.array(picture.mean, np.float32))], "centred")
        values = add("Div", [values, steps.constant("std", np.array(picture.std, np.float32))], "normal")
        values = add("Cast", [values], "typed", to=helper.np_dtype_to_tensor_dtype(np.dtype(picture.dtype)))
    if picture.channels_first:
        values = add("Transpose", [values], "channels_first", perm=[0, 3, 1, 2])
    row = add("Reshape", [values, steps.constant("shape", np.array(picture.shape))], "row")
    again = add("Identity", [goes_on], "again")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(picture.dtype))
    return helper.make_graph(
        steps.nodes,
        PREFIX + "picture",
        [
            helper.make_tensor_value_info(number, TensorProto.INT64, []),
            helper.make_tensor_value_info(goes_on, TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(again, TensorProto.BOOL, []),
            helper.make_tensor_value_info(row, kind, picture.shape),
        ],
        steps.constants,
    )


def _cut(steps: Steps, pixels: str, picture: Picture) -> str:
    """The largest part of the model's proportions from the middle, as :meth:`Picture.row` has it."""

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return steps.add(kind, inputs, PREFIX + output, **attributes)

    def whole(name: str, *values: int) -> str:
        return steps.constant(name, np.array(values))

    shape = add("Shape", [pixels], "pixels_shape", end=2)  # height, width
    sides = whole("sides", picture.height, picture.width)
    turned = add("Gather", [shape, whole("turn", 1, 0)], "other_side", axis=0)
    # A side is its own length, or what the other one allows.
    allowed = add(
        "Div",
        [add("Mul", [turned, sides], "parts"), whole("other", *(picture.width, picture.height))],
        "allowed",
    )
    size = add("Max", [add("Min", [shape, allowed], "least"), whole("one", 1)], "cut_size")
    start = add("Div", [add("Sub", [shape, size], "rest"), whole("two", 2)], "cut_start")
    end = add("Add", [start, size], "cut_end")
    return add("Slice", [pixels, start, end, whole("axes", 0, 1)], "cut")


def _grey(steps: Steps, pixels: str) -> str:
    """Pillow's ``L``."""

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return steps.add(kind, inputs, PREFIX + output, **attributes)

    wide = add("Cast", [pixels], "wide", to=TensorProto.INT64)
    weighed = add("Mul", [wide, steps.constant("weights", np.array([19595, 38470, 7471]))], "weighed")
    total = add("ReduceSum", [weighed, steps.constant("last", np.array([3]))], "total", keepdims=1)
    rounded = add("Add", [total, steps.constant("half", np.array(0x8000))], "rounded")
    grey = add("Div", [rounded, steps.constant("unit", np.array(0x10000))], "grey")
    return add("Cast", [grey], "grey_bytes", to=TensorProto.UINT8)
