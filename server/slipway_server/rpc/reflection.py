"""gRPC server reflection: clients such as grpcurl ask which services there are and how they are built."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from slipway_server.rpc.messages import parse_message
from slipway_server.rpc.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

_NOT_FOUND = 5
_NAME = "grpc.reflection.v1.ServerReflection"


class Reflection:
    """Answers about the given services; none of their files imports another one."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = [*services, _NAME]
        pool = descriptor_pool.Default()
        self._files = {
            file.name: file for file in (pool.FindFileContainingSymbol(name) for name in self._services)
        }
        self._pool = pool

    def answer(self, message: bytes) -> bytes:
        """The response to one request; raises :class:`RequestError` for bytes that are none."""
        asked = parse_message(ServerReflectionRequest, message)
        response = ServerReflectionResponse(valid_host=asked.host, original_request=asked)
        match asked.WhichOneof("message_request"):
            case "list_services":
                services = [ServiceResponse(name=name) for name in self._services]
                response.list_services_response.CopyFrom(ListServiceResponse(service=services))
            case "file_by_filename":
                self._show(response, asked.file_by_filename)
            case "file_containing_symbol":
                try:
                    name = self._pool.FindFileContainingSymbol(asked.file_containing_symbol).name
                except KeyError:
                    name = ""
                self._show(response, name)
            case "all_extension_numbers_of_type" if self._is_ours(asked.all_extension_numbers_of_type):
                none = ExtensionNumberResponse(base_type_name=asked.all_extension_numbers_of_type)
                response.all_extension_numbers_response.CopyFrom(none)
            case _:
                self._show(response, "")
        return response.SerializeToString()

    def _is_ours(self, message: str) -> bool:
        try:
            return self._pool.FindMessageTypeByName(message).file.name in self._files
        except KeyError:
            return False

    def _show(self, response: ServerReflectionResponse, name: str) -> None:
        file = self._files.get(name)
        if file is None:
            error = ErrorResponse(error_code=_NOT_FOUND, error_message="there is no such thing here")
            response.error_response.CopyFrom(error)
            return
        text = FileDescriptorProto()
        file.CopyToProto(text)
        response.file_descriptor_response.CopyFrom(
            FileDescriptorResponse(file_descriptor_proto=[text.SerializeToString()])
        )
