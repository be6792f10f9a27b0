"""Who gets in, and what each may hold: one account for all ports of a process.

Each resource has a limit. As long as there is room, anybody may take as much of it as is wanted. Where there
is none, whoever holds most gives way, and a newcomer that would itself hold most is refused: *max-min
fairness*. So a share costs nothing where nobody else wants it, and nothing behind a router, whose clients
have one address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Protocol

from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.wire.limits import Limits


def owner_of(peer: Any) -> Hashable:
    """For whom a connection counts: the peer's address, of IPv6 its /64, which is what one customer gets.

    ``peer`` is as asyncio has it. A caller's identity will take the address's place where there is one.
    """
    if not isinstance(peer, tuple) or not peer:
        return ""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return str(peer[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return address.packed[:8]
        address = address.ipv4_mapped
    return address.packed


@lru_cache(maxsize=1024)
def name_of(owner: Hashable) -> str:
    """As people write an owner of :func:`owner_of`."""
    if not isinstance(owner, bytes):
        return str(owner)
    return (
        f"{ipaddress.ip_address(owner + bytes(8))}/64"
        if len(owner) == 8
        else str(ipaddress.ip_address(owner))
    )


class Holder(Protocol):
    """What holds some of a resource."""

    @property
    def owner(self) -> Hashable:
        """For whom it counts."""

    @property
    def amount(self) -> int:
        """How much it holds."""

    @property
    def is_movable(self) -> bool:
        """Whether it can give way: not while the model works on it."""

    def give_way(self) -> None:
        """Give back what it holds, at least a part; nothing where that cannot be."""


class Pool:
    """A resource with a limit: bytes, or calls. Who has how much is looked up only where there is no room."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.holders: set[Holder] = set()

    def take(self, holder: Holder, size: int, alone: bool = False) -> bool:
        """Let ``holder`` have so much more; whether there was room, or somebody made some.

        Whoever is let has to add it to its amount. With ``alone`` it may exceed the limit where nobody else
        has anything.
        """
        if self.used + size > self.most and not self._make_room(holder, size):  # noqa: SIM102
            if not alone or self.used > holder.amount:
                return False
        self.used += size
        self.holders.add(holder)
        return True

    def give_back(self, holder: Holder, size: int, is_all: bool = True) -> None:
        """``holder`` has so much less; by default nothing any more."""
        self.used -= size
        if is_all:
            self.holders.discard(holder)

    def _make_room(self, holder: Holder, size: int) -> bool:
        while self.used + size > self.most:
            totals: Counter[Hashable] = Counter()
            for each in self.holders:
                totals[each.owner] += each.amount
            movable = (each for each in self.holders if each.is_movable)
            largest = max(movable, key=lambda each: (totals[each.owner], each.amount), default=None)
            if largest is None or largest is holder:
                return False
            if largest.owner == holder.owner:
                if largest.amount <= holder.amount + size:
                    return False
            elif totals[largest.owner] <= totals[holder.owner] + size:
                return False
            before = self.used
            largest.give_way()
            if self.used >= before:
                return False
        return True


class Guest(Protocol):
    """A connection, as the list of guests sees it."""

    #: Which port it came in by.
    kind: str

    @property
    def owner(self) -> Hashable:
        """For whom it counts."""

    def close_if_idle(self) -> bool:
        """Close it if nothing is under way on it; whether that was so."""

    def turn_away(self, error: RequestError) -> None:
        """Answer what is under way, or nothing in particular, with an error and close it."""


class Guests:
    """All connections of a process. Each address has its part of each port, since probes come by them too."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._groups: dict[tuple[Hashable, str], dict[Guest, None]] = {}
        self._count = 0
        #: Idle connections that made room for others, since somebody last looked.
        self.crowded_out = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, guest: Guest) -> None:
        """Take a new connection; where there is no room, somebody's makes some, or it is turned away."""
        full = self._count >= self.most and not self._make_room(guest)
        self._groups.setdefault((guest.owner, guest.kind), {})[guest] = None
        self._count += 1
        if full:
            guest.turn_away(no_room("connections"))

    def leave(self, guest: Guest) -> None:
        key = (guest.owner, guest.kind)
        group = self._groups.get(key)
        if group is None or guest not in group:
            return
        del group[guest]
        self._count -= 1
        if not group:
            del self._groups[key]

    def _make_room(self, newcomer: Guest) -> bool:
        """Close an idle connection of whoever has most, else its oldest one where the newcomer has fewer."""
        largest = max(self._groups.values(), key=len, default=None)
        if not largest:
            return False
        for guest in largest:
            if guest.close_if_idle():
                self.leave(guest)
                self.crowded_out += 1
                return True
        if len(largest) <= len(self._groups.get((newcomer.owner, newcomer.kind), ())) + 1:
            return False
        oldest = next(iter(largest))
        self.leave(oldest)
        oldest.turn_away(no_room("connections"))
        return True


def no_room(what: str) -> RequestError:
    return not_now(Reason.OVERLOAD, f"the server has no room for more {what}")


class Admission:
    """All that the ports of a process share among their clients."""

    def __init__(self, limits: Limits, connections: int, body_bytes: int) -> None:
        """``connections`` is what the process may have of them, whatever ``limits`` says."""
        self.guests = Guests(max(1, min(limits.connections, connections)))
        #: Bytes of requests: bodies, and what has arrived of a head or a frame.
        self.bodies = Pool(body_bytes)
        #: Bytes of answers whose clients do not read.
        self.answers = Pool(limits.unread_bytes)
        #: Calls of gRPC under way.
        self.calls = Pool(limits.calls)
