"""Models that DVC keeps: Git's own server, repositories of DVC and GTO, real stores; DVC is the judge."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from slipway.contract import Failure, ModelFault
from slipway.digest import digest_of
from tests.models.conftest import DvcWork, SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.repositories import GitServer, git
from tests.models.servers import Reply, WebServer
from tests.models.stores import S3, Azure, Gs
from tests.models.test_profiles import profile_of

REPOSITORY = "shop/models"


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


@pytest.fixture
def made(dvc: DvcWork, host: GitServer) -> Iterator[str]:
    """The URI of the repository that DVC made."""
    host.bare(REPOSITORY, dvc.work)
    return f"dvc://{host.host}/{REPOSITORY}"


class Committed:
    """A clone in which a test commits what it likes, and pushes it."""

    def __init__(self, host: GitServer, work: Path, folder: Path) -> None:
        self.bare = host.bare(REPOSITORY, work)
        self.folder = folder
        # What it packs is thrown away.
        git(self.bare, "config", "core.compression", "0")
        git(folder.parent, "clone", "--quiet", str(self.bare), str(folder))
        git(folder, "config", "core.compression", "0")
        self.uri = f"dvc://{host.host}/{REPOSITORY}"

    def __call__(self, **files: str | bytes) -> str:
        """Commit files, by path; gives the commit."""
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        git(self.folder, "add", "--all", "--force")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", "something")
        git(self.folder, "push", "--quiet", "--force", "origin", "HEAD", "--tags")
        return git(self.folder, "rev-parse", "HEAD")


@pytest.fixture
def commit(dvc: DvcWork, host: GitServer, tmp_path: Path) -> Committed:
    return Committed(host, dvc.work, tmp_path / "clone")


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def names(failure: Failure, reason: ModelFault, *words: str) -> None:
    assert failure.reason is reason, failure
    for word in words:
        assert word in failure.message, failure.message


FILES = [
    "models/fraud.onnx@v1",
    "models/fraud.onnx@main",
    "models/fraud.onnx@feature/second",
    "models/fraud.onnx@fraud@v1.1.0",
    "models/in-git.onnx@v1",
    "pipeline/model.onnx@main",
    "wide@main",
]
ARTIFACTS = {"": "v1.1.0", "stage=prod": "v1.0.0", "stage=dev": "v1.1.0", "rev=v1.0.0": "v1.0.0"}


@pytest.fixture(scope="module")
def got(dvc_work: DvcWork) -> Callable[[str], str]:
    """The digest of what DVC itself gets."""
    dvc_work.dvc("get", dvc_work.folder, *FILES, *(f"fraud?{query}" for query in ARTIFACTS))
    return lambda asked: digest_of_path(dvc_work.folder / "got" / asked.replace("/", "_"))


def digest_of_path(path: Path) -> str:
    return digest_of(path) if path.is_dir() else sha256(path.read_bytes())


@pytest.mark.parametrize("asked", FILES)
def test_a_model_is_the_one_that_dvc_gets(
    slipway_model: SlipwayModel,
    made: str,
    host: GitServer,
    dvc: DvcWork,
    got: Callable[[str], str],
    asked: str,
) -> None:
    found = slipway_model.resolved(f"{made}/{asked}", **host.keys())
    assert found.digest == got(asked)
    path, _, rev = asked.partition("@")
    commit = git(dvc.work, "rev-parse", f"{rev}^{{commit}}")
    assert found.uri == f"{made}/{'wide/model.onnx' if path == 'wide' else path}@{commit}"
    slipway_model.fetched(found.uri, found.digest, **host.keys())
    assert digest_of(slipway_model.model_dir) == found.digest


@pytest.mark.parametrize(("query", "version"), ARTIFACTS.items())
def test_an_artifact_is_the_one_that_dvc_gets(
    slipway_model: SlipwayModel,
    made: str,
    host: GitServer,
    dvc: DvcWork,
    got: Callable[[str], str],
    query: str,
    version: str,
) -> None:
    ours = query.replace("rev=v", "version=")
    found = slipway_model.resolved(f"{made}?artifact=fraud{'&' if ours else ''}{ours}", **host.keys())
    assert found.digest == got(f"fraud?{query}")
    assert found.version == version
    assert found.createdAt is not None
    commit = git(dvc.work, "rev-parse", f"fraud@{version}^{{commit}}")
    assert found.uri == f"{made}/models/fraud.onnx@{commit}"


def test_a_layout_of_dvc_2_is_read_as_dvc_reads_it(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(dvc.folder / "disk/files/md5", old / "disk")
    texts = {
        path: (commit.folder / path).read_text().replace("  hash: md5\n", "")
        for path in ("models/fraud.onnx.dvc", "wide.dvc")
    }
    texts[".dvc/config"] = (
        f"[core]\n    remote = web\n['remote \"web\"']\n    url = {dvc.remote.url}/old\n"
        f"['remote \"disk\"']\n    url = {old}/disk\n"
    )
    commit(**texts)
    shutil.copytree(commit.folder, old / "work")
    dvc.remote.replies = {
        path.replace("/store/files/md5", "/old"): reply for path, reply in dvc.remote.replies.items()
    }
    dvc.dvc("get", old, "models/fraud.onnx@main", "wide@main")
    for asked in ("models/fraud.onnx@main", "wide@main"):
        found = slipway_model.resolved(f"{commit.uri}/{asked}", **host.keys())
        assert found.digest == digest_of_path(old / "got" / asked.replace("/", "_"))


def test_a_branch_that_moves_leads_elsewhere_and_the_pinned_address_does_not(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    before = slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())
    git(commit.folder, "reset", "--quiet", "--hard", "origin/feature/second")
    commit()
    after = slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())
    assert before.digest != after.digest
    # The first commit is still there, in the tag v1, but no branch has it any more.
    slipway_model.fetched(before.uri, before.digest, **host.keys())


@pytest.mark.parametrize("kind", ["s3", "gs", "azure"])
def test_a_remote_may_be_a_bucket(
    slipway_model: SlipwayModel,
    commit: Committed,
    host: GitServer,
    dvc: DvcWork,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    url = f"{kind}://models/dvc {kind}"
    if kind == "s3":
        s3: S3 = request.getfixturevalue("s3")
        keys, put = s3.keys(), lambda key, content: s3.put("models", key, content)
        more = f"    endpointurl = {s3.url}\n"
        # The repository says where the store is.
        del keys["SLIPWAY_CREDENTIAL_AWS_ENDPOINT_URL"]
    elif kind == "gs":
        gs: Gs = request.getfixturevalue("gs")
        keys, put, more = gs.keys(), gs.put, ""
    else:
        azure: Azure = request.getfixturevalue("azure")
        keys, put, more = azure.keys(), azure.put, "    account_name = slipwaytests\n"
    for key, content in dvc.objects.items():
        put(f"dvc {kind}/{key}", content)
    commit(**{".dvc/config": f"[core]\n    remote = Main\n['remote \"main\"']\n    url = {url}\n{more}"})
    found = slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **{**host.keys(), **keys})
    assert found.digest == sha256((dvc.folder / "made/first.onnx").read_bytes())
    wide = slipway_model.resolved(f"{commit.uri}/wide/@main", **{**host.keys(), **keys})
    slipway_model.fetched(wide.uri, wide.digest, **{**host.keys(), **keys})
    assert not dvc.remote.asked


def test_a_look_at_a_repository_costs_few_requests_and_no_history(
    slipway_model: SlipwayModel, made: str, host: GitServer
) -> None:
    slipway_model.resolved(f"{made}/models/fraud.onnx@main", **host.keys())
    # Two for the names; two, and one with folders; two, and one with the files that say where others are.
    assert len(host.asked) == 8


@pytest.mark.parametrize("way", ["old", "unfiltered"])
def test_servers_of_older_kinds_are_read_too(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork, way: str
) -> None:
    host.old = way == "old"
    if way == "unfiltered":
        git(host.folder / REPOSITORY, "config", "uploadpack.allowFilter", "false")
    found = slipway_model.resolved(f"{made}/models/fraud.onnx@feature/second", **host.keys())
    assert found.digest == sha256((dvc.folder / "made/second.onnx").read_bytes())


def test_a_repository_with_large_files_is_read_where_the_server_can_leave_them_out(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    noise = random.Random(1).randbytes(33 * 1024 * 1024)
    commit(**{"data.bin": noise})
    uri = f"{commit.uri}/models/fraud.onnx@main"
    slipway_model.resolved(uri, **host.keys())
    git(commit.bare, "config", "uploadpack.allowFilter", "false")
    failure = slipway_model.not_resolved(uri, **host.keys())
    names(failure, ModelFault.REPOSITORY_UNREADABLE, "32 MiB", "uploadpack.allowFilter")


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"GIT_USERNAME": "ada", "GIT_PASSWORD": "of the tests"}, "ada:of the tests"),
        ({"GIT_TOKEN": "token-of-the-tests"}, "x-access-token:token-of-the-tests"),
        ({"GIT_USERNAME": "oauth2", "GIT_TOKEN": "token-of-the-tests"}, "oauth2:token-of-the-tests"),
    ],
)
def test_a_private_repository_is_entered_with_the_secret(
    slipway_model: SlipwayModel, made: str, host: GitServer, keys: dict[str, str], sent: str
) -> None:
    host.password = sent
    slipway_model.resolved(f"{made}/models/fraud.onnx@v1", **host.keys(**keys))
    failure = slipway_model.not_resolved(f"{made}/models/fraud.onnx@v1", **host.keys())
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "none were sent", "GIT_TOKEN")
    wrong = {**keys, "GIT_TOKEN": "wrong", "GIT_PASSWORD": "wrong"}
    failure = slipway_model.not_resolved(f"{made}/models/fraud.onnx@v1", **host.keys(**wrong))
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "refused the credentials")


def test_a_repository_that_moved_is_followed(slipway_model: SlipwayModel, made: str, host: GitServer) -> None:
    host.redirects["/old/name"] = f"/{REPOSITORY}"
    old = made.replace(REPOSITORY, "old/name")
    found = slipway_model.resolved(f"{old}/models/fraud.onnx@v1", **host.keys())
    assert found.uri.startswith(f"{old}/models/fraud.onnx@")


def test_a_repository_in_a_group_of_groups_ends_in_git(
    slipway_model: SlipwayModel, host: GitServer, dvc: DvcWork
) -> None:
    host.bare("group/below/models.git", dvc.work)
    uri = f"dvc://{host.host}/group/below/models.git"
    for asked in (f"{uri}/models/fraud.onnx@v1", f"{uri}?artifact=fraud&stage=prod"):
        found = slipway_model.resolved(asked, **host.keys())
        slipway_model.fetched(found.uri, found.digest, **host.keys())


def test_a_remotes_credentials_go_to_no_address_but_that_of_the_secret(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork
) -> None:
    uri = f"{made}/models/fraud.onnx@v1"
    slipway_model.resolved(uri, **host.keys(HTTP_TOKEN="of-the-remote", GIT_TOKEN="of-git"))
    assert {sent for _, sent in dvc.remote.asked} == {None}
    for reply in dvc.remote.replies.values():
        reply.wants = "Bearer of-the-remote"
    failure = slipway_model.not_resolved(uri, **host.keys(HTTP_TOKEN="of-the-remote"))
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "DVC_REMOTE_URL")
    address = {"DVC_REMOTE_URL": f"{dvc.remote.url}/store"}
    slipway_model.resolved(uri, **host.keys(HTTP_TOKEN="of-the-remote", **address))


@pytest.mark.parametrize(
    ("uri", "reason", "words"),
    [
        ("/models/fraud.onnx", ModelFault.INVALID_MODEL_URI, ("@v1.4",)),
        ("/models/../fraud.onnx@v1", ModelFault.INVALID_MODEL_URI, ("'..'",)),
        ("/models/fraud.onnx@a..b", ModelFault.INVALID_MODEL_URI, ("revision",)),
        ("/models/fraud.onnx@v1%0aevil", ModelFault.INVALID_MODEL_URI, ("revision",)),
        ("?artifact=fraud&stage=a&version=1.0.0", ModelFault.INVALID_MODEL_URI, ("both",)),
        ("?artifact=fraud&staeg=a", ModelFault.INVALID_MODEL_URI, ("at most a stage",)),
        ("?artifact=fraud&stage=", ModelFault.INVALID_MODEL_URI, ("empty",)),
        ("?artifact=fr aud", ModelFault.INVALID_MODEL_URI, ("artifact",)),
        ("/models/fraud.onnx@v2", ModelFault.MODEL_NOT_FOUND, ("'v2'", "feature/second", "main", "v1")),
        ("/models/fraud.onnx@abcdef12", ModelFault.MODEL_NOT_FOUND, ("all 40 digits",)),
        (f"/models/fraud.onnx@{'1' * 40}", ModelFault.MODEL_NOT_FOUND, ("not our ref", "push it")),
        (
            "/models/fruad.onnx@v1",
            ModelFault.MODEL_NOT_FOUND,
            ("models/fruad.onnx", "fraud.onnx, in-git.onnx"),
        ),
        ("/nowhere/at/all.onnx@v1", ModelFault.MODEL_NOT_FOUND, ("dvc add",)),
        ("/models@v1", ModelFault.INVALID_MODEL_URI, ("several", "models/fraud.onnx")),
        ("/src@v1", ModelFault.MODEL_NOT_FOUND, ("train.py",)),
        ("/src/train.py@v1", ModelFault.NOT_AN_ONNX_MODEL, ("train.py",)),
        ("?artifact=other", ModelFault.MODEL_NOT_FOUND, ("gto register other",)),
        ("?artifact=fraud&stage=qa", ModelFault.MODEL_NOT_FOUND, ("'qa'", "dev, prod", "gto assign")),
        ("?artifact=fraud&version=9.9.9", ModelFault.MODEL_NOT_FOUND, ("v9.9.9", "v1.1.0, v1.0.0")),
    ],
)
def test_an_address_that_leads_nowhere_says_what_there_is(
    slipway_model: SlipwayModel,
    made: str,
    host: GitServer,
    uri: str,
    reason: ModelFault,
    words: tuple[str, ...],
) -> None:
    names(slipway_model.not_resolved(f"{made}{uri}", **host.keys()), reason, *words)


def test_a_repository_that_is_not_there_is_not_found(slipway_model: SlipwayModel, host: GitServer) -> None:
    failure = slipway_model.not_resolved(f"dvc://{host.host}/a/b/m.onnx@v1", **host.keys())
    names(failure, ModelFault.MODEL_NOT_FOUND, f"{host.host}/a/b", "GIT_TOKEN")


def test_an_untrusted_certificate_is_called_by_its_name(slipway_model: SlipwayModel, made: str) -> None:
    failure = slipway_model.not_resolved(f"{made}/models/fraud.onnx@v1")
    names(failure, ModelFault.REGISTRY_UNREACHABLE, "not trusted", "CA_CERT")


def test_a_server_that_is_none_of_gits_is_told_apart(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str
) -> None:
    web = serve()
    key = {"SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate}
    uri = f"dvc://{web.url.removeprefix('https://')}/a/b/m.onnx@main"
    page = {"Content-Type": "text/html"}
    pack = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    for reply in (Reply(b"<html>", headers=page), Reply(b"0006xx", headers=pack), Reply(b"", headers=pack)):
        web.replies["/a/b/info/refs"] = reply
        names(
            slipway_model.not_resolved(uri, **key), ModelFault.REPOSITORY_UNREADABLE, "as a Git server does"
        )
    web.replies["/a/b/info/refs"] = Reply(b"x" * 100, headers=pack, breaks=True)
    names(slipway_model.not_resolved(uri, **key), ModelFault.REGISTRY_UNREACHABLE, "tried again by itself")


@pytest.mark.parametrize("path", ["models/fraud.onnx", "wide"])
def test_an_object_that_was_not_pushed_is_missing(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork, path: str
) -> None:
    dvc.remote.replies.clear()
    failure = slipway_model.not_resolved(f"{made}/{path}@v1", **host.keys())
    names(failure, ModelFault.MODEL_NOT_FOUND, f"{path}.dvc", "does not exist", "dvc push")


@pytest.mark.parametrize("damage", ["other", "cut", "list"])
def test_bytes_with_another_md5_are_refused(
    slipway_model: SlipwayModel, made: str, host: GitServer, dvc: DvcWork, damage: str
) -> None:
    for key, reply in dvc.remote.replies.items():
        if damage == "list" and key.endswith(".dir"):
            reply.body += b"\n"
        elif damage != "list":
            reply.body = b"something else" if damage == "other" else reply.body[:-10]
    path = "wide" if damage == "list" else "models/fraud.onnx"
    failure = slipway_model.not_resolved(f"{made}/{path}@v1", **host.keys())
    names(failure, ModelFault.DIGEST_MISMATCH, "MD5", f"{path}.dvc", "dvc push")


def test_a_model_larger_than_its_pods_have_room_for_is_refused(
    slipway_model: SlipwayModel, made: str, host: GitServer
) -> None:
    task = {"uri": f"{made}/wide@v1", "maxBytes": 1000}
    outcome = slipway_model("resolve", task, **host.keys()).outcome
    assert outcome.kind == "Failed"
    names(outcome.failure, ModelFault.NO_SPACE, "1000 bytes")


def config(url: str, *more: str) -> str:
    return f"[core]\n    remote = web\n['remote \"web\"']\n    url = {url}\n" + "".join(
        f"    {each}\n" for each in more
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[core]\n    analytics = false\n", ("no default remote", "dvc remote add -d")),
        ("[core]\n    remote = gone\n", ("'gone'", "dvc remote add")),
        (config("ssh://somewhere/models"), ("type ssh", "DVC_REMOTE_URL")),
        (config("gdrive://abc/models"), ("type gdrive",)),
        (config("/mnt/models"), ("somebody's machine",)),
        (config("../models"), ("somebody's machine",)),
        (config("s3://models", "version_aware = true"), ("version_aware",)),
        (config("azure://models"), ("account_name",)),
        (config("https://user:password@somewhere/x"), ("without user",)),
        (config("remote://web/x"), ("type remote",)),
    ],
)
def test_a_remote_that_cannot_be_read_says_which_can(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, text: str, words: tuple[str, ...]
) -> None:
    commit(**{".dvc/config": text})
    failure = slipway_model.not_resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())
    names(failure, ModelFault.UNSUPPORTED_ARTIFACT_STORE, *words)


def test_the_secret_says_where_a_remotes_objects_are(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    commit(**{".dvc/config": config("ssh://somewhere/models")})
    address = {"DVC_REMOTE_URL": f"{dvc.remote.url}/store/"}
    slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys(**address))


@pytest.mark.parametrize(
    "text",
    [
        "outs: " + "[" * 500_000,
        "outs: " + "{a: " * 500_000,
        "outs: [{path: x, md5: !!python/object/apply:os.system [id]}]",
        "a: \x01",
        "x" * 2_000_000,
        "x: " + "9" * 10_000,
        "outs: [",
    ],
)
def test_hostile_yaml_ends_with_a_message_and_nothing_else(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, text: str
) -> None:
    commit(**{"evil.dvc": text})
    failure = slipway_model.not_resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())
    names(failure, ModelFault.REPOSITORY_UNREADABLE, "evil.dvc")


def test_yaml_of_many_references_costs_nothing(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], y: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60)]
    commit(**{"evil.dvc": "\n".join(lines), ".dvc/config.local": "", "dvc.yaml": "stages:\n  a: [1]\n"})
    slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a\\..\\b", "", None, 3]
)
def test_a_list_of_files_that_leads_elsewhere_is_refused(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork, path: object
) -> None:
    text = json.dumps([{"md5": "0" * 32, "relpath": path}]).encode()
    md5 = f"{hashlib.md5(text).hexdigest()}.dir"
    dvc.remote.replies[f"/store/files/md5/{md5[:2]}/{md5[2:]}"] = Reply(text)
    commit(**{"odd.dvc": f"outs:\n- {{path: odd, hash: md5, md5: {md5}}}\n"})
    failure = slipway_model.not_resolved(f"{commit.uri}/odd@main", **host.keys())
    names(failure, ModelFault.REPOSITORY_UNREADABLE, "odd")


@pytest.mark.parametrize("kind", ["link", "folder", "submodule"])
def test_links_and_submodules_are_not_followed(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, kind: str
) -> None:
    if kind == "submodule":
        head = git(commit.folder, "rev-parse", "HEAD")
        git(commit.folder, "update-index", "--add", "--cacheinfo", f"160000,{head},linked")
        git(commit.folder, "commit", "--quiet", "--message", "a submodule")
        git(commit.folder, "push", "--quiet", "origin", "HEAD")
    else:
        (commit.folder / "linked").symlink_to("models" if kind == "folder" else "/etc/passwd")
        commit()
    below = "" if kind == "link" else "/fraud.onnx"
    failure = slipway_model.not_resolved(f"{commit.uri}/linked{below}@main", **host.keys())
    words = (
        ("submodule", "name the repository") if kind == "submodule" else ("symbolic link", "name the file")
    )
    names(failure, ModelFault.INVALID_MODEL_URI, *words)


@pytest.mark.parametrize("outs", ["../../../etc/passwd", "/etc/passwd", "s3://bucket/models/x.onnx"])
def test_a_dvc_file_of_files_elsewhere_says_nothing_of_the_repositorys(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, outs: str
) -> None:
    commit(**{"odd.dvc": f"outs:\n- {{path: '{outs}', hash: md5, md5: {'0' * 32}}}\n"})
    slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())


def test_an_output_that_was_never_made_says_so(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    commit(**{"new.onnx.dvc": "outs:\n- {path: new.onnx, hash: md5}\n"})
    failure = slipway_model.not_resolved(f"{commit.uri}/new.onnx@main", **host.keys())
    names(failure, ModelFault.MODEL_NOT_FOUND, "new.onnx.dvc", "dvc commit")


def test_a_profile_next_to_the_model_comes_along(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, tmp_path: Path
) -> None:
    commit(**{"models/profile.json": profile_of(onnx_classifier(), tmp_path / "made").text()})
    found = slipway_model.resolved(f"{commit.uri}/models/fraud.onnx@main", **host.keys())
    slipway_model.fetched(found.uri, found.digest, **host.keys())
    assert (slipway_model.model_dir / "profile.json").is_file()


def test_a_project_below_the_repositorys_root_has_its_own_remote(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    said = (commit.folder / "models/fraud.onnx.dvc").read_text()
    commit(
        **{
            "team/.dvc/config": config(f"{dvc.remote.url}/store"),
            ".dvc/config": config("ssh://somewhere"),
            "team/fraud.onnx.dvc": said,
            "team/dvc.yaml": "artifacts:\n  fraud:\n    path: fraud.onnx\n",
        }
    )
    slipway_model.resolved(f"{commit.uri}/team/fraud.onnx@main", **host.keys())
    git(commit.folder, "tag", "-a", "team=fraud@v0.1.0", "-m", "x")
    commit()
    found = slipway_model.resolved(f"{commit.uri}?artifact=team:fraud", **host.keys())
    assert found.version == "v0.1.0"


def test_a_commit_that_goes_while_it_is_read_is_looked_up_again(
    slipway_model: SlipwayModel, made: str, host: GitServer
) -> None:
    """Between the list of names and the request for what is in the commit."""
    bare = host.folder / REPOSITORY
    gone = git(bare, "rev-parse", "main")

    class Asked(list[str]):
        def append(self, path: str) -> None:
            super().append(path)
            if len(self) == 4:
                for name in git(bare, "for-each-ref", "--format=%(refname)").splitlines():
                    git(bare, "update-ref", "-d", name)
                git(bare, "-c", "gc.pruneExpire=now", "gc", "--quiet", "--prune=now")

    host.asked = Asked()
    failure = slipway_model.not_resolved(f"{made}/models/fraud.onnx@main", **host.keys())
    names(failure, ModelFault.MODEL_CHANGED, gone, "tried again")


def test_the_example_resolves_with_the_keys_that_it_names(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork, s3: S3
) -> None:
    text = (Path(__file__).parents[2] / "examples/dvc.yaml").read_text()
    uri: str = yaml.safe_load(text)["spec"]["model"]["uri"]
    assert uri.startswith(f"dvc://github.com/{REPOSITORY}?")
    for key, content in dvc.objects.items():
        s3.put("models", f"example/{key}", content)
    url = f"{config('s3://models/example')}    endpointurl = {s3.url}\n"
    commit(**{".dvc/config": url})
    git(commit.folder, "tag", "--force", "-a", "fraud#prod#9", "-m", "to prod")
    git(commit.folder, "push", "--quiet", "origin", "--tags")
    host.password = "x-access-token:of-the-tests"
    keys = host.keys(
        GIT_TOKEN="of-the-tests", AWS_ACCESS_KEY_ID="reader", AWS_SECRET_ACCESS_KEY="reader-secret"
    )
    assert {key.removeprefix("SLIPWAY_CREDENTIAL_") for key in keys} <= set(re.findall("[A-Z0-9_]{7,}", text))
    slipway_model.resolved(uri.replace("github.com", host.host), **keys)


def test_git_is_spoken_without_the_package_that_the_image_leaves_out(
    slipway_model: SlipwayModel, made: str, host: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    slipway_model.resolved(f"{made}/models/fraud.onnx@main", **host.keys())


def test_a_few_bytes_that_unpack_to_many_are_not_unpacked(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer
) -> None:
    with (commit.folder / "zeros.bin").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    for each in (commit.folder, commit.bare):
        git(each, "config", "core.compression", "1")
    commit()
    uri = f"{commit.uri}/models/fraud.onnx@main"
    slipway_model.resolved(uri, **host.keys())
    git(commit.bare, "config", "uploadpack.allowFilter", "false")
    failure = slipway_model.not_resolved(uri, **host.keys())
    names(failure, ModelFault.REPOSITORY_UNREADABLE, "unpacks to more than 96 MiB", "uploadpack.allowFilter")


def test_an_address_that_no_status_holds_is_refused(
    slipway_model: SlipwayModel, commit: Committed, host: GitServer, dvc: DvcWork
) -> None:
    path = "/".join(["a" * 200] * 6) + "/model.onnx"
    content = (dvc.folder / "made/first.onnx").read_bytes()
    commit(**{path: content, "dvc.yaml": f"artifacts:\n  long:\n    path: {path}\n"})
    git(commit.folder, "tag", "-a", "long@v1.0.0", "-m", "long")
    commit()
    failure = slipway_model.not_resolved(f"{commit.uri}?artifact=long", **host.keys())
    names(failure, ModelFault.INVALID_MODEL_URI, "a shorter name")
