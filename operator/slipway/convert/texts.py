"""Texts as strings: a tokenizer inside the model, and the one that it was trained with, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from slipway.convert.compose import CONTRIB, PREFIX, Steps, inputs_of, joined, sizes_of
from slipway.convert.errors import ConvertError

Array = npt.NDArray[Any]

#: The input of the model with its steps.
INPUT = "text"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_WHOLE = (TensorProto.INT64, TensorProto.INT32)
_UNKNOWN, _CLS, _SEP, _PAD = "[UNK]", "[CLS]", "[SEP]", "[PAD]"


@dataclass(frozen=True)
class Tokenizer:
    """WordPiece of BERT (``vocab.txt``) or SentencePiece (``.model``).

    Texts have ``length`` tokens: longer ones are cut, shorter ones filled up with ``pad``.
    """

    content: bytes
    is_bert: bool
    length: int
    pad: int
    lower: bool = True

    def rows(self, texts: Sequence[str]) -> dict[str, Array]:
        """By the library that made the tokenizer: each (texts, length) of int64."""
        ids = self._bert(texts) if self.is_bert else self._sentencepiece(texts)
        filled = np.full((len(texts), self.length), self.pad, np.int64)
        mask = np.zeros_like(filled)
        for row, found in enumerate(ids):
            filled[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return {IDS: filled, MASK: mask, TYPES: np.zeros_like(filled)}

    def _bert(self, texts: Sequence[str]) -> list[list[int]]:
        from tokenizers import BertWordPieceTokenizer

        words = {word: number for number, word in enumerate(self.content.decode().splitlines())}
        made = BertWordPieceTokenizer(words, lowercase=self.lower)
        made.enable_truncation(self.length)
        return [each.ids for each in made.encode_batch(list(texts))]

    def _sentencepiece(self, texts: Sequence[str]) -> list[list[int]]:
        from sentencepiece import SentencePieceProcessor

        made = SentencePieceProcessor(model_proto=self.content)
        return [found[: self.length] for found in made.encode(list(texts))]


def tokenizer_of(path: Path, length: int, *, lower: bool = True) -> Tokenizer:
    """The tokenizer in a file. Raises :class:`ConvertError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        try:
            pad = SentencePieceProcessor(model_proto=content).pad_id()
        except RuntimeError:
            raise ConvertError(f"{path} is no model of SentencePiece") from None
        return Tokenizer(content, False, length, max(0, pad))
    try:
        words = content.decode().splitlines()
    except UnicodeDecodeError:
        words = []
    lost = [word for word in (_UNKNOWN, _CLS, _SEP, _PAD) if word not in words]
    if lost:
        raise ConvertError(
            f"{path} is no vocabulary of BERT, with a word in each line ({lost[0]} is not there), and no "
            ".model of SentencePiece: --tokenizer takes one of the two"
        )
    return Tokenizer(content, True, length, words.index(_PAD), lower)


def with_texts(model: onnx.ModelProto, tokenizer: Tokenizer, labels: tuple[str, ...] = ()) -> onnx.ModelProto:
    """The model that takes ``text``, a list of strings. Raises :class:`ConvertError`."""
    steps, body = Steps(), _body(tokenizer)
    count = steps.add("Size", [INPUT], PREFIX + "count")
    yes = steps.constant("yes", np.array(True))
    steps.nodes.append(helper.make_node("Loop", [count, yes], [PREFIX + IDS, PREFIX + MASK], body=body))
    for value in inputs_of(model):
        _check(value, tokenizer)
        if value.name == TYPES:
            source = steps.add("Sub", [PREFIX + IDS, PREFIX + IDS], PREFIX + TYPES)
        else:
            source = PREFIX + (MASK if value.name == MASK else IDS)
        steps.add("Cast", [source], value.name, to=value.type.tensor_type.elem_type)
    taken = helper.make_tensor_value_info(INPUT, TensorProto.STRING, ["rows"])
    return joined(model, steps, taken, CONTRIB, labels)


def _check(value: onnx.ValueInfoProto, tokenizer: Tokenizer) -> None:
    sizes = sizes_of(value)
    known = value.name in (IDS, MASK, TYPES)
    if not known or value.type.tensor_type.elem_type not in _WHOLE or len(sizes) != 2:
        raise ConvertError(
            f"the model's input {value.name!r} is no table of tokens: steps for texts make {IDS}, {MASK} and "
            f"{TYPES}, of whole numbers and shape [N, tokens]; export the model with these names"
        )
    if sizes[0] is not None or sizes[1] not in (None, tokenizer.length):
        raise ConvertError(
            f"the model's input {value.name!r} has the shape {sizes}: its first dimension has to be free, "
            f"and the other one free or --max-length, which is {tokenizer.length}"
        )


def _body(tokenizer: Tokenizer) -> onnx.GraphProto:
    """One text."""
    steps = Steps()
    number, goes_on = PREFIX + "number", PREFIX + "goes_on"

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return steps.add(kind, inputs, PREFIX + output, **attributes)

    def whole(name: str, *values: int) -> str:
        return steps.constant(name, np.array(values))

    one = whole("one", 1)
    text = add("Gather", [INPUT, add("Reshape", [number, one], "place")], "one_text", axis=0)
    most = whole("length", tokenizer.length)
    if tokenizer.is_bert:
        names = [PREFIX + name for name in ("all_tokens", "all_types", "all_masks")]
        steps.nodes.append(
            helper.make_node(
                "BertTokenizer",
                [text],
                names,
                domain=CONTRIB,
                vocab_file=tokenizer.content,
                do_lower_case=int(tokenizer.lower),
                strip_accents=int(tokenizer.lower),
            )
        )
        tokens = names[0]
        # The mark at the end stays where a text is cut.
        short = add("Min", [add("Shape", [tokens], "found"), most], "short")
        kept = add("Sub", [short, one], "kept")
        first = add("Slice", [tokens, whole("start", 0), kept], "first")
        last = add("Slice", [tokens, whole("before", -1), whole("end", np.iinfo(np.int64).max)], "last")
        tokens = add("Concat", [first, last], "tokens", axis=0)
    else:
        no = steps.constant("no", np.array([False]))
        options = [whole("nbest", 0), steps.constant("alpha", np.zeros(1, np.float32)), no, no, no]
        names = [PREFIX + name for name in ("pieces", "parts")]
        steps.nodes.append(
            helper.make_node(
                "SentencepieceTokenizer", [text, *options], names, domain=CONTRIB, model=tokenizer.content
            )
        )
        wide = add("Cast", [names[0]], "all_tokens", to=TensorProto.INT64)
        tokens = add("Slice", [wide, whole("start", 0), most], "tokens")
    size = add("Shape", [tokens], "tokens_size")
    room = add("Sub", [most, size], "room")
    places = add("Concat", [whole("none", 0), room], "places", axis=0)
    row = add("Pad", [tokens, places, steps.constant("pad", np.array(tokenizer.pad))], "row")
    there = add("Expand", [one, size], "there")
    mask = add("Pad", [there, places, steps.constant("absent", np.array(0))], "mask")
    shape = whole("shape", tokenizer.length)
    row, mask = add("Reshape", [row, shape], "row_out"), add("Reshape", [mask, shape], "mask_out")
    again = add("Identity", [goes_on], "again")
    return helper.make_graph(
        steps.nodes,
        PREFIX + "one",
        [
            helper.make_tensor_value_info(number, TensorProto.INT64, []),
            helper.make_tensor_value_info(goes_on, TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(again, TensorProto.BOOL, []),
            *(
                helper.make_tensor_value_info(name, TensorProto.INT64, [tokenizer.length])
                for name in (row, mask)
            ),
        ],
        steps.constants,
    )
