"""The process that holds a node's namespaces; with it end the node's processes, mounts and network."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.command import run, wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.node.layout import NODE_PREFIX, SERVICE_CIDR, Layout, Member
from e2e.cluster.node.process import Record, digest_of, end, enter, read_record, with_arguments, write_record

# What a kubelet would set for the whole machine. It finds these values in files mounted over the real ones,
# so the machine keeps its own.
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
# The first child of a shell that has left its pid namespace is process 1 of the new one; the shell then ends.
LAUNCH = """set -e
for entrance in $ENTRANCES; do echo 0 > "$entrance"; done
setsid sh -c "$SETUP" "$@" > "$LOG" 2>&1 < /dev/null &
echo $!
"""
# Mounts of the machine still reach the node, none of the node's reaches the machine.
SETUP = """set -e
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount --bind "$FOLDER/container-logs" /var/log/containers
mount --bind "$FOLDER/kubelet-fixed" /var/lib/kubelet
mount --bind "$VOLUMES" /mnt
for tunable in $TUNABLES; do mount --bind "$FOLDER/tunables/$tunable" "/proc/sys/$tunable"; done
exec "$0" "$@"
"""


def hold(layout: Layout, member: Member, pause: Path, entrances: Sequence[Path]) -> Record:
    """The record of the node's holder, started unless it runs."""
    path = _record_path(layout, member)
    digest = digest_of(LAUNCH, SETUP, str(pause), str(layout.settings.volumes))
    running = read_record(path)
    if running and running.digest == digest and running.alive():
        return running
    release(layout, member)
    for folder in ("container-logs", "kubelet-fixed"):
        (member.folder / folder).mkdir(parents=True, exist_ok=True)
    for tunable, value in TUNABLES.items():
        file = member.folder / "tunables" / tunable
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    for mountpoint in (Path("/var/log/containers"), Path("/var/lib/kubelet"), layout.settings.volumes):
        mountpoint.mkdir(parents=True, exist_ok=True)
    log = layout.logs / f"holder-{member.index}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [str(pause), *_marks(member)]
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--propagation",
            "slave",
            "sh",
            "-c",
            LAUNCH,
            "sh",
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "ENTRANCES": " ".join(map(str, entrances)),
            "SETUP": SETUP,
            "LOG": str(log),
            "FOLDER": str(member.folder),
            "VOLUMES": str(layout.settings.volumes),
            "TUNABLES": " ".join(TUNABLES),
        },
        check=False,
    )
    if done.returncode or not done.stdout.strip().isdigit():
        raise ClusterError(f"cannot make namespaces for node {member.name}: {done.stderr.strip()}")
    pid = int(done.stdout)
    record = write_record(path, pid, digest)

    def set_up() -> bool:
        if not record.alive():
            raise ClusterError(f"cannot set up node {member.name}: {log.read_text().strip()[-500:]}")
        return pid in with_arguments(_marks(member))

    wait_until(set_up, 10, lambda: f"node {member.name} is not set up; see {log}", pause=0.02)
    return record


def find_holder(layout: Layout, member: Member) -> Record | None:
    """The record of the node's holder where it runs."""
    record = read_record(_record_path(layout, member))
    return record if record and record.alive() else None


def release(layout: Layout, member: Member) -> None:
    """End the node, also where its record was lost: the holder's arguments name it."""
    path = _record_path(layout, member)
    if record := read_record(path):
        end(record, grace=2)
    for pid in with_arguments(_marks(member)):
        end(write_record(path, pid, ""), grace=2)
    path.unlink(missing_ok=True)


def connect(members: Sequence[Member], holders: Sequence[Record]) -> None:
    """Give every node its addresses and routes, and join all by veth pairs on a bridge of the first."""
    first = holders[0].pid
    for member, holder in zip(members, holders, strict=True):
        link = "nodes" if member.index == 0 else "eth0"
        others = [other for other in members if other.index != member.index]
        if member.index == 0:
            _inside(first, "ip link show nodes > /dev/null 2>&1 || ip link add nodes type bridge")
        else:
            _join(first, holder.pid, f"node{member.index}")
        lines = [
            "ip link set lo up",
            f"ip link set {link} up",
            f"ip address replace {member.address}/{NODE_PREFIX} dev {link}",
            # Connections to Services are routed before kube-proxy's rules redirect them.
            f"ip route replace {SERVICE_CIDR} dev {link} src {member.address}",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            *(f"ip route replace {other.pod_cidr} via {other.address}" for other in others),
        ]
        _inside(holder.pid, "\n".join(lines))


def _join(first: int, holder: int, port: str) -> None:
    """Lay the pair between the bridge and a node, anew where the node has none (its other end may linger)."""
    if "eth0" not in run([*enter(holder, "--net"), "ip", "-brief", "link"]):
        remove = f"ip link delete {port} 2> /dev/null || true"
        _inside(first, f"{remove}\nip link add {port} type veth peer name eth0 netns {holder}")
    _inside(first, f"ip link set {port} master nodes up")


def _inside(holder: int, script: str) -> None:
    run([*enter(holder, "--net"), "sh", "-ec", script])


def _marks(member: Member) -> list[str]:
    return ["slipway-node", member.cluster, str(member.index)]


def _record_path(layout: Layout, member: Member) -> Path:
    return layout.records / f"holder-{member.index}.json"
