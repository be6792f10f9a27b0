"""A network of its own for the whole bench, so that no port and no address meets another cluster's.

Pods that answer have addresses of this machine's loopback; those of black holes lie behind a link whose far
end drops every packet, so that a connection to them is neither accepted nor refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from e2e.cluster.errors import ClusterError

#: Networks of pods: of RFC 2544, for benches.
ANSWERING, DROPPING = "198.18", "198.19"
_INSIDE = "SLIPWAY_BENCH_FLEET_INSIDE"
_SET_UP = f"""set -e
ip link set lo up
ip address add {{address}}/32 dev lo
ip route add local {ANSWERING}.0.0/16 dev lo
ip link add hole type veth peer name hole-end
ip link set hole arp off
ip link set hole-end arp off
ip link set hole up
ip link set hole-end up
ip route add {DROPPING}.0.0/16 dev hole src {{address}}
"""


def is_inside() -> bool:
    """Whether this process was started by :func:`enter`."""
    return os.environ.get(_INSIDE) == "1"


def enter(module: str, arguments: Sequence[str]) -> None:
    """Go on as another process, of a module, in a network of its own; does not return.

    Raises:
        ClusterError: if this machine has no ``unshare``.
    """
    # Who is not root is so inside, where nothing but the network is another one.
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *as_root, "--net", sys.executable, "-m", module, *arguments]
    try:
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})
    except FileNotFoundError as missing:
        raise ClusterError("unshare is not installed: install util-linux") from missing


def set_up(address: str) -> None:
    """Give the network its loopback, an address for the API server, and the pods' networks.

    Raises:
        ClusterError: with ip's last words.
    """
    done = subprocess.run(
        ["sh", "-c", _SET_UP.format(address=address)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"cannot set up a network for the bench: {done.stderr.strip()}")


def address_of(network: str, number: int) -> str:
    """The address of a network's pod, by its number from 0."""
    return f"{network}.{1 + number // 250}.{1 + number % 250}"
