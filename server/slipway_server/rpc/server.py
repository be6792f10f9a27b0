"""All gRPC connections of this process."""

from __future__ import annotations

from slipway_server.rpc.connection import RpcConnection
from slipway_server.rpc.port import RpcPort


class RpcServer(RpcPort):
    """One listening socket by :class:`RpcConnection`."""

    def connect(self) -> RpcConnection:
        return RpcConnection(self)
