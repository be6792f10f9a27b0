"""``slipway pin``: what aliases, tags and branches mean, written into the files of a repository."""

from __future__ import annotations

import difflib
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.cli.edits import Edit, edited, pinned
from slipway.cli.errors import CommandError
from slipway.cli.manifests import called, documents, files_of
from slipway.cli.meant import Answers, by_cluster, by_stores
from slipway.cli.output import write
from slipway.cli.parts import Part, parts_of
from slipway.core.resolution import is_pinned
from slipway.names import API_VERSION, KIND


@dataclass(frozen=True)
class Pin:
    """A ModelDeployment in a file, and what is to be written there.

    Attributes:
        part: as it is.
        uri: for ``spec.model.uri``.
        digest: for ``spec.model.digest``.
    """

    part: Part
    uri: str
    digest: str

    @property
    def before(self) -> tuple[str, str | None]:
        """The URI and the digest as they are."""
        model = _model(self.part)
        return str(model["uri"]), model.get("digest") or None

    @property
    def is_change(self) -> bool:
        """Whether the file says something else."""
        return self.before != (self.uri, self.digest)

    def as_object(self) -> dict[str, Any]:
        """For ``-o``."""
        meta, (uri, digest) = self.part.value["metadata"], self.before
        return {
            "metadata": {name: meta[name] for name in ("name", "namespace") if name in meta},
            "source": self.part.file,
            "before": {"uri": uri, "digest": digest},
            "after": {"uri": self.uri, "digest": self.digest},
            "changed": self.is_change,
        }


@dataclass(frozen=True)
class _File:
    """A text with models in it, and the text that it is to be."""

    path: str
    text: str
    pins: tuple[Pin, ...]
    after: str


def run(arguments: Namespace) -> int:
    """Pin what is in the files; nothing is written unless all of it can be."""
    _check_outputs(arguments)
    answers = by_cluster(arguments) if arguments.from_cluster else by_stores()
    files = list(_files(arguments, answers))
    pins = [one for file in files for one in file.pins]
    if not pins:
        raise CommandError(
            f"{', '.join(map(called, arguments.paths))} holds no {KIND} of {API_VERSION} with a model"
        )
    for file in files:
        if arguments.diff:
            print("".join(_differences(file)), end="")
        elif file.path == "-" and not arguments.check:
            print(file.after, end="")
        elif file.after != file.text and not arguments.check:
            _write(file.path, file.after)
    if arguments.output is not None:
        items = [one.as_object() for one in pins]
        write(arguments.output, {"apiVersion": "v1", "kind": "List", "items": items})
    elif not arguments.diff:
        _tell(pins, arguments)
    return 1 if arguments.check and any(one.is_change for one in pins) else 0


def _check_outputs(arguments: Namespace) -> None:
    if arguments.output is None:
        return
    if arguments.diff:
        raise CommandError("--diff and -o both go to standard output: give one of them")
    if "-" in arguments.paths and not arguments.check:
        raise CommandError("with -, standard output is the pinned text: give -o with --check, or files")


def _files(arguments: Namespace, answers: Answers) -> Iterator[_File]:
    """Those that hold a model, each once."""
    names = {
        name: name != path
        for path in arguments.paths
        for name in files_of(path, recursive=arguments.recursive)
    }
    for name, may_be_template in names.items():
        text = _text(name)
        found = _parts(name, text, may_be_template=may_be_template)
        if found:
            pins = tuple(_pin(part, answers) for part in found)
            yield _File(name, text, pins, _after(text, pins))


def _text(path: str) -> str:
    """As it is, with its line ends."""
    try:
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{called(path)} cannot be read: {error}") from error


def _parts(path: str, text: str, *, may_be_template: bool) -> list[Part]:
    if KIND not in text:
        return []  # a folder holds much that is none of ours, and need not be YAML
    try:
        list(documents(called(path), text))
    except CommandError:
        if not (may_be_template and "{{" in text):
            raise
        print(f"{path}: left aside, as a template is no manifest yet", file=sys.stderr)
        return []
    # A patch of something else has no URI.
    return [part for part in parts_of(called(path), text) if _model(part).get("uri")]


def _model(part: Part) -> dict[str, Any]:
    spec = part.value.get("spec")
    model = spec.get("model") if isinstance(spec, dict) else None
    return model if isinstance(model, dict) else {}


def _pin(part: Part, answers: Answers) -> Pin:
    uri, digest = str(_model(part)["uri"]), _model(part).get("digest") or None
    if digest is not None and is_pinned(uri):
        return Pin(part, uri, digest)
    found = Pin(part, *answers(part))
    if digest not in (None, found.digest) and found.uri == uri:
        raise CommandError(
            f"{part.place}: {uri} has the digest {found.digest} now, and the file says {digest}: somebody "
            "replaced what it names; if that is wanted, take spec.model.digest out and pin again"
        )
    return found


def _after(text: str, pins: Sequence[Pin]) -> str:
    """The text with every pin in it.

    Raises:
        CommandError: where a model cannot be changed in its place.
    """
    edits: list[Edit] = []
    for one in pins:
        if one.is_change:
            edits += pinned(text, one.part, one.uri, one.digest)
    after = edited(text, edits)
    models = [_model(part) for part in parts_of("", after)]
    for one, model in zip(pins, [model for model in models if model.get("uri")], strict=True):
        if (model["uri"], model.get("digest")) != (one.uri, one.digest):
            raise CommandError(f"{one.part.place}: spec.model has a field twice: leave one of both")
    return after


def _tell(pins: Sequence[Pin], arguments: Namespace) -> None:
    out = sys.stderr if "-" in arguments.paths else sys.stdout
    for one in pins:
        uri, digest = one.before
        if not one.is_change:
            print(f"{one.part.place}: {uri} is pinned", file=out)
        elif uri == one.uri:
            gets = "would get" if arguments.check else "now has"
            print(f"{one.part.place}: {uri} {gets} the digest {one.digest}", file=out)
        else:
            before = f"{uri}, {digest}" if digest else uri
            becomes = "would be" if arguments.check else "is now"
            print(f"{one.part.place}: {before} {becomes} {one.uri}, {one.digest}", file=out)


def _differences(file: _File) -> Iterator[str]:
    name = called(file.path)
    before, after = (text.splitlines(keepends=True) for text in (file.text, file.after))
    for line in difflib.unified_diff(before, after, name, name):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_bytes(text.encode())
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
