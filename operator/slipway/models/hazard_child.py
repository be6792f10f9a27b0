"""The process that looks at an outline: reads it from its input, says the first hazard on its output.

It imports as little as it can, since it starts for every model: neither ``dataclasses`` nor ``site``.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

CPU_SECONDS = 20
#: Of addresses: an outline of 16 MiB and what reads it. A resolver has 256 MiB by default.
_MEMORY = 224 * 1024 * 1024
#: Exit codes.
FOUND, FAILED = 3, 4


def main() -> int:
    """Look, and give the exit code."""
    import json

    from google.protobuf.message import DecodeError

    from slipway.models import onnx_graph_pb2 as pb
    from slipway.models.hazard_tables import Around
    from slipway.models.hazards import HazardError, look

    alone()
    told = json.loads(sys.stdin.buffer.readline())
    try:
        model = pb.Model.FromString(sys.stdin.buffer.read())
        look(model, Around(told["files"], told["domains"], told["memory"]))
    except HazardError as error:
        return _said(str(error), FOUND)
    except (DecodeError, RecursionError) as error:
        return _said(str(error), FAILED)
    return 0


def alone() -> None:
    """Give up every right that is not needed to read, think and answer. It cannot be had back."""
    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_AS: _MEMORY,
    }
    for limit, most in limits.items():
        # Not every system has each of them: macOS knows no limit of addresses.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def _said(words: str, code: int) -> int:
    os.write(1, words.encode("utf-8", "replace")[:2000])
    return code


if __name__ == "__main__":
    sys.exit(main())
