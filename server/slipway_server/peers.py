"""How many pods serve the same revision, by the DNS name of its headless Service."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

#: Cluster DNS remembers for 5 to 30 s.
_SECONDS = 15.0


async def follow_peers(host: str, told: Callable[[int], None]) -> None:
    """Tell the number of ready pods behind ``host``, again and again; nothing where it cannot be known."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            found = []
        count = count_of(found)
        if count:
            told(count)
        await asyncio.sleep(_SECONDS * random.uniform(0.75, 1.25))


def count_of(found: Iterable[tuple[Any, ...]]) -> int:
    """Hosts in what ``getaddrinfo`` found; with two families each has an address of both."""
    families = Counter(family for family, _ in {(each[0], each[4][0]) for each in found})
    return max(families.values(), default=0)
