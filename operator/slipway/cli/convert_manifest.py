"""``slipway convert-manifest``: KServe's InferenceServices in files, as ModelDeployments to apply."""

from __future__ import annotations

import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import yaml

from slipway.cli.errors import CommandError
from slipway.cli.inference_services import SOURCE_KIND, SOURCE_VERSION, Converted, convert
from slipway.cli.manifests import called, files_of, text_of
from slipway.cli.schema import complaints

_WIDTH = 110


def run(arguments: Namespace) -> int:
    """Print a ModelDeployment for each InferenceService; 1 where one of them has none."""
    made, failed = list[str](), 0
    files = [file for path in arguments.paths for file in files_of(path, recursive=arguments.recursive)]
    for file in files:
        for document in _documents(called(file), text_of(file)):
            try:
                made.append(_written(convert(document)))
            except CommandError as error:
                failed += 1
                print(f"error: {called(file)}: {error}", file=sys.stderr)
    if not made and not failed:
        raise CommandError(
            f"{', '.join(map(called, arguments.paths))} holds no {SOURCE_KIND} of {SOURCE_VERSION}"
        )
    print("---\n".join(made), end="")
    return 1 if failed else 0


def _documents(source: str, text: str) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandError(f"{source} cannot be read: {error}") from error
    for document in documents:
        for one in (
            document.get("items") or () if _kind(document) in ("List", f"{SOURCE_KIND}List") else (document,)
        ):
            if _kind(one) != SOURCE_KIND:
                continue
            if one.get("apiVersion") != SOURCE_VERSION:
                found = one.get("apiVersion")
                raise CommandError(f"{source}: an {SOURCE_KIND} of {found}; {SOURCE_VERSION} is known")
            yield one


def _kind(document: Any) -> Any:
    return document.get("kind") if isinstance(document, dict) else None


def _written(converted: Converted) -> str:
    """The ModelDeployment, below comments of what a person has to see to."""
    notes: list[str] = []
    for title, lines in (
        ("Not carried over:", converted.left),
        ("Check:", converted.check),
        ("The API server would refuse:", complaints(converted.manifest)),
    ):
        if lines:
            notes.append(title)
        for line in lines:
            notes += textwrap.wrap(f"- {line}", _WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False)
    text = yaml.safe_dump(converted.manifest, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return "".join(f"# {line}\n" for line in notes) + text
