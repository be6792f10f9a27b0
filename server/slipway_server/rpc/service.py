"""The methods: inference, metadata, health and reflection, over the same model as the REST side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import version

from slipway.names import DISTRIBUTION
from slipway_server.errors import Reason, RequestError, show
from slipway_server.protocol.tensors import TensorSpec
from slipway_server.rpc import health_pb2 as health
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.rpc.messages import InferCodec, parse_message
from slipway_server.rpc.reflection import Reflection
from slipway_server.site.frontend import PLATFORM, Frontend

SERVICE = "inference.GRPCInferenceService"
_HEALTH = "grpc.health.v1.Health"


class Status(IntEnum):
    """The status codes of gRPC that this server gives."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_STATUS = {
    Reason.NOT_FOUND: Status.NOT_FOUND,
    Reason.SIZE: Status.RESOURCE_EXHAUSTED,
    Reason.PEER_CRASHES: Status.RESOURCE_EXHAUSTED,
    Reason.RATE: Status.RESOURCE_EXHAUSTED,
    Reason.SLOW_CLIENT: Status.DEADLINE_EXCEEDED,
    Reason.DEADLINE: Status.DEADLINE_EXCEEDED,
    Reason.OVERLOAD: Status.UNAVAILABLE,
    Reason.NOT_READY: Status.UNAVAILABLE,
    Reason.ACCESS_UNAVAILABLE: Status.UNAVAILABLE,
    Reason.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Reason.FORBIDDEN: Status.PERMISSION_DENIED,
    # As gRPC's own text about compression has it.
    Reason.MEDIA_TYPE: Status.UNIMPLEMENTED,
}


def status_of(error: RequestError) -> Status:
    """The status that says in gRPC what the error's status says in HTTP."""
    return _STATUS.get(error.reason, Status.INVALID_ARGUMENT)


@dataclass(frozen=True, slots=True)
class Infer:
    """Inference: one message, which the engine answers."""

    codec: InferCodec


@dataclass(frozen=True, slots=True)
class Unary:
    """One message and one answer, at once; ``probe`` is what is asked without end and no drain waits for."""

    answer: Callable[[bytes], bytes]
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """Any number of messages, each answered at once."""

    answer: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Watch:
    """One message, answered at once and whenever the answer changes."""

    answer: Callable[[bytes], bytes]


Method = Infer | Unary | Talk | Watch


class Service:
    """Finds a method by its path."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        config = frontend.config
        reflection = Talk(Reflection((SERVICE, _HEALTH)).answer)
        self._methods: dict[str, Method] = {
            f"/{SERVICE}/ServerLive": Unary(self._live, probe=True),
            f"/{SERVICE}/ServerReady": Unary(self._ready, probe=True),
            f"/{SERVICE}/ModelReady": Unary(self._model_ready),
            f"/{SERVICE}/ServerMetadata": Unary(self._server_metadata),
            f"/{SERVICE}/ModelMetadata": Unary(self._model_metadata),
            f"/{SERVICE}/ModelInfer": Infer(
                InferCodec(config.modelName, config.modelVersion, frontend.check_name)
            ),
            f"/{_HEALTH}/Check": Unary(self._check, probe=True),
            f"/{_HEALTH}/Watch": Watch(self._watch),
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": reflection,
            # The same messages under the name they had before.
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflection,
        }

    def find(self, path: str) -> Method | None:
        return self._methods.get(path)

    def _live(self, _: bytes) -> bytes:
        return oip.ServerLiveResponse(live=True).SerializeToString()

    def _ready(self, _: bytes) -> bytes:
        return oip.ServerReadyResponse(ready=self._frontend.lifecycle.ready).SerializeToString()

    def _model_ready(self, message: bytes) -> bytes:
        asked = parse_message(oip.ModelReadyRequest, message)
        self._frontend.check_name(asked.name, asked.version or None)
        return oip.ModelReadyResponse(ready=self._frontend.lifecycle.ready).SerializeToString()

    def _server_metadata(self, _: bytes) -> bytes:
        return oip.ServerMetadataResponse(name="slipway", version=version(DISTRIBUTION)).SerializeToString()

    def _model_metadata(self, message: bytes) -> bytes:
        asked = parse_message(oip.ModelMetadataRequest, message)
        served = self._frontend.find_served(asked.name, asked.version or None)
        return oip.ModelMetadataResponse(
            name=served.name,
            versions=[served.version],
            platform=PLATFORM,
            inputs=[_described(spec) for spec in served.model.taken.values()],
            outputs=[_described(spec) for spec in served.model.outputs.values()],
            parameters={
                "batching": oip.InferParameter(string_param=served.profile.why),
                "device": oip.InferParameter(string_param=served.model.device),
            },
        ).SerializeToString()

    def _check(self, message: bytes) -> bytes:
        name = parse_message(health.HealthCheckRequest, message).service
        if name not in ("", SERVICE, _HEALTH):
            raise RequestError(404, Reason.NOT_FOUND, f"there is no service {show(name)} here, but {SERVICE}")
        return self._health()

    def _watch(self, message: bytes) -> bytes:
        if parse_message(health.HealthCheckRequest, message).service not in ("", SERVICE, _HEALTH):
            unknown = health.HealthCheckResponse.SERVICE_UNKNOWN
            return health.HealthCheckResponse(status=unknown).SerializeToString()
        return self._health()

    def _health(self) -> bytes:
        ready = self._frontend.lifecycle.ready
        status = health.HealthCheckResponse.SERVING if ready else health.HealthCheckResponse.NOT_SERVING
        return health.HealthCheckResponse(status=status).SerializeToString()


def _described(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(
        name=spec.name,
        datatype=spec.datatype,
        shape=spec.shape or (),
        parameters={"optional": oip.InferParameter(bool_param=True)} if spec.optional else {},
    )
