"""The files in the layers of an artifact, a ModelPack or a modelcar, each layer a file or an archive."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Protocol, cast

from slipway.contract import ModelFault
from slipway.models.faults import ModelError, listed, shortened
from slipway.models.folder import Listing

_MOST_LAYERS = 500
#: Files of one model, over all its layers.
_MOST_FILES = 10_000
#: Where a layer's file is called: oras, ModelPack.
_TITLE = "org.opencontainers.image.title"
_NAMES = (_TITLE, "org.cncf.model.filepath", "org.cnai.model.filepath")
#: How files are called that may be archives without saying so otherwise.
_PACKED = (".tar", ".tar.gz", ".tgz")
#: The folder of a modelcar.
CAR = "models"
#: How a layer of an image says that a file below is gone, or all files of a folder.
_GONE, _ALL_GONE = ".wh.", ".wh..wh..opq"


class Blobs(Protocol):
    """A repository of a registry."""

    @property
    def called(self) -> str:
        """What messages call it."""

    def blob(self, digest: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a blob, which must have its digest."""


@dataclass(frozen=True)
class Blob:
    """A layer, or one file in it."""

    digest: str
    media_type: str
    #: In the archive that the layer is; empty where the layer is the file.
    member: str = ""
    size: int | None = None

    @classmethod
    def of(cls, layer: dict[str, Any]) -> Blob:
        """The layer of a manifest."""
        size = layer.get("size")
        return cls(
            str(layer.get("digest")),
            str(layer.get("mediaType")),
            size=size if isinstance(size, int) else None,
        )


class Layers:
    """The files of a manifest's layers."""

    def __init__(
        self, registry: Blobs, manifest: dict[str, Any], attached: Mapping[str, Blob] | None = None
    ) -> None:
        """``attached``: files next to the model that other artifacts have, where this one does not."""
        self._registry = registry
        self._attached = attached or {}
        self._files: dict[str, Blob] = {}
        #: What a whole folder may not have, in words.
        self._odd: list[str] = []
        layers = maps(manifest.get("layers"))
        if len(layers) > _MOST_LAYERS:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{registry.called} has {len(layers)} layers, and {_MOST_LAYERS} at most are read: push the "
                "model alone",
            )
        named = [(layer, title_of(layer)) for layer in layers]
        is_image = not any(name for _, name in named)
        self._below = f"{CAR}/" if is_image else ""
        for layer, name in named:
            blob = Blob.of(layer)
            if name and not _is_archive(blob.media_type, layer):
                self._files[_inside(name, registry.called)] = blob
            elif _is_archive(blob.media_type, layer) and (name or is_image):
                self._files.update(self._members(blob))
            if len(self._files) > _MOST_FILES:
                raise ModelError(
                    ModelFault.INVALID_MODEL_URI,
                    f"{registry.called} has more than {_MOST_FILES} files: push the model alone",
                )

    def has(self, path: str) -> bool:
        """Whether the manifest itself names a file next to the model."""
        return self._at(path) in self._files

    def sizes(self) -> dict[str, int | None]:
        """All files by path, as a whole folder has them; raises for what none may have."""
        listing = Listing(self._registry.called)
        if self._odd:
            raise listing.refused(f"has {self._odd[0]}")
        for path, blob in self._files.items():
            listing.add(path.removeprefix(self._below), blob.size)
        return listing.sizes()

    def describe_whole(self, path: str) -> str:
        return f"{path} of {self._registry.called}"

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The bytes of files, each layer read once."""
        layers: dict[str, dict[str, str]] = {}
        for path in paths:
            blob = self._files.get(f"{self._below}{path}")
            if blob is None:
                raise ModelError(
                    ModelFault.MODEL_NOT_FOUND, f"there is no {self.describe_whole(path)}: push it too"
                )
            layers.setdefault(blob.digest, {})[blob.member] = path
            if not blob.member:
                with self._registry.blob(blob.digest) as pieces:
                    yield path, pieces
        for digest, wanted in layers.items():
            if wanted.pop("", None) is None:
                yield from self._unpacked(digest, wanted)

    def _unpacked(self, digest: str, wanted: dict[str, str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Files of a layer that is an archive, by member."""
        with self._registry.blob(digest) as pieces:
            with _archive(pieces, self._registry.called) as archive:
                for member in archive:
                    path = wanted.pop(_clean(member.name), None) if member.isreg() else None
                    if path is not None:
                        yield path, _unpacking(archive, member, self._registry.called)
            for _ in pieces:
                # The digest is known of all of it alone.
                pass
        for path in wanted.values():
            raise ModelError(
                ModelFault.MODEL_CHANGED,
                f"{self.describe_whole(path)} is not in its layer any more: try again",
            )

    @cached_property
    def _main(self) -> str:
        return self._model()

    @property
    def main(self) -> str:
        return posixpath.basename(self._main)

    def describe(self, path: str) -> str:
        return f"{self._at(path)} of {self._registry.called}"

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        blob = self._files.get(self._at(path)) or self._attached.get(path)
        if blob is None:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self._main} of {self._registry.called} keeps weights in {path!r}, but there is no "
                f"{self._at(path)} next to it: push that file too, or save the model as one file",
            )
        with self._registry.blob(blob.digest) as pieces:
            if not blob.member:
                yield pieces
                return
            with _archive(pieces, self._registry.called) as archive:
                for member in archive:
                    if _clean(member.name) == blob.member and member.isreg():
                        yield _content(archive, member, pieces)
                        return
        raise ModelError(
            ModelFault.MODEL_CHANGED, f"{self.describe(path)} is not in its layer any more: try again"
        )

    def _at(self, path: str) -> str:
        return posixpath.join(posixpath.dirname(self._main), path)

    def _members(self, blob: Blob) -> dict[str, Blob]:
        """The files of a layer that is an archive, of an image those of its folder for models."""
        found: dict[str, Blob] = {}
        with self._registry.blob(blob.digest) as pieces, _archive(pieces, self._registry.called) as archive:
            for member in archive:
                name = _clean(member.name)
                if self._below and self._removes(name):
                    continue
                if not name.startswith(self._below) or not name:
                    if not (name or member.isdir()) and not self._below:
                        self._odd.append(f"{shortened(member.name, 100)!r}, which is not a file below it")
                    continue
                if name in found:
                    self._odd.append(f"{shortened(name, 100)!r} twice in one layer")
                if member.isreg():
                    found[name] = Blob(blob.digest, blob.media_type, name, member.size)
                elif not member.isdir():
                    self._odd.append(f"{shortened(name, 100)!r}, a link or a device")
                if len(found) > _MOST_FILES or len(self._odd) > _MOST_FILES:
                    break
            for _ in pieces:
                # Which files there are is as much of the layer as their bytes.
                pass
        return found

    def _removes(self, name: str) -> bool:
        """Whether an entry of an image's layer says which files of the layers below are gone."""
        folder, base = posixpath.split(name)
        if not base.startswith(_GONE):
            return False
        gone = folder if base == _ALL_GONE else posixpath.join(folder, base.removeprefix(_GONE))
        for path in [path for path in self._files if path == gone or path.startswith(f"{gone}/")]:
            del self._files[path]
        return True

    def _model(self) -> str:
        models = sorted(name for name in self._files if name.endswith(".onnx"))
        cars = [name for name in models if name.startswith(f"{CAR}/")]
        models = cars or models
        if len(models) == 1:
            return models[0]
        if models:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{self._registry.called} has several .onnx files ({listed(models)}): push each under a name "
                "of its own",
            )
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{self._registry.called} has no .onnx file; it holds: {listed(sorted(self._files))}. Push it "
            f"with 'oras push {self._registry.called}:TAG model.onnx'",
        )


def maps(value: object) -> list[dict[str, Any]]:
    """The objects of a list in JSON."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def title_of(layer: dict[str, Any]) -> str:
    """What a layer's file is called; empty where it is not."""
    notes = layer.get("annotations")
    names = [notes.get(key) for key in _NAMES] if isinstance(notes, dict) else []
    return next((name for name in names if isinstance(name, str) and name), "")


def _is_archive(media_type: str, layer: dict[str, Any]) -> bool:
    notes = layer.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    # By its media type each file that oras pushes is one.
    is_file = _TITLE in notes and not str(notes[_TITLE]).endswith(_PACKED)
    is_tar = not is_file and re.search(r"[.+]tar\b", media_type) is not None
    return is_tar or notes.get("io.deis.oras.content.unpack") == "true"


def _inside(name: str, called: str) -> str:
    path = _clean(name)
    if not path:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"a layer of {called} is called {shortened(name, 80)!r}, which is no file in a folder: push it "
            "from the folder of the model",
        )
    return path


def _clean(name: str) -> str:
    path = posixpath.normpath(name)
    return "" if path.startswith(("/", "..")) or path == "." or not path.isprintable() else path


class _Stream:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, count: int) -> bytes:
        while len(self._held) < count and (piece := next(self._pieces, b"")):
            self._held += piece
        found, self._held = self._held[:count], self._held[count:]
        return found


@contextmanager
def _archive(pieces: Iterator[bytes], called: str) -> Iterator[tarfile.TarFile]:
    with ExitStack() as stack:
        stack.enter_context(_understood(called))
        yield stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], _Stream(pieces)), mode="r|*"))


@contextmanager
def _understood(called: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ModelError(
            ModelFault.MODEL_TRUNCATED,
            f"a layer of {called} cannot be unpacked ({shortened(str(error), 100)}): push it again, as "
            "tar or gzip",
        ) from None


def _unpacking(archive: tarfile.TarFile, member: tarfile.TarInfo, called: str) -> Iterator[bytes]:
    """A file's bytes, while the archive goes on to the next one afterwards."""
    with _understood(called):
        file = archive.extractfile(member)
        while file is not None and (piece := file.read(1024 * 1024)):
            yield piece


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A file's bytes; then the rest of its layer is read, whose digest is known of all of it alone."""
    file = archive.extractfile(member)
    while file is not None and (piece := file.read(1024 * 1024)):
        yield piece
    for _ in pieces:
        pass
