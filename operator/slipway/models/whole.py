"""Resolving and fetching whole folders, for servers of one's own (``spec.runtime.server: External``).

A URI that names an ``.onnx`` file itself means that file and what it refers to, as for Slipway's own server.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slipway.contract import Built, BuiltBy, FetchTask, Hazards, ModelFault, Resolution, ResolveTask
from slipway.digest import DigestError, digest_of_folder, digest_of_listing
from slipway.models.faults import ModelError
from slipway.models.folder import MOST_BYTES, Whole
from slipway.models.marks import is_same
from slipway.models.onnx_file import MOST_OUTLINE, Outline, Tape, external_data
from slipway.models.signed import signer_of
from slipway.models.source import (
    NOBODY,
    SHORT_DIGEST,
    Source,
    check_digest,
    check_lengths,
    look_for_hazards,
    resolve,
    verified,
)
from slipway.models.target import Folder, Target
from slipway.models.trust import PROVENANCE_FILE, SIGNATURE_FILE, Trust
from slipway.names import NO_PROFILE

_log = logging.getLogger("slipway.models")

#: Files of a folder whose graphs are looked at, each by a process of its own.
_MOST_GRAPHS = 20
#: What may be said of an ``.onnx`` file's content.
_FINDINGS = (
    ModelFault.MODEL_HAZARD,
    ModelFault.NOT_AN_ONNX_MODEL,
    ModelFault.MODEL_LOAD_FAILED,
)


def resolve_whole(task: ResolveTask, source: Source, trust: Trust = NOBODY) -> Resolution:
    """Find which version and which files a URI means now; they are read once and kept nowhere.

    Raises :class:`ModelError` as :func:`slipway.models.source.resolve` does.
    """
    known = verified(task)
    if known is not None and (still := _still(known, task.uri, source)) is not None:
        return still
    whole = source.whole(task.uri)
    if whole is None:
        before = None if known is None or known.folder else known
        asked = task.model_copy(update={"folder": None, "known": before})
        return resolve(asked, source, trust).model_copy(update={"folder": False})
    if known is not None and known.folder and is_same(known.mark, whole.mark):
        return known
    check_lengths(task.uri, whole.uri, whole.version)
    target = Target(min(task.maxBytes or MOST_BYTES, MOST_BYTES))
    graphs = _Graphs(task)
    _bring(whole, target, graphs)
    if whole.mark is not None:
        _check_unchanged(whole, source.whole(task.uri), task.uri)
    digest = _digest(target)
    check_digest(task, digest)
    if known is None or known.digest != digest:
        graphs.scan(target.sizes)
    signer = _signer(whole, target, trust) if task.isSigned else None
    built = None if task.provenance is None else _built(whole, target, digest, task.provenance, trust)
    version = whole.version or digest.removeprefix("sha256:")[:SHORT_DIGEST]
    if known is not None and (known.digest, known.version) == (digest, version):
        return known.model_copy(update={"mark": whole.mark, "signedBy": signer, "provenance": built})
    created = whole.created_at
    return Resolution(
        uri=whole.uri,
        version=version,
        digest=digest,
        bytes=target.size,
        createdAt=created.strftime("%Y-%m-%dT%H:%M:%SZ") if created else None,
        mark=whole.mark,
        profile=NO_PROFILE,
        signedBy=signer,
        provenance=built,
        folder=True,
    )


def fetch_whole(task: FetchTask, source: Source, directory: Path) -> int:
    """Put the folder with the task's digest into ``directory``, all that it then holds; gives its size.

    May be run again at any time, as :func:`slipway.models.source.fetch` may. Raises :class:`ModelError`.
    """
    folder = Folder(directory, task.maxBytes)
    if _holds(directory, task.digest):
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    folder.clear()
    whole = source.whole(task.uri)
    try:
        if whole is not None:
            _bring(whole, folder, None)
        digest = _digest(folder)
    except ModelError:
        folder.clear()
        raise
    if digest != task.digest:
        folder.clear()
        raise ModelError(
            ModelFault.DIGEST_MISMATCH,
            f"{task.uri} now has the digest {digest}, but {task.digest} was resolved: somebody added, "
            "replaced or removed files of a version that was in use; restore them, or publish the new model "
            "as a new version",
        )
    folder.publish()
    return folder.size


def sums_of_folder(whole: Whole) -> dict[str, str]:
    """SHA-256 of each file but the signature and the provenance, by path. Raises :class:`ModelError`."""
    target = Target(MOST_BYTES)
    _bring(whole, target, None)
    return target.sums


def _still(known: Resolution, uri: str, source: Source) -> Resolution | None:
    still = source.still(uri, known)
    if still is not None or known.folder is not None:
        return still
    # An operator of before resolved its ONNX files alone. Until they change, they stay what is served.
    try:
        mark = source.locate(uri).mark
    except ModelError:
        return None
    return known if is_same(known.mark, mark) else None


def _bring(whole: Whole, target: Target, graphs: _Graphs | None) -> None:
    """Bring all files; ``graphs`` is given those that say that they are ONNX models."""
    files = [path for path in whole.sizes if path not in (SIGNATURE_FILE, PROVENANCE_FILE)]
    for path, pieces in whole.read(files):
        with target.file(path) as write:
            if graphs is not None and path.endswith(".onnx"):
                graphs.read(path, whole.describe(path), Tape(pieces, write))
            for piece in pieces:
                write(piece)
        listed = whole.sizes[path]
        if listed is not None and target.sizes[path] != listed:
            raise ModelError(
                ModelFault.MODEL_CHANGED,
                f"{whole.describe(path)} has {target.sizes[path]} bytes, but {listed} were listed: somebody "
                "changes the folder; it is tried again, publish a model once all its files are there",
            )


class _Graphs:
    """ONNX models in a folder, which are looked at as Slipway's own server would have them looked at.

    A server of one's own may take what is no ONNX model under such a name, so nothing is blocked unless
    ``spec.model.verify`` says so.
    """

    def __init__(self, task: ResolveTask) -> None:
        self._task = task
        self._outlines: dict[str, tuple[str, Outline]] = {}
        self._kept = 0

    def read(self, path: str, called: str, tape: Tape) -> None:
        """Keep an outline of one, within bounds for all together."""
        outline = Outline()
        with self._findings():
            external_data(tape, called, outline)
            self._kept += len(outline.content)
            if self._kept > MOST_OUTLINE or len(self._outlines) >= _MOST_GRAPHS:
                raise ModelError(
                    ModelFault.MODEL_HAZARD,
                    f"{called} is not looked at: {_MOST_GRAPHS} .onnx files of a folder are at most, and "
                    f"{MOST_OUTLINE // 1024**2} MiB of their graphs; give each model a folder of its own",
                )
            self._outlines[path] = (called, outline)

    def scan(self, sizes: Mapping[str, int]) -> None:
        """Look at them; ``sizes`` are those of all files."""
        for path, (called, outline) in self._outlines.items():
            folder = path.rpartition("/")[0]
            start = f"{folder}/" if folder else ""
            near = {
                name.removeprefix(start): size
                for name, size in sizes.items()
                if name.startswith(start) and name != path
            }
            with self._findings():
                look_for_hazards(self._task, outline, near, called)

    @contextmanager
    def _findings(self) -> Iterator[None]:
        try:
            yield
        except ModelError as error:
            if (self._task.hazards or Hazards()).onFinding == "Block" or error.reason not in _FINDINGS:
                raise
            _log.warning("taken on, as a server of one's own runs it: %s", error)


def _check_unchanged(before: Whole, after: Whole | None, uri: str) -> None:
    if after is None or not is_same(before.mark, after.mark):
        raise ModelError(
            ModelFault.MODEL_CHANGED,
            f"files of {uri} were added, replaced or removed while they were read: it is tried again; give "
            "each version a folder of its own",
        )


def _signer(whole: Whole, target: Target, trust: Trust) -> str:
    signed, where = _text(whole, SIGNATURE_FILE), whole.describe(SIGNATURE_FILE)
    return signer_of(signed, where, target.sums, trust, whole.manifest, is_whole=not whole.is_file)


def _built(whole: Whole, target: Target, digest: str, wanted: BuiltBy, trust: Trust) -> Built:
    from slipway.models.provenance import Subject, built

    beside, where = _text(whole, PROVENANCE_FILE), whole.describe(PROVENANCE_FILE)
    return built(beside, where, Subject(digest, target.sums, whole.manifest), wanted, trust)


def _text(whole: Whole, path: str) -> bytes | None:
    """A signature, cut once it is too large for one; None where there is none."""
    from slipway.models.signature import LARGEST_SIGNATURE

    bundle: bytearray | None = None
    try:
        for _, pieces in whole.read([path]):
            bundle = bytearray()
            for piece in pieces:
                bundle += piece
                if len(bundle) > LARGEST_SIGNATURE:
                    break
    except ModelError as error:
        # Stores that may not be listed deny what does not exist.
        if error.reason not in (ModelFault.MODEL_NOT_FOUND, ModelFault.MODEL_ACCESS_DENIED):
            raise
    return None if bundle is None else bytes(bundle)


def _digest(target: Target) -> str:
    try:
        return digest_of_listing(target.sums, target.sizes)
    except DigestError as error:
        raise ModelError(ModelFault.MODEL_LOAD_FAILED, str(error)) from error


def _holds(directory: Path, digest: str) -> bool:
    try:
        return digest_of_folder(directory) == digest
    except (DigestError, OSError):
        return False
