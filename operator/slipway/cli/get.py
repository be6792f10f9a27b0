"""``kubectl slipway get``: a list, read from the objects as they are, whatever version wrote them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from slipway.cli.ages import age
from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.cli.output import write
from slipway.cli.terminal import Line, Tone, is_colored, lay_out
from slipway.cli.terminal import table as laid_table

Cell = Callable[[Mapping[str, Any]], str]
_NONE = "-"


def run(arguments: Namespace) -> int:
    """Print a table, or the objects; 1 where a name that was given is not there."""
    there = Cluster(arguments)
    if arguments.names and (arguments.all_namespaces or arguments.selector):
        raise CommandError("give either names, or --selector and --all-namespaces")
    found = (
        [there.get(name) for name in arguments.names]
        if arguments.names
        else there.select(arguments.selector or "", everywhere=arguments.all_namespaces)
    )
    if arguments.output in ("json", "yaml", "name"):
        if len(arguments.names) == 1:
            write(arguments.output, found[0])
        elif found or arguments.output != "name":
            write(arguments.output, {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": found})
        return 0
    if not found:
        where = "any namespace" if arguments.all_namespaces else f"namespace {there.namespace}"
        print(f"no ModelDeployments found in {where}", file=sys.stderr)
        return 0
    lines = table(
        found,
        datetime.now(UTC),
        wide=arguments.output == "wide",
        namespaces=arguments.all_namespaces,
        headers=not arguments.no_headers,
    )
    print(lay_out(lines, None, color=is_colored(arguments.color)))
    return 0


def table(
    found: list[dict[str, Any]], now: datetime, *, wide: bool, namespaces: bool, headers: bool
) -> list[Line]:
    """A line for each ModelDeployment, below the names of the columns."""
    names, rows = cells(found, now, wide=wide, namespaces=namespaces)
    return laid_table(names, rows, [_tone(one) for one in found], headers=headers)


def cells(
    found: Sequence[dict[str, Any]], now: datetime, *, wide: bool, namespaces: bool
) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and a row for each ModelDeployment."""
    columns: dict[str, Cell] = {}
    if namespaces:
        columns["NAMESPACE"] = lambda one: str(one["metadata"].get("namespace", ""))
    columns |= {
        "NAME": lambda one: str(one["metadata"]["name"]),
        "READY": lambda one: _condition(one, "Ready"),
        "VERSION": lambda one: _at(one, "stable", "version"),
        "CANARY": lambda one: _at(one, "canary", "version"),
        "WEIGHT": _weight,
        "ROLLOUT": lambda one: _at(one, "rollout", "phase"),
        "PODS": _pods,
        "DRIFT": lambda one: _condition(one, "Drift"),
        "AGE": lambda one: age(str(one["metadata"].get("creationTimestamp", "")), now),
    }
    if wide:
        columns |= {
            "REASON": lambda one: _condition(one, "Ready", "reason"),
            "REVISION": lambda one: _at(one, "stable", "revision"),
            "DIGEST": lambda one: _at(one, "stable", "digest")[:19],
            "MODEL": lambda one: str(((one.get("spec") or {}).get("model") or {}).get("uri", _NONE)),
            "URL": lambda one: _at(one, "url"),
        }
    return list(columns), [[cell(one) for cell in columns.values()] for one in found]


def _at(one: Mapping[str, Any], *path: str) -> str:
    found: Any = one.get("status")
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return _NONE if found in (None, "") else str(found)


def _weight(one: Mapping[str, Any]) -> str:
    weight = _at(one, "canaryWeight")
    return weight if weight == _NONE else f"{weight}%"


def _pods(one: Mapping[str, Any]) -> str:
    ready, all_ = _at(one, "readyReplicas"), _at(one, "replicas")
    return f"{'0' if ready == _NONE else ready}/{'0' if all_ == _NONE else all_}"


def _condition(one: Mapping[str, Any], type_: str, part: str = "status") -> str:
    """Drift is told from its condition as the others are; a model without monitoring has none."""
    for found in (one.get("status") or {}).get("conditions") or ():
        if found.get("type") == type_:
            return str(found.get(part, _NONE))
    return _NONE


def _tone(one: Mapping[str, Any]) -> Tone:
    if _condition(one, "Ready") != "True" or _condition(one, "Stalled") == "True":
        return Tone.BAD
    bad = {
        **{"Drift": "True", "DataQuality": "False", "Performance": "False", "Fairness": "False"},
        "Crashing": "True",
    }
    if any(_condition(one, type_) == value for type_, value in bad.items()):
        return Tone.BAD
    under_way = _at(one, "rollout", "phase") != _NONE or _condition(one, "Suspended") == "True"
    return Tone.WAITING if under_way else Tone.PLAIN
