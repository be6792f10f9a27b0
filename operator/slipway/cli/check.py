"""``slipway check``: what the API server would refuse, by file and line, without a cluster."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from slipway.cli.manifests import called, files_of, text_of
from slipway.cli.markdown import MOST, plain
from slipway.cli.parts import Part, entry, parts_of
from slipway.cli.schema import located
from slipway.cli.version import client_version
from slipway.names import API_VERSION, KIND

_RULE = "invalid-modeldeployment"
#: Errors of one step that GitHub shows; of a whole run it shows 50.
ANNOTATIONS = 10


@dataclass(frozen=True)
class Finding:
    """A fault, and where it is; lines and columns begin at 1."""

    file: str
    line: int
    column: int
    name: str
    message: str


def run(arguments: Namespace) -> int:
    """Print what is wrong; 1 where something is."""
    files = [file for path in arguments.paths for file in files_of(path, recursive=arguments.recursive)]
    findings, checked = list[Finding](), 0
    for file in files:
        text = text_of(file)
        if KIND not in text:
            continue  # a folder holds much that is none of ours, and need not be YAML
        try:
            parts = list(parts_of(called(file), text))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            if "{{" in text and file not in arguments.paths:
                print(f"{file}: left aside, as a template is no manifest yet", file=sys.stderr)
            else:
                findings.append(_unreadable(called(file), error))
            continue
        checked += len(parts)
        findings += [finding for part in parts for finding in _faults(part)]
        findings += _twins(parts)
    findings.sort(key=lambda one: (one.file, one.line, one.column))
    if arguments.format == "github":
        _tell_github(findings, checked)
    else:
        print(_WRITERS[arguments.format](findings), end="")
    print(f"{checked} {KIND}s in {len(files)} files, {len(findings)} faults", file=sys.stderr)
    return 1 if findings else 0


def _faults(part: Part) -> Iterator[Finding]:
    if part.value["apiVersion"] != API_VERSION:
        yield _found(part, ("apiVersion",), f"apiVersion: this version knows {API_VERSION}")
        return
    metadata = part.value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        yield _found(part, ("metadata", "name"), "metadata.name: Required value")
        return
    for path, message in located(part.value):
        yield _found(part, path, message)


def _twins(parts: Sequence[Part]) -> Iterator[Finding]:
    """Those that are in a file twice; in files of their own they may be for different clusters."""
    seen: set[tuple[str, str]] = set()
    for part in parts:
        metadata = part.value.get("metadata")
        if not isinstance(metadata, dict):
            continue
        place = (str(metadata.get("namespace")), str(metadata.get("name")))
        if place in seen:
            yield _found(part, ("metadata", "name"), f"metadata.name: {place[1]} is in this file twice")
        seen.add(place)


def _found(part: Part, path: Sequence[str | int], message: str) -> Finding:
    """At the deepest part of the path that is there."""
    mark, node = part.node.start_mark, part.node
    for step in path:
        key, child = entry(node, step)
        if child is None:
            break
        mark, node = (key or child).start_mark, child
    metadata = part.value.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    return Finding(part.file, mark.line + 1, mark.column + 1, name, message)


def _unreadable(file: str, error: Exception) -> Finding:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error) or "its lists hold one another"
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Finding(file, line, column, "", f"this is no YAML: {problem}")


def _text(findings: Sequence[Finding]) -> str:
    return "".join(f"{one.file}:{one.line}:{one.column}: {one.message}\n" for one in findings)


def _tell_github(findings: Sequence[Finding], checked: int) -> None:
    """Annotations as far as GitHub shows them; the log and the run's summary have every fault."""
    from slipway.cli.github import append_summary, stop_commands

    shown = findings if len(findings) <= ANNOTATIONS else findings[: ANNOTATIONS - 1]
    print("".join(map(_annotation, shown)), end="")
    if more := findings[len(shown) :]:
        told = f"and {len(more)} more faults, in {len({one.file for one in more})} files"
        print(f"::error title=slipway check::{told}: the log of this step has them, and the run's summary")
        end = stop_commands()
        print(_text(more), end="")
        print(end)
    append_summary(_summary(findings, checked))


def _annotation(one: Finding) -> str:
    """A workflow command: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""

    def data(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def value(text: str) -> str:
        return data(text).replace(":", "%3A").replace(",", "%2C")

    where = f"file={value(one.file)},line={one.line},col={one.column}"
    return f"::error {where},title={value(one.name or KIND)}::{data(one.message)}\n"


def _json(findings: Sequence[Finding]) -> str:
    return json.dumps([vars(one) for one in findings], indent=2, ensure_ascii=False) + "\n"


def _sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0: https://docs.oasis-open.org/sarif/sarif/v2.1.0/."""
    results = [
        {
            "ruleId": _RULE,
            "level": "error",
            "message": {"text": one.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": one.file},
                        "region": {"startLine": one.line, "startColumn": one.column},
                    }
                }
            ],
        }
        for one in findings
    ]
    rule = {"id": _RULE, "shortDescription": {"text": f"The API server would refuse this {KIND}."}}
    driver = {"name": "slipway", "version": client_version(), "rules": [rule]}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _summary(findings: Sequence[Finding], checked: int) -> str:
    """Markdown for a workflow's summary; what is too long is cut, and says so."""
    if not findings:
        return f"**slipway check**: {checked} {KIND}s, no fault.\n"
    text = (
        f"**slipway check**: {checked} {KIND}s, {len(findings)} faults.\n\n| Where | What |\n| --- | --- |\n"
    )
    for number, one in enumerate(findings):
        row = f"| `{plain(one.file)}:{one.line}` | {plain(one.message)} |\n"
        rest = f"\n… and {len(findings) - number} more.\n"
        if len(text) + len(row) + len(rest) > MOST:
            return text + rest
        text += row
    return text


_WRITERS = {"text": _text, "json": _json, "sarif": _sarif}
