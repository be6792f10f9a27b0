"""A request that the model answers, for its user to begin with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.api.inputs import Column, Inputs
from slipway.names import PROFILE_FILE
from slipway.profile import ProfileError, read_profile

#: A request with more characters is printed as a file.
_MOST_CHARACTERS = 600
_NUMBERS = ("INT", "UINT", "FP", "BF")

Tensor = dict[str, Any]
Described = Mapping[str, Any]
#: Sends a body and gives the status and the answer.
Ask = Callable[[bytes], tuple[int, str]]


@dataclass(frozen=True)
class Example:
    """A body, and what the server said to it where that was no answer."""

    body: str
    refusal: str = ""


def example(inputs: Inputs | None, folder: Path, digest: str, metadata: Described, ask: Ask) -> Example:
    """The first row that the server answers: the profile's, one by the contract, one of ones, one of zeros.

    Args:
        inputs: of the spec.
        folder: with the model and its profile.
        digest: of the model.
        metadata: of the model, as ``GET /v2/models/NAME`` has it.
        ask: asks the server.
    """
    first: Example | None = None
    for tensors in _candidates(inputs, folder, digest, metadata):
        body = json.dumps({"inputs": tensors})
        status, said = ask(body.encode())
        if status == 200:
            return Example(body)
        first = first or Example(body, said)
    return first or Example(json.dumps({"inputs": []}), "the model takes no input")


def curl(url: str, body: str, folder: Path) -> str:
    """The command that asks; a long body goes to a file of the folder."""
    data = shlex.quote(body)
    if len(body) > _MOST_CHARACTERS:
        file = folder / "request.json"
        file.write_text(body)
        data = f"@{shlex.quote(str(file))}"
    return f"curl {url} -H 'content-type: application/json' -d {data}"


def _candidates(
    inputs: Inputs | None, folder: Path, digest: str, metadata: Described
) -> Iterator[list[Tensor]]:
    described = [one for one in metadata.get("inputs") or () if not one.get("optional")]
    columns = {one.name: one.columns for one in inputs.tensors} if inputs is not None else {}
    recorded = _recorded(folder, digest)
    if recorded is not None:
        yield recorded
    if columns:
        yield [_tensor(one, columns.get(one["name"], ()), 1) for one in described]
    for value in (1, 0):
        yield [_tensor(one, (), value) for one in described]


def _recorded(folder: Path, digest: str) -> list[Tensor] | None:
    try:
        found = read_profile((folder / PROFILE_FILE).read_bytes(), digest).example
    except (OSError, ProfileError):
        return None
    return None if found is None else [one.model_dump(mode="json") for one in found.inputs]


def _tensor(described: Described, columns: tuple[Column, ...], value: int) -> Tensor:
    """One row, with 1 for every other dimension that is free."""
    shape = [max(1, int(size)) for size in described.get("shape") or ()]
    count = 1
    for size in shape:
        count *= size
    kind = str(described["datatype"])
    if columns and count == len(columns):
        data = [_of_column(column, kind) for column in columns]
    else:
        data = [_plain(kind, value)] * count
    return {"name": described["name"], "datatype": kind, "shape": shape, "data": data}


def _of_column(column: Column, kind: str) -> Any:
    """A value that the contract allows."""
    if column.enum:
        found = column.enum[0]
        return found if kind == "BYTES" else _number(float(found), kind)
    if column.type == "String" or kind == "BYTES":
        return "a"
    low = None if column.minimum is None else float(column.minimum)
    high = None if column.maximum is None else float(column.maximum)
    value = 1.0
    if low is not None and high is not None:
        value = (low + high) / 2
    elif low is not None:
        value = max(low, value)
    elif high is not None:
        value = min(high, value)
    return _number(float(round(value)) if column.type == "Integer" else value, kind)


def _number(value: float, kind: str) -> Any:
    if kind == "BOOL":
        return bool(value)
    return value if kind.startswith(("FP", "BF")) else round(value)


def _plain(kind: str, value: int) -> Any:
    if kind == "BYTES":
        return "a"
    return _number(float(value), kind) if kind.startswith(_NUMBERS) or kind == "BOOL" else value
