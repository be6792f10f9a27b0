"""``--pipeline``: a model with its steps before it, and the proof that it answers as the model after the same
steps by the libraries that it was trained with.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from slipway.conversion import Conversion, Rows, Source
from slipway.convert import pictures, texts
from slipway.convert.answers import Answers, differences
from slipway.convert.compose import inputs_of, opened
from slipway.convert.errors import ConvertError, DifferentError
from slipway.convert.layout import Layout
from slipway.convert.make import Result, summary, user
from slipway.convert.onnx_models import session
from slipway.convert.originals import versions
from slipway.digest import DigestError, digest_of, sha256_of

Array = npt.NDArray[Any]

#: Largest difference of probabilities unless another is given: no two decoders of JPEG agree to the last
#: level of a colour.
TOLERANCE = 0.02
_ENDINGS = (".jpg", ".jpeg", ".png")
_ROWS = 16


def with_picture_steps(
    path: Path, folder: Path, *, labels: tuple[str, ...] = (), tolerance: float = TOLERANCE, **options: Any
) -> Result:
    """A model of pixels that takes JPEG and PNG, compared with Pillow's steps on a folder of pictures.

    ``options`` are those of :func:`slipway.convert.pictures.picture_of`. Raises :class:`ConvertError`.
    """
    model = opened(path)
    picture = pictures.picture_of(model, **options)
    files = sorted(each for each in _files(folder) if each.suffix.lower() in _ENDINGS)
    if not files:
        raise ConvertError(f"{folder} has no pictures (.jpg, .png): give some to compare the answers on")
    held = [each.read_bytes() for each in files]
    (value,) = inputs_of(model)

    def prepared(start: int, stop: int) -> dict[str, Array]:
        rows = []
        for file, data in zip(files[start:stop], held[start:stop], strict=True):
            try:
                rows.append(picture.row(data))
            except Exception as error:
                raise ConvertError(f"Pillow cannot read {file}: {str(error)[:200]}") from None
        return {value.name: np.stack(rows)}

    def given(start: int, stop: int) -> dict[str, Any]:
        return {pictures.INPUT: [np.frombuffer(data, np.uint8) for data in held[start:stop]]}

    made = pictures.with_pictures(model, picture, labels)
    try:
        digest = digest_of(folder)
    except DigestError as error:
        raise ConvertError(f"{folder}: {error}") from None
    return _proved(path, model, made, len(files), prepared, given, labels, tolerance, digest)


def with_text_steps(
    path: Path,
    rows: Sequence[str],
    tokenizer: texts.Tokenizer,
    data_digest: str,
    *,
    labels: tuple[str, ...] = (),
    tolerance: float,
) -> Result:
    """A model of tokens that takes strings, compared with the tokenizer's own library on ``rows``.

    Raises :class:`ConvertError`.
    """
    if not rows:
        raise ConvertError("the data has no rows: give texts to compare the answers on")
    model = opened(path)
    made = texts.with_texts(model, tokenizer, labels)
    kinds = {each.name: each.type.tensor_type.elem_type for each in inputs_of(model)}

    def prepared(start: int, stop: int) -> dict[str, Array]:
        found = tokenizer.rows(rows[start:stop])
        dtype = onnx.helper.tensor_dtype_to_np_dtype
        return {name: found[name].astype(dtype(kind)) for name, kind in kinds.items()}

    def given(start: int, stop: int) -> dict[str, Any]:
        return {texts.INPUT: np.array(rows[start:stop], object)}

    return _proved(path, model, made, len(rows), prepared, given, labels, tolerance, data_digest)


_Batch = Callable[[int, int], Mapping[str, Any]]


def _proved(
    path: Path,
    model: onnx.ModelProto,
    made: onnx.ModelProto,
    count: int,
    prepared: _Batch,
    given: _Batch,
    labels: tuple[str, ...],
    tolerance: float,
    data_digest: str,
) -> Result:
    like = _answers(session(model), count, prepared)
    if labels:
        like = _named(model, like, labels)
    found = _answers(session(made), count, given)
    compared = {Rows.DATA: differences(like, found, tolerance).summed_up(0)}
    proof = Conversion(
        by=user(),
        at=datetime.now(UTC).replace(microsecond=0),
        original=Source(called=path.name[:500], kind="onnx", digest=f"sha256:{sha256_of(path)}"),
        modelDigest=f"sha256:{hashlib.sha256(made.SerializeToString()).hexdigest()}",
        dataDigest=data_digest,
        versions={"python": platform.python_version(), **versions()},
        tolerance=tolerance,
        compared=compared,
    )
    if compared[Rows.DATA].beyond:
        raise DifferentError(
            "the model with its steps answers otherwise than the model after the same steps in Python by "
            f"more than the tolerance: {'; '.join(summary(proof))}. Look whether the options are those of "
            f"the training, or raise --tolerance, which is {tolerance:g}",
            compared,
        )
    return Result(made, proof, Layout((), together=False))


def _answers(run: Any, count: int, batch: _Batch) -> Answers:
    parts: list[Sequence[Any]] = []
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        try:
            parts.append(run.run(None, dict(batch(start, stop))))
        except ConvertError:
            raise
        except Exception as error:
            raise ConvertError(f"the model refuses rows {start} to {stop}: {str(error)[:300]}") from None
    outputs = [
        np.concatenate(column) for column in zip(*parts, strict=True) if isinstance(column[0], np.ndarray)
    ]
    names = [each.reshape(-1) for each in outputs if each.size == count and each.dtype.kind in "OUiu"]
    numbers = [each for each in outputs if each.dtype.kind == "f"]
    if any(len(each) != count for each in [*names[:1], *numbers[:1]]) or not (names or numbers):
        raise ConvertError(
            "the model's outputs are no labels and no numbers for each row: they cannot be compared"
        )
    table = numbers[0].reshape(count, -1).astype(np.float64) if numbers else None
    probable = table is not None and bool(((table >= 0) & (table <= 1.00001)).all())
    return Answers(names[0] if names else None, table, are_probabilities=probable)


def _named(model: onnx.ModelProto, like: Answers, labels: tuple[str, ...]) -> Answers:
    """What the labels should be, by numpy."""
    scores = like.numbers
    if scores is None:
        raise ConvertError("the model gives no numbers that labels could be told by")
    first = model.graph.output[0].name
    if not any(node.op_type == "Softmax" and first in node.output for node in model.graph.node):
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = raised / raised.sum(axis=1, keepdims=True)
    return Answers(np.array(labels, object)[scores.argmax(axis=1)], scores, are_probabilities=True)


def _files(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.rglob("*") if each.is_file()] if folder.is_dir() else []
    except OSError as error:
        raise ConvertError(f"{folder} cannot be read: {error.strerror}") from None
