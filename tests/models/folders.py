"""Whole folders for servers of one's own: what tests put into each kind of store, and what comes of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from slipway.contract import (
    MLFLOW_TRACKING_URI_ENV,
    Failed,
    Failure,
    Fetched,
    Resolution,
    Resolved,
)
from slipway.digest import digest_of_folder
from tests.models.conftest import SlipwayModel
from tests.models.registries import RegistryFront
from tests.models.registry import READER, log_folder, register
from tests.models.repositories import GitServer, git
from tests.models.servers import Mlflow
from tests.models.stores import S3, Azure, Gs

FILES = {
    "MLmodel": b"flavors: {sklearn: {}}\n",
    "model.pkl": b"\x80\x04K\x01.",
    "data/a/b.bin": b"12345",
    "with space é+100%.txt": b"odd",
    "empty": b"",
}
#: What MLflow calls the buckets.
_ROOTS = {
    "s3": "s3://models",
    "gs": "gs://models",
    "azure": "wasbs://models@slipwaytests.blob.core.windows.net",
}
#: What the operator asks for a server of one's own.
TASK = {"folder": True, "hazards": {"onFinding": "Report"}}
TAR = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Place:
    """Somewhere to put a folder, and its URI. ``keys``: the environment that a Secret becomes."""

    uri: str
    fill: Callable[[Mapping[str, bytes]], object]
    keys: Mapping[str, str] = field(default_factory=dict)
    #: Removes a file of it; None where what was published stays.
    remove: Callable[[str], object] | None = None

    def put(self, files: Mapping[str, bytes]) -> str:
        """Put files there; gives the URI."""
        self.fill(files)
        return self.uri


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def archive(members: list[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    """A tar archive with just these members, in this order."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return made.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A member that is a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def resolved(
    slipway_model: SlipwayModel, uri: str, known: Resolution | None = None, **env: str
) -> Resolution:
    """What a URI means to a server of one's own."""
    seen = known.model_dump(mode="json") if known else None
    outcome = slipway_model("resolve", {**TASK, "uri": uri, "known": seen}, **env).outcome
    assert isinstance(outcome, Resolved), outcome
    return outcome.resolution


def refused(slipway_model: SlipwayModel, uri: str, limit: int | None = None, **env: str) -> Failure:
    """Why it means nothing."""
    outcome = slipway_model("resolve", {**TASK, "uri": uri, "maxBytes": limit}, **env).outcome
    assert isinstance(outcome, Failed), outcome
    return outcome.failure


def fetched(slipway_model: SlipwayModel, found: Resolution, **env: str) -> Fetched | Failure:
    """What becomes of a fetch of what was resolved."""
    task = {"uri": found.uri, "digest": found.digest, "profile": found.profile, "folder": True}
    outcome = slipway_model("fetch", task, **env).outcome
    return outcome.failure if isinstance(outcome, Failed) else check_fetched(outcome)


def check_fetched(outcome: object) -> Fetched:
    assert isinstance(outcome, Fetched), outcome
    return outcome


def brought(slipway_model: SlipwayModel, uri: str, **env: str) -> dict[str, bytes]:
    """What is in the pod's folder after a fetch of what a URI was resolved to."""
    found = resolved(slipway_model, uri, **env)
    assert found.folder is True
    done = check_fetched(fetched(slipway_model, found, **env))
    assert digest_of_folder(slipway_model.model_dir) == found.digest
    files = content(slipway_model.model_dir)
    assert sum(map(len, files.values())) == found.bytes == done.bytes
    return files


def _volume(request: pytest.FixtureRequest, name: str) -> Place:
    claim: Path = request.getfixturevalue("slipway_model").claim

    def fill(files: Mapping[str, bytes]) -> None:
        write(claim / "folders" / name, files)

    return Place(
        f"pvc://models/folders/{name}", fill, {}, lambda path: (claim / "folders" / name / path).unlink()
    )


def _s3(request: pytest.FixtureRequest, name: str) -> Place:
    store: S3 = request.getfixturevalue("s3")

    def fill(files: Mapping[str, bytes]) -> None:
        for path, text in files.items():
            store.put("models", f"folders/{name}/{path}", text)

    return Place(
        f"s3://models/folders/{name}",
        fill,
        store.keys(),
        lambda path: store.delete("models", f"folders/{name}/{path}"),
    )


def _gs(request: pytest.FixtureRequest, name: str) -> Place:
    store: Gs = request.getfixturevalue("gs")

    def fill(files: Mapping[str, bytes]) -> None:
        for path, text in files.items():
            store.put(f"folders/{name}/{path}", text)

    return Place(
        f"gs://models/folders/{name}/",
        fill,
        store.keys(),
        lambda path: store.delete(f"folders/{name}/{path}"),
    )


def _azure(request: pytest.FixtureRequest, name: str) -> Place:
    store: Azure = request.getfixturevalue("azure")

    def fill(files: Mapping[str, bytes]) -> None:
        for path, text in files.items():
            store.put(f"folders/{name}/{path}", text)

    return Place(
        f"az://slipwaytests/models/folders/{name}/",
        fill,
        store.keys(),
        lambda path: store.delete(f"folders/{name}/{path}"),
    )


def _artifact(request: pytest.FixtureRequest, name: str) -> Place:
    registry: RegistryFront = request.getfixturevalue("registry_host")

    def fill(files: Mapping[str, bytes]) -> None:
        registry.push(name, "v1", [registry.file(name, path, text) for path, text in files.items()])

    return Place(f"oci://{registry.host}/{name}:v1", fill, registry.keys())


def _packed(request: pytest.FixtureRequest, name: str) -> Place:
    """As ``oras push`` makes it of a folder."""
    registry: RegistryFront = request.getfixturevalue("registry_host")

    def fill(files: Mapping[str, bytes]) -> None:
        layer = {
            **registry.blob(name, archive(list(files.items()))),
            "mediaType": TAR,
            "annotations": {"org.opencontainers.image.title": ".", "io.deis.oras.content.unpack": "true"},
        }
        registry.push(name, "v1", [layer])

    return Place(f"oci://{registry.host}/{name}:v1", fill, registry.keys())


def _modelcar(request: pytest.FixtureRequest, name: str) -> Place:
    registry: RegistryFront = request.getfixturevalue("registry_host")

    def fill(files: Mapping[str, bytes]) -> None:
        below = [(f"models/{path}", text) for path, text in files.items()]
        # The image has more below than its last layer leaves there.
        old = [("bin/sh", b"#!"), ("models/old", b"1"), ("models/gone/a", b"1"), below[0]]
        hidden = [("models/.wh.old", b""), ("models/gone/.wh..wh..opq", b""), *below]
        layers = [
            {**registry.blob(name, archive([*made])), "mediaType": TAR}
            for made in ([*old, link("bin/link", "/etc/passwd")], hidden)
        ]
        registry.push(name, "v1", layers)

    return Place(f"oci://{registry.host}/{name}:v1", fill, registry.keys())


def _git(request: pytest.FixtureRequest, name: str) -> Place:
    """A commit of a repository that has nothing of DVC."""
    host: GitServer = request.getfixturevalue("host")
    work: Path = request.getfixturevalue("tmp_path") / "work"

    def fill(files: Mapping[str, bytes]) -> None:
        work.mkdir()
        git(work, "init", "--quiet", "--initial-branch=main")
        write(work / "folders" / name, files)
        git(work, "add", "--all", "--force")
        git(work, "commit", "--quiet", "--message", "a model")
        host.bare("shop/models", work)

    return Place(f"dvc://{host.host}/shop/models/folders/{name}@main", fill, host.keys())


def _mlflow(request: pytest.FixtureRequest, name: str) -> Place:
    """A version whose files MLflow itself hands out."""
    server: Mlflow = request.getfixturevalue("mlflow")
    folder: Path = request.getfixturevalue("tmp_path") / "logged"
    where: list[Path] = []

    def fill(files: Mapping[str, bytes]) -> None:
        write(folder, files)
        where.append(log_folder(server, name, folder))

    return Place(f"mlflow://{name}/1", fill, tracking(server), lambda path: (where[0] / path).unlink())


def _mlflow_in(request: pytest.FixtureRequest, name: str, store: str) -> Place:
    """A version whose files are in a bucket, to which MLflow gives no access."""
    server: Mlflow = request.getfixturevalue("mlflow")
    place, inner = PLACES[store](request, f"{name}-{store}"), f"{name}-{store}"

    def fill(files: Mapping[str, bytes]) -> None:
        place.fill(files)
        register(server, inner, f"{_ROOTS[store]}/folders/{inner}")

    return Place(f"mlflow://{inner}/1", fill, {**tracking(server), **place.keys}, place.remove)


def tracking(server: Mlflow) -> dict[str, str]:
    """The environment of whoever may read the tests' MLflow."""
    username, password = READER
    return {
        MLFLOW_TRACKING_URI_ENV: server.url,
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_USERNAME": username,
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_PASSWORD": password,
    }


#: Each kind of store that holds folders.
PLACES: dict[str, Callable[[pytest.FixtureRequest, str], Place]] = {
    "volume": _volume,
    "s3": _s3,
    "gs": _gs,
    "azure": _azure,
    "artifact": _artifact,
    "packed": _packed,
    "modelcar": _modelcar,
    "git": _git,
    "mlflow": _mlflow,
    **{f"mlflow-in-{store}": partial(_mlflow_in, store=store) for store in ("s3", "gs", "azure")},
}
