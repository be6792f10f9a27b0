"""The one interface that every scheme of model URIs has, and what resolving and fetching make of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from slipway.contract import (
    LONGEST_URI,
    LONGEST_VERSION,
    Built,
    BuiltBy,
    FetchTask,
    Hazards,
    ModelFault,
    Proved,
    Resolution,
    ResolveTask,
)
from slipway.digest import DigestError, digest_of, digest_of_sums, sha256_of
from slipway.models.faults import ModelError
from slipway.models.folder import Whole
from slipway.models.marks import BESIDE, is_same
from slipway.models.onnx_file import Outline, Tape, external_data
from slipway.models.signed import Signable, signer_of
from slipway.models.target import Folder, Target
from slipway.models.trust import PROVENANCE_FILE, SIGNATURE_FILE, Trust
from slipway.names import LARGEST_PROFILE, NO_PROFILE, PROFILE_FILE

_log = logging.getLogger("slipway.models")

#: Hexadecimal digits of the digest that make the version where the source has no versions of its own.
SHORT_DIGEST = 12
NOBODY = Trust()


class Files(Protocol):
    """The files of one version of a model, wherever they are."""

    @property
    def main(self) -> str:
        """The file name of the ONNX model; other files are found beside it."""

    def describe(self, path: str) -> str:
        """What messages call a file: an address without secrets."""

    def open(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a file beside :attr:`main`, in pieces of at most a few MiB; raises ``ModelError``."""


@dataclass(frozen=True)
class Located:
    """Where a URI leads now: ``uri`` leads there again, ``version`` is the source's own if it has them.

    ``created_at`` is when the source registered the version, if it says so.
    """

    uri: str
    version: str | None
    files: Files
    created_at: datetime | None = None
    #: The store's own mark of the bytes, such as an ETag. ``whole``: of all that is next to the model, too,
    #: else of the main file alone, which says nothing of weights and profile.
    mark: str | None = None
    whole: bool = False
    #: Another mark, in one request more, of the main file as located and all that is next to it now; None
    #: where the store does not tell. It begins with :data:`slipway.models.marks.BESIDE`.
    beside: Callable[[], str | None] | None = None
    #: What names the files and may be signed itself, where the store has that.
    manifest: Signable | None = None


class Source(Protocol):
    """One scheme of model URIs."""

    def locate(self, uri: str) -> Located:
        """Find the model's files; raises :class:`ModelError` with a reason and a next step."""

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """What is known, where a URI leads to it now as before and that costs two requests or so to find out.

        None where it does not, or is not known. Its mark may be another one: what a look found out of the
        store makes the next one cheaper. Raises as :meth:`locate` does.
        """

    def whole(self, uri: str) -> Whole | None:
        """List all files at a URI; None where it names an ``.onnx`` file, which is to be located.

        Raises as :meth:`locate` does, and for what is beyond the bounds of :mod:`slipway.models.folder`.
        """


def resolve(task: ResolveTask, source: Source, trust: Trust = NOBODY) -> Resolution:
    """Find which version and which bytes a URI means now; the bytes are read once and kept nowhere.

    They are not read where the task says what the last look found and the store says that nothing changed.
    Raises :class:`ModelError`, ``DIGEST_MISMATCH`` among others where the task knows the digest.
    """
    known = verified(task)
    if known is not None and (still := source.still(task.uri, known)) is not None:
        return still
    located = source.locate(task.uri)
    mark, whole = located.mark, located.whole
    if known is not None and located.beside is not None and (known.mark or "").startswith(BESIDE):
        mark, whole = located.beside(), True
    if known is not None and is_same(known.mark, mark):
        is_covered = whole and known.profile is not None
        again = known if is_covered else _with_profile(known, located)
        if again == known:
            return known
        if not task.isSigned:
            return again.model_copy(update={"conversion": _found_proof(located.files, known.digest)})
    check_lengths(task.uri, located.uri, located.version)
    target, outline = Target(task.maxBytes), Outline()
    marks = _Marks(located)
    _bring(located.files, target, outline, marks.look_beside)
    digest = _digest(target)
    check_digest(task, digest)
    if known is None or known.digest != digest:
        main = located.files.main
        near = {path: size for path, size in target.sizes.items() if path != main}
        look_for_hazards(task, outline, near, located.files.describe(main))
    conversion = _found_proof(located.files, digest)
    signer = None
    if task.isSigned:
        signer, conversion = _signer(target, located, digest, conversion, trust)
    built = None
    if task.provenance is not None:
        built = _built(target, located, digest, task.provenance, trust)
    version = located.version or digest.removeprefix("sha256:")[:SHORT_DIGEST]
    created = located.created_at
    mark = marks.mark
    if known is not None and (known.digest, known.version) == (digest, version):
        # The same bytes by another name, such as a later commit: no reason for another revision.
        found = {"mark": mark, "signedBy": signer, "conversion": conversion, "provenance": built}
        return _with_profile(known.model_copy(update=found), located)
    return Resolution(
        uri=located.uri,
        version=version,
        digest=digest,
        bytes=target.size,
        createdAt=created.strftime("%Y-%m-%dT%H:%M:%SZ") if created else None,
        mark=mark,
        profile=_found_profile(located.files, digest),
        signedBy=signer,
        conversion=conversion,
        provenance=built,
    )


def verified(task: ResolveTask) -> Resolution | None:
    """What is known of the last look; None where that did not verify what the task wants."""
    known = task.known
    if known is None or (task.isSigned and known.signedBy is None):
        return None
    return None if task.provenance is not None and known.provenance is None else known


def check_lengths(uri: str, pinned: str, version: str | None) -> None:
    """Raise :class:`ModelError` for an address or a version that no status holds."""
    if len(pinned) > LONGEST_URI or len(version or "") > LONGEST_VERSION:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"{uri[:200]} leads to an address of {len(pinned)} characters and a version of "
            f"{len(version or '')}, and {LONGEST_URI} and {LONGEST_VERSION} at most are kept: give "
            "the model a shorter name",
        )


def check_digest(task: ResolveTask, digest: str) -> None:
    """Raise :class:`ModelError` where the spec pins another digest."""
    if task.digest is not None and digest != task.digest:
        raise ModelError(
            ModelFault.DIGEST_MISMATCH,
            f"{task.uri} has the digest {digest}, but spec.model.digest asks for {task.digest}: "
            "if the new model is wanted, set spec.model.digest to its digest, otherwise restore the model",
        )


def _signer(
    target: Target, located: Located, digest: str, conversion: Proved | None, trust: Trust
) -> tuple[str, Proved | None]:
    """Who signed the model's files and the profile that comes with them; raises ``ModelError``.

    And the proof, which proves nothing where it is not signed, too.
    """
    from slipway.models.signature import LARGEST_SIGNATURE

    files = located.files
    where = files.describe(SIGNATURE_FILE)
    bundle = _text(files, SIGNATURE_FILE, LARGEST_SIGNATURE)
    profile = _found_profile(files, digest)
    sums = dict(target.sums)
    if profile != NO_PROFILE:
        sums[PROFILE_FILE] = profile.removeprefix("sha256:")
    signer = signer_of(bundle, where, sums, trust, located.manifest)
    if conversion is None or conversion.digest is None:
        return signer, conversion
    from slipway.models.proof import PROOF_FILE, unproved

    try:
        sums = {PROOF_FILE: conversion.digest.removeprefix("sha256:")}
        signer_of(bundle, where, sums, trust, located.manifest)
    except ModelError:
        signed = "no signature covers" if bundle is None else f"{SIGNATURE_FILE} does not cover"
        problem = f"{signed} it as it is: sign the whole folder again"
        return signer, unproved(problem, conversion.digest)
    return signer, conversion


def _built(target: Target, located: Located, digest: str, wanted: BuiltBy, trust: Trust) -> Built:
    """Where the model was built; raises ``ModelError``."""
    from slipway.models.provenance import Subject, built
    from slipway.models.signature import LARGEST_SIGNATURE

    beside = _text(located.files, PROVENANCE_FILE, LARGEST_SIGNATURE)
    subject = Subject(digest, target.sums, located.manifest)
    return built(beside, located.files.describe(PROVENANCE_FILE), subject, wanted, trust)


def look_for_hazards(task: ResolveTask, outline: Outline, near: Mapping[str, int], called: str) -> None:
    """Look at a model's graph, as the task says; ``near``: bytes of files next to it, by path.

    Raises :class:`ModelError`.
    """
    # Neither of both is needed before a model was read.
    from slipway.models.hazard_scan import scan
    from slipway.models.hazard_tables import Around

    wanted = task.hazards or Hazards()
    around = Around(files=near, domains=wanted.allowedOperatorDomains, memory=wanted.memoryBytes or 0)
    try:
        scan(outline, around, called)
    except ModelError as error:
        if error.reason != ModelFault.MODEL_HAZARD or wanted.onFinding == "Block":
            raise
        _log.warning("a hazard is taken on, as the ModelDeployment says: %s", error)


def _with_profile(known: Resolution, located: Located) -> Resolution:
    """What is known, with the profile that is beside the model now: by another address if it is another."""
    profile = _found_profile(located.files, known.digest)
    return (
        known
        if profile == known.profile
        else known.model_copy(update={"profile": profile, "uri": located.uri})
    )


def _found_proof(files: Files, digest: str) -> Proved | None:
    """What the proof of its conversion says; None where there is none. No model waits for it."""
    from slipway.models.proof import LARGEST_PROOF, PROOF_FILE, proved, unproved

    where = files.describe(PROOF_FILE)
    try:
        text = _text(files, PROOF_FILE, LARGEST_PROOF)
    except ModelError as error:
        _log.warning("%s cannot be read: %s", where, error)
        return unproved(f"it could not be read ({error.reason})")
    if text is None:
        return None
    found = proved(text, digest)
    if found is not None and found.problem is not None:
        _log.warning("%s proves nothing of the model: %s", where, found.problem)
    return found


def fetch(task: FetchTask, source: Source, directory: Path) -> int:
    """Put the files with the task's digest into ``directory``, all that it then holds; gives their size.

    May be run again at any time: files that are there already are kept, half-finished work is cleared.
    A profile that is not the task's is no more brought than a model that is not. Raises :class:`ModelError`.
    """
    folder = Folder(directory, task.maxBytes)
    if _holds(directory, task.digest, task.profile):
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    folder.clear()
    located = source.locate(task.uri)
    _bring(located.files, folder)
    digest = _digest(folder)
    if digest != task.digest:
        folder.clear()
        raise ModelError(
            ModelFault.DIGEST_MISMATCH,
            f"{task.uri} now has the digest {digest}, but {task.digest} was resolved: somebody replaced the "
            "files of a version that was in use; restore them, or publish the new model as a new version",
        )
    try:
        _bring_profile(located.files, folder, task)
    except ModelError:
        folder.clear()
        raise
    folder.publish()
    return folder.size


def digest_of_files(files: Files) -> str:
    """The digest of a model's files, which are read once and kept nowhere. Raises :class:`ModelError`."""
    target = Target()
    _bring(files, target)
    return _digest(target)


def sums_of_files(files: Files) -> dict[str, str]:
    """SHA-256 of what a signature has to cover, by path: a model's files, and its profile and its proof.

    Raises :class:`ModelError`.
    """
    from slipway.models.proof import LARGEST_PROOF, PROOF_FILE

    target = Target()
    _bring(files, target)
    found = dict(target.sums)
    for path, most in ((PROFILE_FILE, LARGEST_PROFILE), (PROOF_FILE, LARGEST_PROOF)):
        text = _text(files, path, most)
        if text is not None and len(text) <= most:
            found[path] = hashlib.sha256(text).hexdigest()
    return found


class _Marks:
    """The mark of all files that a model turns out to have."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self.mark = located.mark

    def look_beside(self) -> None:
        """There are weights next to the model, of which none was read: what replaces them later is news."""
        if not self._located.whole:
            beside = self._located.beside
            self.mark = beside() if beside is not None else None


def _bring(
    files: Files,
    target: Target,
    outline: Outline | None = None,
    before_weights: Callable[[], None] = lambda: None,
) -> None:
    with files.open(files.main) as pieces, target.file(files.main) as write:
        beside = external_data(Tape(pieces, write), files.describe(files.main), outline)
    if any(path != files.main for path in beside):
        before_weights()
    for path in beside:
        if path == files.main:
            continue
        if path == PROFILE_FILE:
            raise ModelError(
                ModelFault.MODEL_LOAD_FAILED,
                f"{files.describe(files.main)} keeps weights in {PROFILE_FILE}, which is the name of the "
                "model's profile: save its weights under another name",
            )
        with files.open(path) as pieces, target.file(path) as write:
            for piece in pieces:
                write(piece)


def _bring_profile(files: Files, folder: Folder, task: FetchTask) -> None:
    """Store the pinned profile beside the model; without a pin, the one of this model if there is one."""
    where = files.describe(PROFILE_FILE)
    if task.profile == NO_PROFILE:
        _log.info("the model was resolved without %s: its inputs are not watched", PROFILE_FILE)
        return
    text = _profile_text(files)
    if task.profile is not None:
        _check_profile(text, task.profile, where)
    if text is None or not _is_usable(text, task.digest, where):
        return
    with folder.file(PROFILE_FILE) as write:
        write(text)
    _log.info("%s is used", where)


def _check_profile(text: bytes | None, pinned: str, where: str) -> None:
    found = None if text is None else _sha256(text)
    if found == pinned:
        return
    what = (
        f"is gone, but {pinned} was resolved" if found is None else f"is {found}, but {pinned} was resolved"
    )
    raise ModelError(
        ModelFault.DIGEST_MISMATCH,
        f"{where} {what}: somebody changed the profile of a version that was in use; restore it, or publish "
        "the model with its new profile as a new version",
    )


def _found_profile(files: Files, digest: str) -> str:
    """The digest of the profile beside the model, if it can be used; else :data:`NO_PROFILE`."""
    text = _profile_text(files)
    if text is None or not _is_usable(text, digest, files.describe(PROFILE_FILE)):
        return NO_PROFILE
    return _sha256(text)


def profile_at(source: Source, uri: str) -> bytes | None:
    """The profile beside the model at a pinned URI; None where there is none. Raises :class:`ModelError`."""
    return _profile_text(source.locate(uri).files)


def _is_usable(text: bytes, digest: str, where: str) -> bool:
    from slipway.profile import ProfileError, read_profile

    try:
        read_profile(text, digest)
    except ProfileError as error:
        _log.warning("%s is not used: %s", where, error)
        return False
    return True


def _profile_text(files: Files) -> bytes | None:
    """The profile's bytes, cut once they are too many for one; None where there are none."""
    text = _text(files, PROFILE_FILE, LARGEST_PROFILE)
    if text is None:
        _log.info("there is no %s beside the model: its inputs are not watched", PROFILE_FILE)
    return text


def _text(files: Files, path: str, most: int) -> bytes | None:
    """A file beside the model, cut once it is larger than that many bytes; None where there is none."""
    text = bytearray()
    try:
        with files.open(path) as pieces:
            for piece in pieces:
                text += piece
                if len(text) > most:
                    break
    except ModelError as error:
        # Stores that may not be listed deny what does not exist.
        if error.reason not in (ModelFault.MODEL_NOT_FOUND, ModelFault.MODEL_ACCESS_DENIED):
            raise
        return None
    return bytes(text)


def _sha256(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _digest(target: Target) -> str:
    try:
        return digest_of_sums(target.sums)
    except DigestError as error:
        raise ModelError(ModelFault.MODEL_LOAD_FAILED, str(error)) from error


def _holds(directory: Path, digest: str, profile: str | None) -> bool:
    try:
        if digest_of(directory) != digest:
            return False
        beside = directory / PROFILE_FILE
        found = f"sha256:{sha256_of(beside)}" if beside.exists() else NO_PROFILE
    except (DigestError, OSError):
        return False
    return profile in (None, found)
