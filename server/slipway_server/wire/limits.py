"""Every limit that both ports put on their clients, in one table."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. Tests make tighter ones."""

    # Both ports

    #: Connections of a process, fewer where it may not have as many files.
    connections: int = 20_000
    #: Bodies in memory at once, in units of the largest that is allowed.
    bodies: int = 4
    #: Bytes of answers that wait for clients who do not read.
    unread_bytes: int = 128 * MIB
    #: Seconds for the head of a request, or for a frame of HTTP/2 once it has begun.
    head_seconds: float = 20.0
    #: Whoever sends a body or reads an answer has to move so many bytes a second, in each such time.
    bytes_per_second: int = KIB
    pace_seconds: float = 5.0
    #: Idle connections are kept longer than clients and proxies keep theirs, so that the client is the one
    #: who closes: the other way round, a request can cross the closing on its way and be lost.
    idle_seconds: float = 620.0
    #: Seconds between two looks at the connections.
    sweep_seconds: float = 0.5

    # HTTP/1.1

    #: Requests of one connection that may wait for their answers before it is read no further.
    pipelined: int = 16
    #: How long, and how many bytes, a refused body is read on so that its sender gets to see the answer.
    linger_seconds: float = 5.0
    linger_bytes: int = 64 * MIB
    #: A larger head is refused, and one with more headers.
    head_bytes: int = 64 * KIB
    headers: int = 128

    # HTTP/2

    #: The largest frame that a client may send, and is sent.
    frame_bytes: int = 64 * KIB
    #: All headers of a call: encoded before they are decoded, and decoded as HTTP/2 counts them.
    header_bytes: int = 16 * KIB
    #: Calls under way on one connection.
    streams: int = 256
    #: The same over all connections of a process.
    calls: int = 16_384
    #: A message to any method but ``ModelInfer``, and answers to them that wait.
    small_message_bytes: int = 64 * KIB
    unsent_bytes: int = 256 * KIB
    #: A stream of questions that ask nothing for so long ends.
    quiet_seconds: float = 60.0
    #: What a client may send ahead, on one stream and on all together.
    stream_window: int = MIB
    connection_window: int = 4 * MIB
    #: Settings in one frame.
    settings: int = 32
    #: Changes of HPACK's table at the start of one header block (RFC 7541, 4.2).
    table_updates: int = 2
    #: Frames that carry no work, between two looks at a connection.
    idle_frames: int = 1000
    #: As many of them an answered call makes up for, and so many bytes of an answer for one: clients send
    #: pings and window updates along with both.
    idle_frames_per_call: int = 16
    bytes_per_idle_frame: int = 2 * KIB
    #: A piece of an answer that is smaller because of the client's window is such a frame.
    small_piece_bytes: int = KIB


LIMITS = Limits()
