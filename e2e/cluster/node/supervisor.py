"""Start components, tell whether they are well, and replace those that are not."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.command import tell, wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.node import cgroups, holder
from e2e.cluster.node.components import SOCKET, Component
from e2e.cluster.node.layout import Layout, Member
from e2e.cluster.node.probe import http_ok, socket_accepts
from e2e.cluster.node.process import Record, digest_of, end, read_record, start_inside, strays, write_record

READY_SECONDS = 180
SICK_SECONDS = 10


@dataclass(frozen=True)
class Supervisor:
    """Looks after the components of one cluster by their records."""

    layout: Layout

    def record(self, component: Component) -> Record | None:
        """The component's process, where it lives."""
        record = read_record(self._record_path(component))
        return record if record and record.alive() else None

    def ensure(self, component: Component) -> bool:
        """Start the component unless it already runs with this command and configuration; true if started."""
        texts = [part for path, text in sorted(component.files.items()) for part in (str(path), text)]
        digest = digest_of(*component.argv, *texts, str(component.listen or ""))
        running = read_record(self._record_path(component))
        if running and running.digest == digest and running.alive():
            return False
        if running:
            end(running, component.grace)
        held = self.holder(self.layout.member(component.member)).pid
        # Also what a lost record left behind: two of a kind would fight over the same port.
        for pid in strays(held, component.argv[0]):
            end(write_record(self._record_path(component), pid, ""), component.grace)
        for file, text in component.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        log = self.layout.logs / f"{component.label}.log"
        entrances = cgroups.entrances(self.layout)
        if component.listen is None:
            pid = start_inside(held, component.argv, log, entrances)
        else:
            with listen(component.listen) as socket_of_machine:
                number = socket_of_machine.fileno()
                argv = [str(number) if word == SOCKET else word for word in component.argv]
                pid = start_inside(held, argv, log, entrances, keep=[number])
        write_record(self._record_path(component), pid, digest)
        return True

    def end_sick(self, components: Sequence[Component]) -> list[Component]:
        """End components that run but do not answer; returns them, to be started anew."""
        sick = [component for component in components if not self.is_well(component)]
        with suppress(ClusterError):
            wait_until(lambda: all(map(self.is_well, sick)), SICK_SECONDS, lambda: "still sick")
        still = [component for component in sick if not self.is_well(component)]
        for component in still:
            tell(f"  {component.label} runs but does not answer: it is started anew")
            if record := self.record(component):
                end(record, component.grace)
        return still

    def is_well(self, component: Component) -> bool:
        """Whether the component lives and says that it works."""
        held = holder.find_holder(self.layout, self.layout.member(component.member))
        if held is None or self.record(component) is None:
            return False
        if component.health is None:
            return True
        if component.health.startswith("/"):
            return socket_accepts(held.pid, component.health)
        return http_ok(held.pid, component.health)

    def require_alive(self, components: Sequence[Component]) -> None:
        """ClusterError with the last word of a component that has ended, instead of a long wait for it."""
        for component in components:
            if self.record(component) is None:
                log = self.layout.logs / f"{component.label}.log"
                words = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                raise ClusterError(f"{component.label} has ended: {' '.join(words)[-300:]}")

    def wait_for(self, component: Component) -> None:
        """Wait until the component is well; ClusterError where it does not get there."""

        def well() -> bool:
            self.require_alive([component])
            return self.is_well(component)

        self.wait_until(well, f"{component.label} is not well")

    def wait_until(self, check: Callable[[], bool], failure: str) -> None:
        """Wait for a check; ClusterError says the failure and where the logs are."""
        message = f"{failure} after {READY_SECONDS} s; logs are in {self.layout.logs}"
        wait_until(check, READY_SECONDS, lambda: message)

    def holder(self, member: Member) -> Record:
        """The process that holds the node; ClusterError where the node is down."""
        held = holder.find_holder(self.layout, member)
        if held is None:
            raise ClusterError(f"node {member.name} is not up: run `python -m e2e.cluster up`")
        return held

    def _record_path(self, component: Component) -> Path:
        return self.layout.records / f"{component.label}.json"


def listen(port: int) -> socket.socket:
    """A listening socket on this machine's loopback; port 0 takes any that is free."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as taken:
        listening.close()
        raise ClusterError(f"port {port} of 127.0.0.1 is taken by another program") from taken
    listening.listen(128)
    return listening
