"""Looks at a model's outline for hazards in a process of its own, with limits.

Whoever made the model may have made it for whatever reads it. So the process that parses it gets the outline
and nothing else: no credentials, no environment, and from its first byte on no new file, socket or process.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping

from slipway.models.faults import ModelError
from slipway.models.hazard_child import CPU_SECONDS, FAILED, FOUND
from slipway.models.hazard_tables import Around
from slipway.models.onnx_file import Outline
from slipway.names import ModelFault

_log = logging.getLogger("slipway.models")

#: Seconds of the clock; a busy node gives a second of CPU slowly.
_SECONDS = 30 * CPU_SECONDS


def scan(outline: Outline, around: Around, name: str) -> None:
    """Look at a model; ``name`` is what messages call it.

    Raises:
        ModelError: ``MODEL_HAZARD``, with the node.
    """
    if outline.is_too_large:
        raise _hazard(
            name, "its graph without its weights is too large to be looked at: export a smaller one"
        )
    told = json.dumps(around._asdict() | {"domains": list(around.domains)}).encode() + b"\n"
    command = [sys.executable, "-P", "-S", "-s", "-m", "slipway.models.hazard_child"]
    try:
        done = subprocess.run(
            command,
            input=told + outline.content,
            env=_environment(os.environ),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _hazard(
            name, f"looking at its graph takes more than {_SECONDS} s: export a smaller one"
        ) from None
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode == FOUND:
        raise _hazard(name, said)
    if done.returncode == FAILED:
        raise ModelError(
            ModelFault.NOT_AN_ONNX_MODEL,
            f"{name} is a damaged ONNX model ({said}): export it and upload it again",
        )
    if done.returncode:
        _log.warning("the look at %s: %s", name, done.stderr.decode("utf-8", "replace")[-2000:])
        raise _hazard(
            name,
            f"looking at its graph takes more than {CPU_SECONDS} s of CPU or too much memory: "
            "export a smaller one",
        )


def _hazard(name: str, what: str) -> ModelError:
    return ModelError(ModelFault.MODEL_HAZARD, f"{name}: {what}")


def _environment(whole: Mapping[str, str]) -> dict[str, str]:
    """What an interpreter needs to start as this one did; nothing of what the pod was given."""
    kept = {key: whole[key] for key in ("PATH", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE") if key in whole}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
