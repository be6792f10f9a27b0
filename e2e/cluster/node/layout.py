"""Names, addresses and folders of a cluster and its nodes; everything derives from the cluster's name.

The addresses are the same in every cluster: each has a network namespace of its own, so none can clash.
"""

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.settings import Settings

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
POD_CIDR = "10.244.0.0/16"
NODE_PREFIX = 24
API_PORT = 6443


@dataclass(frozen=True)
class Member:
    """One node: a process that holds its namespaces, and what runs inside them."""

    cluster: str
    index: int
    folder: Path

    @property
    def name(self) -> str:
        """Its name as a Kubernetes node."""
        return f"{self.cluster}-{self.index}"

    @property
    def address(self) -> str:
        return f"10.250.0.{self.index + 1}"

    @property
    def pod_cidr(self) -> str:
        """Room for a thousand pods, so that a name never meets the address of a pod that just left."""
        return f"10.244.{self.index * 4}.0/22"

    @property
    def pods_cgroup(self) -> str:
        return f"{cluster_cgroup(self.cluster)}/node-{self.index}"


@dataclass(frozen=True)
class Layout:
    """Where one cluster keeps what."""

    settings: Settings

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def state(self) -> Path:
        return self.settings.state

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def records(self) -> Path:
        """One file per running process: its pid, and what proves that the pid is still that process."""
        return self.state / "pids"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def audit(self) -> Path:
        """What Slipway's operators wrote, one line of JSON for each request, as the API server saw it."""
        return self.logs / "audit.log"

    @property
    def unenforced(self) -> Path:
        """Why NetworkPolicies are not enforced; there only where they are not."""
        return self.state / "unenforced"

    @property
    def configs(self) -> Path:
        return self.state / "config"

    @property
    def system_cgroup(self) -> str:
        """Where the components themselves run, apart from the pods."""
        return f"{cluster_cgroup(self.name)}/system"

    def member(self, index: int) -> Member:
        return Member(self.name, index, self.state / f"node-{index}")

    def known_members(self) -> list[Member]:
        """The nodes that have left a folder, running or not, by index."""
        found = sorted(int(path.name.removeprefix("node-")) for path in self.state.glob("node-*"))
        return [self.member(index) for index in found]


def cluster_cgroup(cluster: str) -> str:
    """The cgroup, below each hierarchy's root, that holds the whole cluster."""
    return f"slipway/{cluster}"
