"""Objects on standard output, in the formats that kubectl has."""

from __future__ import annotations

import json
from typing import Any

from slipway.names import GROUP, KIND


def write(output: str, found: Any) -> None:
    """Print one object, or a list of objects, as ``json``, ``yaml`` or ``name``."""
    print(formatted(output, found))


def formatted(output: str, found: Any) -> str:
    """The same as text, without a line's end."""
    if output == "json":
        return json.dumps(found, indent=2, ensure_ascii=False)
    if output == "yaml":
        import yaml

        return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip("\n")
    items = found.get("items", [found])
    return "\n".join(f"{KIND.lower()}.{GROUP}/{item['metadata']['name']}" for item in items)
