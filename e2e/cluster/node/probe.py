"""Questions to what runs inside a node, asked from this process through the node's network."""

import socket
import ssl
import struct
import urllib.request

from e2e.cluster.node.layout import DNS_ADDRESS
from e2e.cluster.node.process import inside_network

# The components' health endpoints on the node's own loopback carry certificates for other names.
TRUSTING = ssl._create_unverified_context()


def http_ok(holder: int, url: str, seconds: float = 2) -> bool:
    """Whether the URL answers 200 inside the node."""
    try:
        with inside_network(holder), _opener.open(url, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def socket_accepts(holder: int, path: str) -> bool:
    """Whether a Unix socket below the node's own folders accepts connections."""
    probe = socket.socket(socket.AF_UNIX)
    probe.settimeout(2)
    try:
        with probe:
            # /proc shows the holder's file tree, mounts included.
            probe.connect(f"/proc/{holder}/root{path}")
    except OSError:
        return False
    return True


def dns_answers(holder: int, name: str = "kubernetes.default.svc.cluster.local") -> bool:
    """Whether the cluster's DNS, asked over its Service address, knows a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    try:
        with inside_network(holder), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(1)
            probe.connect((DNS_ADDRESS, 53))
            probe.send(question)
            reply = probe.recv(512)
    except OSError:
        return False
    flags, _, answers = struct.unpack(">3H", reply[2:8])
    return bool(flags & 0x000F == 0 and answers > 0)


_opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=TRUSTING)
)
