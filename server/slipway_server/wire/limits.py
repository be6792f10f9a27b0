"""Every limit that both ports put on their clients: one table, which ``docs/under-attack.md`` repeats."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. Tests make tighter ones."""

    # HTTP/1.1

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
