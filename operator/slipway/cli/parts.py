"""ModelDeployments in a text of YAML, and where each of their parts stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.names import GROUP, KIND


@dataclass(frozen=True)
class Part:
    """A ModelDeployment in a file: its value, and the nodes that it was read from."""

    file: str
    value: dict[str, Any]
    node: yaml.MappingNode

    @property
    def place(self) -> str:
        """Its file and its name, for people; it has one."""
        meta = self.value["metadata"]
        name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
        return f"{self.file}: {name}"


def parts_of(file: str, text: str) -> Iterator[Part]:
    """Those of a text, of whatever version of the API, in lists of kubectl too.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: where it cannot be read.
    """
    nodes = list(yaml.compose_all(text, yaml.SafeLoader))
    for value, node in zip(yaml.safe_load_all(text), nodes, strict=True):
        yield from _ours(file, value, node)


def entry(node: Any, step: str | int) -> tuple[Any, Any]:
    """The key, where there is one, and the value of a part; Nones where there is no such part."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), (None, None))
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


def _ours(file: str, value: Any, node: Any) -> Iterator[Part]:
    if not isinstance(value, dict):
        return
    kind = value.get("kind")
    if kind in ("List", f"{KIND}List") and isinstance(value.get("items"), list):
        items = entry(node, "items")[1]
        for number, item in enumerate(value["items"]):
            yield from _ours(file, item, items.value[number])
    elif kind == KIND and str(value.get("apiVersion", "")).partition("/")[0] == GROUP:
        yield Part(file, value, node)
