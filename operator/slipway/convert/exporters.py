"""What exporters of networks print, raise and leave in a model."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnx

_COLORS = re.compile("\x1b\\[[0-9;]*m")


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Without what an exporter prints, logs up to that level and warns of, which nobody here can change."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def first_line(error: BaseException) -> str:
    lines = [line for line in _COLORS.sub("", str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(" .:")


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its exporter's notes, which name paths and lines of whoever trained it."""
    del model.metadata_props[:]
    parts: list[Any] = [model.graph, *model.functions]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
        values = (*part.value_info, *getattr(part, "initializer", ()))
        for each in (*part.node, *values):
            del each.metadata_props[:]
            each.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    return model
