"""What the user of a terminal is told."""

from __future__ import annotations

from datetime import datetime


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def say_now(text: str) -> None:
    """Print what has just happened, with the time."""
    say(f"{datetime.now():%H:%M:%S} {text}")


def address(host: str, port: int) -> str:
    """Where a server answers, as a client on this machine writes it."""
    if host in ("", "0.0.0.0", "127.0.0.1", "::", "::1"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
