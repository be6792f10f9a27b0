"""Fields of a ModelDeployment written where they stand in a file, whose every other letter stays.

A library that reads YAML and writes it again has a style of its own: quotes, indents and widths that people
chose would change with the field, and a review would be of all of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.cli.errors import CommandError
from slipway.cli.parts import Part, entry

#: What needs no quotes wherever it stands: no space, no quote, and nothing that a list or a map ends with.
_PLAIN = re.compile(r"[A-Za-z0-9][^\s'\"\[\]{},]*[^\s'\"\[\]{},:]")


@dataclass(frozen=True)
class Edit:
    """What is to be between two places of a text."""

    begin: int
    end: int
    text: str


def pinned(text: str, part: Part, uri: str, digest: str) -> list[Edit]:
    """The edits by which a model has this URI and this digest.

    Args:
        text: of the file.
        part: the ModelDeployment in it; its ``spec.model`` has a URI.
        uri: for ``spec.model.uri``.
        digest: for ``spec.model.digest``, which is put below the URI where there is none.

    Raises:
        CommandError: where the URI or the digest is not written out in one line.
    """
    model = _below(part, _below(part, part.node, "spec"), "model")
    key, value = entry(model, "uri")
    edits = [_scalar(text, part, "uri", key, value, uri)]
    given, old = entry(model, "digest")
    if old is not None:
        return [*edits, _scalar(text, part, "digest", given, old, digest)]
    begin, end = key.start_mark.index, value.end_mark.index
    line = text.rfind("\n", 0, begin) + 1
    newline = "\r\n" if "\r\n" in text else "\n"
    field = f'"digest": "{digest}"' if text[begin] == '"' else f"digest: {digest}"
    if not model.flow_style:
        rest = re.compile(r"[^\r\n]*").match(text, end)
        assert rest is not None
        return [*edits, Edit(rest.end(), rest.end(), f"{newline}{' ' * key.start_mark.column}{field}")]
    is_first = not text[line:begin].strip()
    return [*edits, Edit(end, end, f",{newline}{text[line:begin]}{field}" if is_first else f", {field}")]


def edited(text: str, edits: list[Edit]) -> str:
    """The text after edits that do not overlap."""
    for one in sorted(edits, key=lambda one: one.begin, reverse=True):
        text = text[: one.begin] + one.text + text[one.end :]
    return text


def _scalar(text: str, part: Part, name: str, key: Any, value: Any, new: str) -> Edit:
    """Another value, in the quotes of the old one."""
    if key is None:
        raise _refused(part, f"spec.model.{name}", key)
    begin, end = value.start_mark.index, value.end_mark.index
    old = text[begin:end]
    is_below = begin >= key.end_mark.index
    if is_below and not old:
        return Edit(begin, end, f" {new}")
    is_plain = value.style is None and old == value.value
    is_quoted = value.style in ("'", '"') and old[:1] == value.style and "\n" not in old
    if not is_below or not (is_plain or is_quoted):
        raise _refused(part, f"spec.model.{name}", key)
    if value.style == "'" and "'" not in new:
        return Edit(begin, end, f"'{new}'")
    is_json = text[key.start_mark.index] == '"' and value.tag == "tag:yaml.org,2002:null"
    return Edit(begin, end, new if is_plain and not is_json and _PLAIN.fullmatch(new) else json.dumps(new))


def _below(part: Part, node: Any, name: str) -> Any:
    key, value = entry(node, name)
    if key is None or value.start_mark.index < key.end_mark.index:
        raise _refused(part, name, key)
    return value


def _refused(part: Part, field: str, key: yaml.Node | None) -> CommandError:
    mark = (key or part.node).start_mark
    return CommandError(
        f"{part.file}:{mark.line + 1}: {field} of {part.value['metadata']['name']} is written by an anchor, "
        "an alias or over several lines, and cannot be changed where it stands: write it out, in one line"
    )
