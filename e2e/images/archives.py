"""Archives of the images in the cache, one per content key, and which of them the cluster holds."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.command import exclusive, run, step, tell
from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings
from e2e.cluster.tools import Tools
from e2e.images.builders import choose_builder
from e2e.images.catalog import Image, content_key

ARCHIVES_KEPT = 3


@dataclass(frozen=True)
class Archive:
    """An image as a file that `e2e.cluster load` takes."""

    image: Image
    path: Path


def build(images: Iterable[Image], cache: Path, *, force: bool = False) -> list[Archive]:
    """Build what changed since it was last built; returns one archive per image, in the order given."""
    folder, wanted = cache / "images", list(images)
    folder.mkdir(parents=True, exist_ok=True)
    builder = choose_builder(cache)
    if not force and (key := builder.made_key()):
        # Nothing is built or waited for where all is there, whichever builder made it.
        archives = [_archive(image, folder, key) for image in wanted]
        if all(archive.path.exists() for archive in archives):
            for archive in archives:
                archive.path.touch()
            return archives
    with exclusive(folder / "lock", "building images"):
        bases = builder.bases()
        archives = []
        for image in wanted:
            archive = _archive(image, folder, bases.key)
            if force or not archive.path.exists():
                with step(f"building {image.name} with {builder.name}"):
                    unfinished = archive.path.with_suffix(".part")
                    unfinished.unlink(missing_ok=True)
                    with _context(image, cache) as context:
                        builder.build(image, bases, context, unfinished)
                    unfinished.rename(archive.path)
            _forget_older(archive)
            archives.append(archive)
    return archives


def load(archives: Sequence[Archive], settings: Settings, *, force: bool = False) -> dict[str, str]:
    """Put on every node what is not there yet; returns `name@sha256:…` by short name, usable as it is."""
    with exclusive(settings.cache / "images" / "load.lock", "loading images"):
        record = settings.kubeconfig.with_suffix(".images.json")
        nodes = _node_ids(settings)
        known = {} if force else _read_record(record, nodes)
        missing = [archive for archive in archives if archive.path.name not in known]
        if missing:
            with step(f"loading {', '.join(archive.image.short for archive in missing)} into the cluster"):
                loaded = choose_provider(settings).load([archive.path for archive in missing])
            known |= {
                archive.path.name: reference for archive, reference in zip(missing, loaded, strict=True)
            }
            record.write_text(json.dumps({"nodes": nodes, "loaded": known}, indent=2))
        else:
            tell("  ✓ the cluster has these images")
    return {archive.image.short: known[archive.path.name] for archive in archives}


def _archive(image: Image, folder: Path, base: str) -> Archive:
    return Archive(image, folder / f"{image.short}-{content_key(image, base)}.tar")


@contextmanager
def _context(image: Image, cache: Path) -> Iterator[Path]:
    """The folder that the image's Dockerfile copies from."""
    if image.program is None:
        yield image.root
        return
    built = {program.name: Tools(cache).install(program) for program in (image.program, *image.beside)}
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for name, program in built.items():
            shutil.copy(program, Path(folder) / name)
        yield Path(folder)


def _node_ids(settings: Settings) -> list[str]:
    """The nodes' unique ids: a cluster made anew, or a node more, has none of the images."""
    jsonpath = "jsonpath={range .items[*]}{.metadata.uid}{'\\n'}{end}"
    kubectl = Tools(settings.cache).bin / "kubectl"
    return sorted(
        run([kubectl, f"--kubeconfig={settings.kubeconfig}", "get", "nodes", "-o", jsonpath]).split()
    )


def _read_record(record: Path, nodes: list[str]) -> dict[str, str]:
    if not record.exists():
        return {}
    written = json.loads(record.read_text())
    return dict(written["loaded"]) if written["nodes"] == nodes else {}


def _forget_older(archive: Archive) -> None:
    """Keep a few: another checkout, or a load under way, may need the one before."""
    archive.path.touch()
    kept = sorted(
        archive.path.parent.glob(f"{archive.image.short}-*.tar"), key=lambda path: path.stat().st_mtime
    )
    for older in kept[:-ARCHIVES_KEPT]:
        older.unlink()
