"""What only one kind of store has: single files, markers of folders, odd keys, layers, links in Git, DVC."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.contract import Failure, ModelFault, Resolution
from slipway.models import buckets
from tests.models.conftest import DvcWork, SlipwayModel
from tests.models.folders import (
    FILES,
    TAR,
    archive,
    brought,
    content,
    fetched,
    link,
    refused,
    resolved,
    tracking,
)
from tests.models.registries import TITLE, RegistryFront
from tests.models.repositories import GitServer, git
from tests.models.servers import Mlflow, Reply, WebServer, web_server
from tests.models.stores import S3, Azure, Gs
from tests.models.test_dvc_source import Committed
from tests.models.test_mlflow_source import _answer_as_mlflow as answer_as_mlflow

PICKLE = FILES["model.pkl"]
LISTED = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


# Single files.


def test_one_file_on_a_volume_is_brought_alone(slipway_model: SlipwayModel) -> None:
    for name in ("a/x.pkl", "b/y.pkl"):
        (slipway_model.claim / name).parent.mkdir()
        (slipway_model.claim / name).write_bytes(PICKLE)
    assert brought(slipway_model, "pvc://models/a/x.pkl") == {"x.pkl": PICKLE}
    # A server looks for its name.
    digests = {resolved(slipway_model, f"pvc://models/{each}").digest for each in ("a/x.pkl", "b/y.pkl")}
    assert len(digests) == 2


def test_one_object_of_a_bucket_is_brought_alone_and_pinned_by_its_version(
    slipway_model: SlipwayModel, s3: S3
) -> None:
    s3.put("models", "alone/model.pkl", PICKLE)
    s3.put("models", "alone/other", b"1")
    assert brought(slipway_model, "s3://models/alone/model.pkl", **s3.keys()) == {"model.pkl": PICKLE}
    # Of an object and a folder by one name, the object is meant.
    s3.put("versions", "named/model.pkl", PICKLE)
    first = resolved(slipway_model, "s3://versions/named/model.pkl", **s3.keys())
    s3.put("versions", "named/model.pkl", b"another")
    assert "versionId=" in first.uri
    assert not isinstance(fetched(slipway_model, first, **s3.keys()), Failure)
    assert content(slipway_model.model_dir) == {"model.pkl": PICKLE}
    assert resolved(slipway_model, "s3://versions/named/model.pkl", first, **s3.keys()) != first
    assert resolved(slipway_model, first.uri, **s3.keys()).digest == first.digest


def test_one_object_of_google_and_azure_is_brought_alone(
    slipway_model: SlipwayModel, gs: Gs, azure: Azure
) -> None:
    generation = gs.put("alone/model.pkl", PICKLE)
    azure.put("alone/model.pkl", PICKLE)
    uris = {
        "gs://models/alone/model.pkl": gs.keys(),
        f"gs://models/alone/model.pkl#{generation}": gs.keys(),
        "az://slipwaytests/models/alone/model.pkl": azure.keys(),
    }
    for uri, keys in uris.items():
        assert brought(slipway_model, uri, **keys) == {"model.pkl": PICKLE}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/7/model.joblib", "model.joblib"),
        ("/models/a%20b.pkl?token=1%2F2", "a b.pkl"),
        ("/download/?id=7", "model"),
        ("/a%2Fb/model.pkl", "model.pkl"),
        ("/100%25%2e.pkl", "100%..pkl"),
    ],
)
def test_one_file_of_a_web_server_is_brought_under_its_last_name(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str, path: str, name: str
) -> None:
    web = serve()
    web.replies[path.partition("?")[0]] = Reply(PICKLE)
    ca = {"SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate}
    assert brought(slipway_model, web.url + path, **ca) == {name: PICKLE}
    assert {asked for asked, _ in web.asked} == {path}


@pytest.mark.parametrize("path", ["/models/%2e%2e%2f", "/a%5Cb.pkl", "/a%0Ab.pkl", f"/{'a' * 256}"])
def test_a_name_that_no_file_can_have_is_refused(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str, path: str
) -> None:
    web = serve()
    failure = refused(slipway_model, web.url + path, SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate)
    assert failure.reason in (ModelFault.INVALID_MODEL_URI, ModelFault.MODEL_NOT_FOUND)


def test_a_file_that_grows_without_end_is_cut_at_its_bound(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str
) -> None:
    web = serve()
    web.replies["/model.pkl"] = Reply(b"1" * 5_000_000)
    failure = refused(
        slipway_model, f"{web.url}/model.pkl", 1_000_000, SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate
    )
    assert failure.reason is ModelFault.NO_SPACE


# Buckets.


def test_neighbours_and_markers_of_folders_are_no_part_of_a_folder(
    slipway_model: SlipwayModel, gs: Gs
) -> None:
    """Consoles make an empty object to show an empty folder."""
    for key, text in {
        "marked/": b"",
        "marked/data/": b"",
        "marked/none/": b"",
        "marked": b"",
        **{f"marked/{name}": text for name, text in FILES.items()},
        "marked-too/x": b"1",
    }.items():
        gs.put(key, text)
    for uri in ("gs://models/marked", "gs://models/marked/"):
        assert brought(slipway_model, uri, **gs.keys()) == FILES


def test_markers_alone_are_counted_too(
    slipway_model: SlipwayModel, gs: Gs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        gs.put(f"hollow/{number}/", b"")
    assert refused(slipway_model, "gs://models/hollow", **gs.keys()).reason is ModelFault.MODEL_NOT_FOUND
    monkeypatch.setattr(buckets, "_MOST_ENTRIES", 3)
    assert "more than 3 objects" in refused(slipway_model, "gs://models/hollow", **gs.keys()).message


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a//b", "./a", "a\nb", "a\\b", "\u202ea", "d/" * 16 + "x"]
)
def test_keys_that_no_folder_can_hold_are_refused(slipway_model: SlipwayModel, gs: Gs, name: str) -> None:
    top = f"odd-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    gs.put(f"{top}/model.pkl", PICKLE)
    gs.put(f"{top}/{name}", b"1")
    failure = refused(slipway_model, f"gs://models/{top}", **gs.keys())
    assert failure.reason is ModelFault.INVALID_MODEL_URI, failure


def test_a_key_that_is_a_file_and_a_folder_is_refused(slipway_model: SlipwayModel, gs: Gs) -> None:
    gs.put("both/a", b"1")
    gs.put("both/a/b", b"1")
    failure = refused(slipway_model, "gs://models/both", **gs.keys())
    assert "'a' as a file and as a folder" in failure.message


def test_a_version_of_a_folder_is_refused(slipway_model: SlipwayModel, s3: S3) -> None:
    failure = refused(slipway_model, "s3://models/folders/?versionId=7", **s3.keys())
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert "only objects have versions" in failure.message


def test_who_may_list_nothing_is_told_of_it(slipway_model: SlipwayModel, s3: S3) -> None:
    s3.put("models", "unlisted/model.pkl", PICKLE)
    failure = refused(slipway_model, "s3://models/unlisted/", **s3.keys("getter"))
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED
    assert brought(slipway_model, "s3://models/unlisted/model.pkl", **s3.keys("getter")) == {
        "model.pkl": PICKLE
    }


def test_a_replaced_object_is_found_by_a_look_again(slipway_model: SlipwayModel, s3: S3) -> None:
    s3.put("models", "replaced/model.pkl", PICKLE)
    found = resolved(slipway_model, "s3://models/replaced", **s3.keys())
    s3.put("models", "replaced/model.pkl", b"another")
    later = resolved(slipway_model, "s3://models/replaced", found, **s3.keys())
    assert later.digest != found.digest
    s3.put("models", "replaced/more", b"1")
    assert resolved(slipway_model, "s3://models/replaced", later, **s3.keys()).digest != later.digest


# Registries.


Members = list[tarfile.TarInfo | tuple[str, bytes]]
#: What no folder has, and what is said of it.
ODD: list[tuple[Members, str]] = [
    ([link("{}passwd", "/etc/passwd")], "a link"),
    ([link("{}here", "ok")], "a link"),
    ([link("{}hard", "ok", tarfile.LNKTYPE)], "a link"),
    ([link("{}null", "", tarfile.CHRTYPE)], "a link or a device"),
    ([("{}ok", b"another")], "twice"),
    ([("{}ok/below", b"1")], "as a file and as a folder"),
    ([("{}a\\b", b"1")], "backslash"),
]
#: An image has a lot that is not below its folder for models.
OUT: list[tuple[Members, str]] = [
    ([("../evil", b"2")], "'../evil'"),
    ([("/etc/evil", b"2")], "'/etc/evil'"),
    ([("a/../../evil", b"2")], "'a/../../evil'"),
    ([("a\nb", b"1")], "not a file below it"),
]


@pytest.mark.parametrize(
    ("folder", "members", "says"),
    [("", *each) for each in (*ODD, *OUT)] + [("models/", *each) for each in ODD],
)
def test_archives_with_anything_but_plain_files_are_refused(
    slipway_model: SlipwayModel, registry_host: RegistryFront, folder: str, members: Members, says: str
) -> None:
    def placed(member: tarfile.TarInfo | tuple[str, bytes]) -> tarfile.TarInfo | tuple[str, bytes]:
        if isinstance(member, tuple):
            return member[0].replace("{}", folder), member[1]
        return link(member.name.replace("{}", folder), member.linkname, member.type)

    made = archive([placed(each) for each in [("{}ok", b"1"), *members]])
    layer = {**registry_host.blob("iris", made), "mediaType": TAR}
    if not folder:
        layer["annotations"] = {TITLE: "iris", "io.deis.oras.content.unpack": "true"}
    registry_host.push("iris", "odd", [layer])
    failure = refused(slipway_model, f"oci://{registry_host.host}/iris:odd", **registry_host.keys())
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert says in failure.message, failure


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..", "a\nb"])
def test_layers_with_paths_out_of_the_folder_are_refused(
    slipway_model: SlipwayModel, registry_host: RegistryFront, name: str
) -> None:
    layers = [registry_host.file("iris", "ok", b"1"), registry_host.file("iris", name, b"2")]
    registry_host.push("iris", "out", layers)
    failure = refused(slipway_model, f"oci://{registry_host.host}/iris:out", **registry_host.keys())
    assert failure.reason is ModelFault.INVALID_MODEL_URI


def test_a_layer_that_is_not_as_long_as_its_manifest_says_is_refused(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    layer = {**registry_host.file("iris", "model.pkl", PICKLE), "size": 1_000}
    registry_host.push("iris", "long", [layer])
    failure = refused(slipway_model, f"oci://{registry_host.host}/iris:long", **registry_host.keys())
    assert failure.reason is ModelFault.MODEL_CHANGED
    assert "1000 were listed" in failure.message


def test_a_tag_that_moved_is_another_model_and_the_old_one_can_still_be_fetched(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    uri = f"oci://{registry_host.host}/tagged:champion"
    registry_host.push("tagged", "champion", [registry_host.file("tagged", "model.pkl", PICKLE)])
    first = resolved(slipway_model, uri, **registry_host.keys())
    registry_host.push("tagged", "champion", [registry_host.file("tagged", "model.pkl", b"another")])
    second = resolved(slipway_model, uri, first, **registry_host.keys())
    assert second.digest != first.digest
    assert not isinstance(fetched(slipway_model, first, **registry_host.keys()), Failure)
    assert content(slipway_model.model_dir) == {"model.pkl": PICKLE}


# MLflow.


def test_a_version_that_mlflow_logged_is_brought_with_all_its_flavors(
    slipway_model: SlipwayModel, mlflow: Mlflow
) -> None:
    files = brought(slipway_model, "mlflow://pickled/1", **tracking(mlflow))
    assert {"MLmodel", "requirements.txt"} <= set(files)
    assert any(name.startswith("model.") for name in files)


def test_a_version_whose_files_are_lost_is_told_of_by_its_name(
    slipway_model: SlipwayModel, mlflow: Mlflow, s3: S3
) -> None:
    for name, keys in {"lost": {}, "lost-in-s3": s3.keys()}.items():
        failure = refused(slipway_model, f"mlflow://{name}/1", **tracking(mlflow), **keys)
        assert failure.reason is ModelFault.MODEL_NOT_FOUND
        assert f"version 1 of '{name}' is registered in MLflow, but" in failure.message


def test_a_store_that_mlflow_does_not_hand_out_is_named(slipway_model: SlipwayModel, mlflow: Mlflow) -> None:
    failure = refused(slipway_model, "mlflow://elsewhere/1", **tracking(mlflow))
    assert failure.reason is ModelFault.UNSUPPORTED_ARTIFACT_STORE


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([{"path": "x", "is_dir": True}], "below more than 15 folders"),
        ([{"path": f"x{number}", "is_dir": True} for number in range(1001)], "more than"),
        ([{"path": "..", "is_dir": True}], "not a file below it"),
        ([{"path": "a/", "is_dir": False}], "not a file below it"),
        ([{"path": "a", "is_dir": False}, {"path": "b/a", "is_dir": False}], "twice"),
        ([{"path": "a\\b", "is_dir": False}], "backslash"),
        ([{"path": "a", "is_dir": False, "file_size": 1 << 60}], "GiB"),
    ],
)
def test_a_server_that_lists_what_no_folder_has_is_refused(
    slipway_model: SlipwayModel, files: list[dict[str, object]], says: str
) -> None:
    with web_server() as server:
        answer_as_mlflow(server)
        server.replies[LISTED] = Reply(json.dumps({"files": files}).encode())
        failure = refused(slipway_model, "mlflow://fraud/1", SLIPWAY_MLFLOW_TRACKING_URI=server.url)
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert says in failure.message, failure


@pytest.mark.parametrize(
    "answer", [b"[]", b"{", b'{"files": [7]}', b'{"files": {"path": "a"}}', b'{"files": [{}]}']
)
def test_a_server_that_lists_nonsense_is_no_mlflow(slipway_model: SlipwayModel, answer: bytes) -> None:
    with web_server() as server:
        answer_as_mlflow(server)
        server.replies[LISTED] = Reply(answer)
        failure = refused(slipway_model, "mlflow://fraud/1", SLIPWAY_MLFLOW_TRACKING_URI=server.url)
    assert failure.reason in (ModelFault.REGISTRY_UNREACHABLE, ModelFault.MODEL_NOT_FOUND)


# DVC.


@pytest.fixture
def commit(dvc: DvcWork, host: GitServer, tmp_path: Path) -> Committed:
    return Committed(host, dvc.work, tmp_path / "clone")


def test_a_folder_that_dvc_made_is_brought(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    files = brought(slipway_model, f"{commit.uri}/wide@main", **host.keys())
    assert files == content(dvc.folder / "made/wide")
    found = resolved(slipway_model, f"{commit.uri}/wide@main", **host.keys())
    # Another commit with the same bytes is no other model.
    commit(README="of the repository")
    assert resolved(slipway_model, f"{commit.uri}/wide@main", found, **host.keys()).digest == found.digest


def test_files_in_git_and_files_in_dvc_are_one_folder(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    deep = b"of the remote"
    md5 = {text: hashlib.md5(text, usedforsecurity=False).hexdigest() for text in (PICKLE, deep)}
    listing = json.dumps([{"md5": md5[deep], "relpath": "b/c.bin"}]).encode()
    md5[listing] = hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
    for text, found in md5.items():
        dvc.remote.replies[f"/store/files/md5/{found[:2]}/{found[2:]}"] = Reply(text)
    commit(
        **{
            "mixed/MLmodel": FILES["MLmodel"],
            "mixed/my-dvc.yaml": b"of the model",
            "mixed/model.pkl.dvc": f"outs:\n- {{md5: {md5[PICKLE]}, hash: md5, path: model.pkl}}\n",
            "mixed/data/a.dvc": f"outs:\n- {{md5: {md5[listing]}, hash: md5, path: a}}\n",
            "mixed/dvc.yaml": "stages: {}\n",
            "mixed/.gitignore": "/model.pkl\n",
            "mixed-too/x": "1",
        }
    )
    assert brought(slipway_model, f"{commit.uri}/mixed@main", **host.keys()) == {
        "MLmodel": FILES["MLmodel"],
        "my-dvc.yaml": b"of the model",
        "model.pkl": PICKLE,
        "data/a/b/c.bin": deep,
    }
    for path, text in {"mixed/model.pkl": PICKLE, "mixed/MLmodel": FILES["MLmodel"]}.items():
        assert brought(slipway_model, f"{commit.uri}/{path}@main", **host.keys()) == {
            path.rpartition("/")[2]: text
        }


def test_all_that_git_has_comes_in_one_request(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    commit(**{f"many/{number}.txt": f"{number}" for number in range(50)})
    host.asked.clear()
    files = resolved(slipway_model, f"{commit.uri}/many@main", **host.keys())
    assert isinstance(files, Resolution)
    assert len(host.asked) < 20


def test_links_and_submodules_in_git_are_refused(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    folder = commit.folder / "linked"
    folder.mkdir()
    (folder / "model.pkl").symlink_to("/etc/passwd")
    commit(**{"linked/ok": b"1"})
    failure = refused(slipway_model, f"{commit.uri}/linked@main", **host.keys())
    assert failure.reason is ModelFault.INVALID_MODEL_URI
    assert "symbolic link" in failure.message
    head = git(commit.folder, "rev-parse", "HEAD")
    git(commit.folder, "update-index", "--add", "--cacheinfo", f"160000,{head},sub/inner")
    git(commit.folder, "commit", "--quiet", "--message", "a submodule")
    git(commit.folder, "push", "--quiet", "origin", "HEAD")
    failure = refused(slipway_model, f"{commit.uri}/sub@main", **host.keys())
    assert "is a submodule" in failure.message


def test_pointers_of_git_lfs_are_told_from_models(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    commit(**{"lfs/model.pkl": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"})
    failure = refused(slipway_model, f"{commit.uri}/lfs@main", **host.keys())
    assert failure.reason is ModelFault.UNSUPPORTED_ARTIFACT_STORE
    assert "Git LFS" in failure.message


def test_an_object_that_dvc_lost_is_not_brought(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    for path, reply in dvc.remote.replies.items():
        if not path.endswith(".dir") and reply.body == content(dvc.folder / "made/wide")["weights.bin"]:
            reply.body = b"other bytes"
    failure = refused(slipway_model, f"{commit.uri}/wide@main", **host.keys())
    assert failure.reason is ModelFault.DIGEST_MISMATCH
