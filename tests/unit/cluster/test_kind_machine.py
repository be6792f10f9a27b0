"""What a run on kind is held to: the machine is as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.cluster.kind import machine
from e2e.cluster.kind.machine import compare, look

APART = Path("/root/cache/images")
SAME = {
    "settings": frozenset({"vm/panic_on_oom = 0", "fs/file-max = 9"}),
    "mounts": frozenset({"/ ext4 /dev/a"}),
}


def test_a_machine_that_stayed_as_it_was_is_said_to_be() -> None:
    lines, same = compare(SAME, SAME)
    assert same
    assert lines == ["settings: 2 before, 2 after, 0 differ", "mounts: 1 before, 1 after, 0 differ"]


def test_each_difference_is_named_with_what_was_and_what_is() -> None:
    after = {**SAME, "settings": frozenset({"vm/panic_on_oom = 1", "fs/file-max = 9"})}
    lines, same = compare(SAME, after)
    assert not same
    assert lines[:3] == [
        "settings: 2 before, 2 after, 2 differ",
        "  - vm/panic_on_oom = 0",
        "  + vm/panic_on_oom = 1",
    ]


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's files; what programs print is one address, one route and one rule."""
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/kernel").mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/vm/overcommit_memory").write_text("0\n")
    (tmp_path / "self/mountinfo").write_text("22 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n")
    said = {
        "iptables-save": "# at ten\n:INPUT ACCEPT [7:420]\n-A INPUT -j ACCEPT\n",
        "ip6tables-save": "",
        "ip -oneline address": "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft 86399sec\n",
        "ip route": "default via 10.0.0.1 dev eth0 \n",
    }
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "run", lambda argv: said[" ".join(argv)])
    monkeypatch.setattr("shutil.which", lambda name: name)
    return tmp_path


def test_a_setting_that_was_written_and_a_mount_that_stayed_are_seen(proc: Path) -> None:
    before = look(APART)
    (proc / "sys/vm/overcommit_memory").write_text("1\n")
    (proc / "self/mountinfo").write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n23 22 0:9 / /run/x rw - tmpfs tmpfs rw\n"
        "24 22 0:9 / /root/cache/images/store rw - overlay overlay rw\n"
    )
    lines, same = compare(before, look(APART))
    assert not same
    assert not any("/root/cache" in line for line in lines)
    assert {"  + vm/overcommit_memory = 1", "  - vm/overcommit_memory = 0", "  + /run/x tmpfs tmpfs"} <= set(
        lines
    )


def test_what_counts_or_only_reports_is_no_difference(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "sys/kernel/ns_last_pid").write_text("7")
    (proc / "sys/kernel/threads").write_text("7")
    (proc / "sys/kernel/threads").chmod(0o444)
    before = look(APART)
    (proc / "sys/kernel/ns_last_pid").write_text("8")
    (proc / "sys/kernel/threads").chmod(0o644)
    (proc / "sys/kernel/threads").write_text("8")
    (proc / "sys/kernel/threads").chmod(0o444)
    said = {
        "iptables-save": "# at eleven\n:INPUT ACCEPT [8:480]\n-A INPUT -j ACCEPT\n",
        "ip6tables-save": "",
        "ip -oneline address": "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft 86100sec\n",
        "ip route": "default via 10.0.0.1 dev eth0 \n",
    }
    monkeypatch.setattr(machine, "run", lambda argv: said[" ".join(argv)])
    _, same = compare(before, look(APART))
    assert same
