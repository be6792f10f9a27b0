"""From any bytes to a case: which port, which model, which protocol, and in which pieces it arrives."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slipway_server.wire.frames import END_HEADERS, END_STREAM, PREFACE, Kind, frame, settings, window_update
from slipway_server.wire.headers import literal
from tests.fuzz.harness import FaultError, Port

#: How a body of the target ``body`` is sent: path, media type, whether a binary part may follow.
ROUTES = (
    (b"/v2/models/fraud/infer", b"application/json", False),
    (b"/v2/models/fraud/versions/3/infer", b"application/octet-stream", True),
    (b"/v1/models/fraud:predict", b"application/json", False),
    (b"/invocations", b"application/json", False),
    (b"/invocations", b"text/csv", False),
)
GZIP, TWICE = 0x40, 0x80
_SPLIT = (None, 1, 7, 64)


@dataclass(frozen=True, slots=True)
class Target:
    """Runs one case; raises whatever the server should not have raised."""

    run: Callable[[dict[str, Port], bytes], object]
    max_bytes: int = 4096


def _port(ports: dict[str, Port], choice: int) -> Port:
    return ports["every_datatype" if choice & 1 else "identity"]


def _pieces(data: bytes, size: int | None) -> Iterator[bytes]:
    """``data`` at once, or in pieces of ``size`` bytes."""
    size = size or max(1, len(data))
    for start in range(0, len(data), size):
        yield data[start : start + size]


def http(ports: dict[str, Port], data: bytes) -> bytes:
    """Bytes as they arrive on a connection of HTTP/1.1; the first one says for whom, and in which pieces."""
    if not data:
        return b""
    return _port(ports, data[0]).speak_http(_pieces(data[1:], _SPLIT[data[0] >> 1 & 3]))


def body(ports: dict[str, Port], data: bytes) -> bytes:
    """A body in a request that is well-formed; the first byte says which kind, two more where it splits."""
    if len(data) < 3:
        return b""
    choice, content = data[0], data[3:]
    path, media, binary = ROUTES[(choice >> 1 & 0x1F) % len(ROUTES)]
    fields = [b"host: a", b"content-type: " + media]
    if binary:
        fields.append(b"inference-header-content-length: %d" % int.from_bytes(data[1:3], "big"))
    if choice & GZIP:
        fields.append(b"content-encoding: gzip")
        content = gzip.compress(content, 1)
    fields.append(b"content-length: %d" % len(content))
    request = b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (path, b"\r\n".join(fields), content)
    # The second time its head, and maybe the frame of its JSON, is known.
    answer = _port(ports, choice).speak_http([request] * (2 if choice & TWICE else 1))
    if not answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4", b"HTTP/1.1 503 ")):
        raise FaultError(f"a well-formed request got {answer[:200]!r}")
    return answer


def http2(ports: dict[str, Port], data: bytes) -> bytes:
    """Bytes as they arrive on a connection of gRPC after its greeting."""
    if not data:
        return b""
    pieces = _pieces(data[1:], _SPLIT[data[0] >> 1 & 3])
    return _port(ports, data[0]).speak_grpc([PREFACE + settings({}), *pieces])


def message(ports: dict[str, Port], data: bytes) -> bytes:
    """A protobuf message in a call that is well-formed; the first byte says to which method."""
    if not data:
        return b""
    path = METHODS[(data[0] >> 1) % len(METHODS)]
    content = b"\0" + len(data[1:]).to_bytes(4, "big") + data[1:]
    call = [
        PREFACE + settings({}),
        frame(Kind.HEADERS, END_HEADERS, 1, call_headers(path)),
        frame(Kind.DATA, END_STREAM, 1, content),
    ]
    answer = _port(ports, data[0]).speak_grpc([b"".join(call)])
    if b"grpc-status" not in answer:
        raise FaultError(f"a well-formed call got {answer[:200]!r}")
    return answer


def frames(ports: dict[str, Port], data: bytes) -> bytes:
    """Frames that are whole, in any order; those of headers open calls, whatever else is wrong with them."""
    if not data:
        return b""
    sent, position = [PREFACE + settings({})], 1
    while position + 4 <= len(data):
        kind, flags, stream, size = data[position : position + 4]
        payload = data[position + 4 : position + 4 + size % 32]
        position += 4 + size % 32
        if kind % 11 == Kind.HEADERS and size & 0x80:
            payload = call_headers(METHODS[size % len(METHODS)])
        sent.append(frame(kind % 11, flags, stream, payload))
    return _port(ports, data[0]).speak_grpc(_gathered(sent, data[0] >> 1 & 3))


def settings_only(ports: dict[str, Port], data: bytes) -> bytes:
    """Settings and windows of a client while calls are answered: six bytes for each of them."""
    if not data:
        return b""
    message = b"\0\0\0\0\0"
    sent = [PREFACE + settings({})]
    for number, start in enumerate(range(1, len(data) - 5, 6)):
        name, value = data[start] % 10, int.from_bytes(data[start + 1 : start + 5], "big")
        if name >= 8:
            sent.append(window_update(0 if name == 8 else data[start + 5], value & 0x7FFFFFFF))
        else:
            pair = name.to_bytes(2, "big") + value.to_bytes(4, "big")
            sent.append(frame(Kind.SETTINGS, 0, 0, pair * (1 + data[start + 5] % 40)))
        if number % 4 == 0:
            call = call_headers(METHODS[data[start + 5] % len(METHODS)])
            stream = 2 * number + 1
            sent.append(frame(Kind.HEADERS, END_HEADERS, stream, call))
            sent.append(frame(Kind.DATA, END_STREAM, stream, message))
    return _port(ports, data[0]).speak_grpc(_gathered(sent, data[0] >> 1 & 3))


def doors(ports: dict[str, Port], data: bytes) -> bytes:
    """Both ports at once, piece by piece in turn: first the size of a piece, then for whom it is."""
    if not data:
        return b""
    steps, position = [(True, PREFACE + settings({}))], 1
    while position + 1 < len(data):
        size = data[position] >> 1
        steps.append((bool(data[position] & 1), data[position + 1 : position + 1 + size]))
        position += 1 + size
    return _port(ports, data[0]).speak_both(steps)


def _gathered(frames: list[bytes], how: int) -> Iterator[bytes]:
    """Frames one by one, some at a time, or all at once."""
    count = (len(frames), 1, 3, 10)[how]
    for start in range(0, len(frames), count):
        yield b"".join(frames[start : start + count])


METHODS = (
    b"/inference.GRPCInferenceService/ModelInfer",
    b"/inference.GRPCInferenceService/ModelMetadata",
    b"/inference.GRPCInferenceService/ModelReady",
    b"/grpc.health.v1.Health/Check",
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)


def call_headers(path: bytes) -> bytes:
    """The header block of a call."""
    pairs = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"a"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(literal(name, value) for name, value in pairs)


TARGETS = {
    "http": Target(http),
    "body": Target(body),
    "http2": Target(http2),
    "message": Target(message),
    "frames": Target(frames, 1024),
    "settings": Target(settings_only, 1024),
    "doors": Target(doors),
}
