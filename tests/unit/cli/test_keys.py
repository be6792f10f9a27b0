"""``slipway key``: what it writes into the Secret, the model server reads."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from slipway.names import MOST_KEY_HASHES
from slipway_server.access.keys import KeyFile, read_keys
from tests.unit.cli.conftest import Run, version
from tests.unit.cli.serving import SECRETS, Served
from tests.unit.world import NAME, World

SECRET = "fraud-keys"
Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
async def guarded(world: World) -> None:
    """The model has spec.access."""
    world.create({**version(2), "access": {"apiKeys": {"secretRef": {"name": SECRET}}}})


def mounted(cluster: Served, folder: Path) -> KeyFile:
    """What a model server reads of the Secret."""
    for number in range(100):
        directory = folder / f"mounted-{number}"
        if not directory.exists():
            break
    directory.mkdir()
    for name, value in cluster.secrets[SECRET]["data"].items():
        (directory / name).write_bytes(b64decode(value))
    return read_keys(directory)


def new(run: Run, capsys: Said, caller: str = "shop") -> str:
    capsys.readouterr()
    assert run("key", "new", NAME, caller) == 0
    said = capsys.readouterr()
    (key,) = said.out.splitlines()
    assert key not in said.err
    assert "it is shown once" in said.err
    return key


def digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def put(cluster: Served, **callers: str) -> None:
    data = {name: b64encode(text.encode()).decode() for name, text in callers.items()}
    cluster.secrets[SECRET] = {"metadata": {"name": SECRET, "resourceVersion": "7"}, "data": data}


async def test_a_new_key_is_printed_once_and_its_hash_is_what_a_model_server_takes(
    cluster: Served, run: Run, capsys: Said, tmp_path: Path
) -> None:
    keys = [new(run, capsys) for _ in range(3)]
    other = new(run, capsys, "back-office")
    assert len({*keys, other}) == 4
    found = mounted(cluster, tmp_path)
    assert found.callers == {**{digest(key): "shop" for key in keys}, digest(other): "back-office"}
    assert found.faults == ()
    assert not any(key in json.dumps([cluster.secrets, cluster.sent]) for key in [*keys, other])


async def test_old_keys_are_revoked_once_the_new_one_is_in_use_or_all_of_them(
    cluster: Served, run: Run, capsys: Said, tmp_path: Path
) -> None:
    first, second, third = (new(run, capsys) for _ in range(3))
    other = new(run, capsys, "back-office")
    prefix = digest(second).hex()[:12]
    assert run("key", "revoke", NAME, "shop", "--hash", prefix) == 0
    assert set(mounted(cluster, tmp_path).callers) == {digest(first), digest(third), digest(other)}
    assert run("key", "revoke", NAME, "shop", "--old") == 0
    assert set(mounted(cluster, tmp_path).callers) == {digest(third), digest(other)}
    assert run("key", "revoke", NAME, "shop", "--old") == 0
    assert "nothing was revoked" in capsys.readouterr().out
    assert run("key", "revoke", NAME, "shop") == 0
    assert "1 key of shop revoked, none is left" in capsys.readouterr().out
    assert "shop" not in cluster.secrets[SECRET]["data"]
    assert set(mounted(cluster, tmp_path).callers) == {digest(other)}
    assert run("key", "revoke", NAME, "shop") == 1
    assert "shop has no key in Secret fraud-keys" in capsys.readouterr().err


async def test_a_list_shows_beginnings_of_hashes_and_what_is_not_as_it_should_be_but_no_key(
    cluster: Served, run: Run, capsys: Said
) -> None:
    good, clear = f"sha256:{'a' * 64}", "slipway_in-the-clear"
    put(
        cluster,
        shop=f"{good}\nsha256:{'b' * 64}\n",
        wrong=clear,
        empty="",
        one=f"sha256:{'c' * 64}",
        two=f"sha256:{'c' * 64}",
    )
    assert run("key", "list", NAME) == 0
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines()]
    assert lines[0] == ["CALLER", "KEY"]
    assert ["shop", "a" * 12] in lines
    assert ["shop", "b" * 12] in lines
    assert {line[0] for line in lines if "admits" in line} == {"wrong", "empty", "one", "two"}
    assert run("key", "list", NAME, "-o", "json") == 0
    listed = capsys.readouterr().out
    usable: dict[str, Any] = {one["caller"]: one["usable"] for one in json.loads(listed)["keys"]}
    assert usable == {"shop": True, "wrong": False, "empty": False, "one": False, "two": False}
    assert clear not in told + listed


async def test_two_who_write_at_once_lose_no_key(
    cluster: Served, run: Run, capsys: Said, tmp_path: Path
) -> None:
    first = new(run, capsys)
    path = ("GET", f"{SECRETS}/{SECRET}")
    before = cluster.asked.count(path)

    def somebody_else(_: int) -> None:
        if cluster.asked.count(path) == before + 1 and cluster.asked[-1] == path:
            secret = cluster.secrets[SECRET]
            secret["data"]["other"] = b64encode(b"sha256:" + b"d" * 64).decode()
            secret["metadata"]["resourceVersion"] = "99"

    cluster.after_get = somebody_else
    # It was answered what was there before.
    second = new(run, capsys)
    found = mounted(cluster, tmp_path).callers
    assert {digest(first), digest(second), bytes.fromhex("d" * 64)} == set(found)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("new", NAME), "for whom? slipway key new fraud CALLER"),
        (("revoke", NAME), "for whom?"),
        (("list", NAME, "shop"), "slipway key list takes no CALLER"),
        (("new", NAME, "a/b"), "'a/b' is no name of a caller"),
        (("new", NAME, "x" * 65), "is no name of a caller"),
        (("revoke", NAME, "shop", "--hash", "ffff"), "0 keys of shop have a hash that begins with 'ffff'"),
        (("revoke", NAME, "shop", "--hash", ""), "2 keys of shop have a hash that begins with ''"),
        (("new", NAME, "clear"), "key clear of Secret fraud-keys has 1 lines that are no hash"),
        (("new", NAME, "full"), f"full has {MOST_KEY_HASHES} keys"),
        (("list", "other"), "there is no ModelDeployment payments/other"),
        (("list", NAME, "--secret", "other"), "there is no Secret payments/other"),
    ],
)
async def test_what_cannot_be_done_is_said(
    cluster: Served, run: Run, capsys: Said, words: tuple[str, ...], says: str
) -> None:
    put(
        cluster,
        shop=f"sha256:{'a' * 64}\nsha256:{'b' * 64}",
        clear="slipway_key",
        full="\n".join(f"sha256:{number:064x}" for number in range(MOST_KEY_HASHES)),
    )
    before = json.dumps(cluster.secrets)
    assert run("key", *words) == 1
    assert says in capsys.readouterr().err
    assert json.dumps(cluster.secrets) == before


async def test_a_model_without_access_is_told_so_and_its_keys_can_be_made_first(
    world: World, cluster: Served, run: Run, capsys: Said
) -> None:
    world.create(version(2))
    assert run("key", "new", NAME, "shop") == 1
    assert "has no spec.access.apiKeys" in capsys.readouterr().err
    assert run("key", "new", NAME, "shop", "--secret", "first") == 0
    assert list(cluster.secrets["first"]["data"]) == ["shop"]


async def test_without_a_cluster_the_line_for_the_secret_is_printed_apart(
    run: Run, cluster: Served, capsys: Said
) -> None:
    assert run("key", "new", NAME, "shop", "--offline") == 0
    said = capsys.readouterr()
    assert said.err == f"shop: sha256:{sha256(said.out.strip().encode()).hexdigest()}\n"
    assert cluster.asked == []


async def test_every_answer_is_said_in_full(cluster: Served, run: Run, capsys: Said) -> None:
    def said(*words: str) -> tuple[str, str]:
        capsys.readouterr()
        run("key", *words)
        found = capsys.readouterr()
        return found.out, found.err

    follow = "pods follow within a minute or two\n"
    kept = f"it is shown once, and kept nowhere. Secret fraud-keys has its hash, which {follow}"
    assert said("new", NAME, "shop")[1] == f"this is the key of shop; {kept}"
    assert said("new", NAME, "shop")[1] == f"this is the key of shop, its key number 2; {kept}"
    assert said("revoke", NAME, "shop", "--old") == (f"1 key of shop revoked, 1 left; {follow}", "")
    assert said("revoke", NAME, "shop", "--old")[0] == "shop has 1 key, the newest: nothing was revoked\n"
    said("new", NAME, "shop")
    assert said("revoke", NAME, "shop")[0] == f"2 keys of shop revoked, none is left; {follow}"
    put(
        cluster,
        shop=f"sha256:{'a' * 64}\nsha256:{'ab' * 32}",
        clear="slipway_key",
        full="\n".join(f"sha256:{number:064x}" for number in range(MOST_KEY_HASHES)),
    )
    wrong = "  admits nobody: this entry is not as it should be"
    lines = said("list", NAME)[0].splitlines()
    assert lines[:2] == ["CALLER  KEY", f"clear   not a hash{wrong}"]
    assert lines[-2:] == ["shop    aaaaaaaaaaaa", "shop    abababababab"]
    assert len(lines) == 4 + MOST_KEY_HASHES
    listed = json.loads(said("list", NAME, "-o", "json")[0])
    assert listed["secret"] == "fraud-keys"
    assert listed["keys"][0] == {"caller": "clear", "hash": None, "usable": False}
    assert listed["keys"][-1] == {"caller": "shop", "hash": f"sha256:{'ab' * 32}", "usable": True}
    for words, refusal in {
        ("new", NAME): "for whom? slipway key new fraud CALLER",
        ("list", NAME, "shop"): "slipway key list takes no CALLER",
        (
            "new",
            NAME,
            "a/b",
        ): "'a/b' is no name of a caller: letters, digits, '-', '_' and '.', up to 64 of them",
        ("revoke", NAME, "shop", "--hash", "a"): (
            "2 keys of shop have a hash that begins with 'a'; slipway key list shows them"
        ),
        ("revoke", NAME, "nobody"): "nobody has no key in Secret fraud-keys",
        (
            "new",
            NAME,
            "clear",
        ): "key clear of Secret fraud-keys has 1 lines that are no hash: take them out first",
        ("new", NAME, "full"): (
            f"full has {MOST_KEY_HASHES} keys, and more are not taken: slipway key revoke some first"
        ),
    }.items():
        assert said(*words) == ("", f"error: {refusal}\n")
    assert (
        said("revoke", NAME, "shop", "--hash", "sha256:aaa")[0] == f"1 key of shop revoked, 1 left; {follow}"
    )


async def test_a_model_that_everybody_may_ask_is_told_what_to_name(
    world: World, run: Run, capsys: Said
) -> None:
    world.create(version(2))
    assert run("key", "list", NAME) == 1
    assert capsys.readouterr().err == (
        "error: fraud has no spec.access.apiKeys, so that everybody may ask it: name a Secret there, or say "
        "--secret SECRET to make its keys first\n"
    )
