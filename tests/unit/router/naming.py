"""A DNS of a cluster, which names the pods of each Service that are ready."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

from slipway.core.traffic.envoy.messages import TYPE

#: As CoreDNS tells resolvers to keep what it said, in seconds.
_TTL = 5
_A, _AAAA, _NO_SUCH_NAME = 1, 28, 3


class Names(asyncio.DatagramProtocol):
    """Answers for A and AAAA records; a name without an address does not exist."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked: collections.Counter[str] = collections.Counter()
        #: When a name was first said to have addresses, by `time.monotonic`.
        self.given: dict[str, float] = {}
        self.port = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12)
        name = data[13 : 13 + data[12]].decode()
        (kind,) = struct.unpack("!H", data[end + 1 : end + 3])
        self.asked[name] += 1
        found = self.addresses.get(name, [])
        if found:
            self.given.setdefault(name, time.monotonic())
        packed = [
            (_AAAA, socket.inet_pton(socket.AF_INET6, each)) if ":" in each else (_A, socket.inet_aton(each))
            for each in found
        ]
        answers = [address for type_, address in packed if type_ == kind]
        code = 0 if found else _NO_SUCH_NAME
        head = data[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(answers), 0, 0)
        records = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, _TTL, len(each)) + each for each in answers)
        self._transport.sendto(head + data[12 : end + 5] + records, addr)

    def resolver(self) -> dict[str, Any]:
        """What makes an Envoy ask here and nowhere else."""
        return {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": f"{TYPE}.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": self.port}}],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        }


@contextlib.asynccontextmanager
async def naming() -> AsyncIterator[Names]:
    """Such a DNS on a port of its own."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    try:
        yield names
    finally:
        transport.close()
