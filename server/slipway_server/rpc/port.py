"""What all gRPC connections of this process share: how their calls begin."""

from __future__ import annotations

from slipway_server.access.callers import INFER, METADATA, Action
from slipway_server.access.gate import Gate
from slipway_server.call.body import Body
from slipway_server.door.server import Door
from slipway_server.errors import Reason, RequestError, not_now, show
from slipway_server.rpc.exchange import Rpc
from slipway_server.rpc.metadata import seconds_of
from slipway_server.rpc.service import SERVICE, Infer, Service, Status, Unary, Watch
from slipway_server.site.frontend import Frontend
from slipway_server.wire.kept import Kept

_PREFIX_BYTES = 5


class RpcPort(Door):
    """One listening socket of gRPC."""

    def __init__(self, frontend: Frontend) -> None:
        super().__init__(frontend.admission, frontend.limits)
        self.frontend = frontend
        #: Headers that were read before.
        self.kept = Kept()
        self._service = Service(frontend)

    def begin(self, rpc: Rpc) -> None:
        """The headers of a call have arrived."""
        head, frontend = rpc.head, self.frontend
        if head.method != "POST":
            rpc.http_status = b"405"
            return
        if not head.headers.get(b"content-type", b"").startswith(b"application/grpc"):
            rpc.http_status = b"415"
            return
        method = rpc.method = self._service.find(head.path)
        if method is None:
            words = f"there is no method {show(head.path)} here; ask the reflection service about {SERVICE}"
            rpc.send_status(Status.UNIMPLEMENTED, words)
            return
        if not isinstance(method, Infer):
            if not (isinstance(method, Watch) or (isinstance(method, Unary) and method.probe)):
                rpc.in_flight = True
                frontend.lifecycle.began()
                if frontend.gate is not None:
                    self._admit(rpc, frontend.gate, METADATA)
            return
        rpc.in_flight = True
        frontend.lifecycle.began()
        if frontend.gate is not None and not self._admit(rpc, frontend.gate, INFER):
            return
        rpc.codec = method.codec
        rpc.unanswered = True
        frontend.counters.began()
        try:
            if frontend.served is None:
                raise not_now(Reason.NOT_READY, "the model is still being loaded")
            head.seconds = seconds_of(head)
        except RequestError as error:
            rpc.refuse(error)
            return
        rpc.deadline = frontend.deadline(head, rpc.began)
        most = frontend.config.maxBodyBytes + _PREFIX_BYTES
        holder = None if rpc.head.caller is None else rpc.head.caller.account
        rpc.incoming = Body(most, self.admission.bodies, rpc.owner, rpc.refuse, holder)

    def _admit(self, rpc: Rpc, gate: Gate, action: Action) -> bool:
        """Whether whoever asks may do so; refuses the call otherwise."""
        rpc.head.peer = rpc.owner
        try:
            gate.admit(rpc.head, action, rpc.began)
        except RequestError as error:
            rpc.refuse(error)
            return False
        rpc.owner = rpc.head.caller.owner or rpc.owner
        return True

    def sweep(self, now: float) -> None:
        if self.frontend.lifecycle.draining:
            for connection in list(self.connections):
                connection.leave(now)
