"""``slipway-model``: what the resolver pod and the init container of model pods run.

The task is JSON in an environment variable, the answer JSON in the container's termination message. Exit code
0 where it worked, 1 where it did not and the answer says why, 2 where the task itself cannot be read.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from slipway.contract import (
    MODEL_DIR,
    MODEL_DIR_ENV,
    MODEL_TASK_ENV,
    TERMINATION_PATH,
    Failed,
    Failure,
    Fetched,
    FetchTask,
    Resolved,
    ResolveTask,
    TerminationMessage,
)
from slipway.models.credentials import Credentials
from slipway.models.faults import MESSAGE_LIMIT, ModelError, shortened
from slipway.models.source import fetch, resolve
from slipway.models.sources import Surroundings, source_of
from slipway.models.trust import Trust
from slipway.models.whole import fetch_whole, resolve_whole

#: Kubernetes cuts a termination message here, in bytes.
TERMINATION_LIMIT = 4096

_log = logging.getLogger("slipway.models")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one task; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="slipway-model",
        description="Finds and fetches models. Runs in the pods that Slipway makes.",
        epilog=f"The task is a JSON object in the environment variable {MODEL_TASK_ENV}.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("resolve", help="find which version and which bytes a model URI means")
    commands.add_parser("fetch", help=f"put the files of a resolved model into {MODEL_DIR} and verify them")
    command: str = parser.parse_args(arguments).command

    text = os.environ.get(MODEL_TASK_ENV, "")
    around = Surroundings.of()
    _set_up(around.credentials)
    try:
        done = _resolve(text, around) if command == "resolve" else _fetch(text, around)
        outcome, code = TerminationMessage(outcome=done), 0
    except ValidationError as error:
        parser.error(f"{MODEL_TASK_ENV} does not hold a task for '{command}': {error}")
    except ModelError as error:
        message = shortened(around.credentials.redacted(str(error)), MESSAGE_LIMIT)
        _log.error("%s: %s", error.reason, message)
        outcome, code = (
            TerminationMessage(outcome=Failed(failure=Failure(reason=error.reason, message=message))),
            1,
        )
    Path(os.environ.get("SLIPWAY_TERMINATION_PATH", TERMINATION_PATH)).write_bytes(last_words(outcome))
    return code


def last_words(outcome: TerminationMessage) -> bytes:
    """An outcome as JSON of at most :data:`TERMINATION_LIMIT` bytes, by cutting its message if need be.

    A long address leaves no room for what the proof says.
    """
    encoded = _json(outcome)
    if len(encoded) > TERMINATION_LIMIT and isinstance(outcome.outcome, Resolved):
        bare = outcome.outcome.resolution.model_copy(update={"conversion": None})
        return _json(TerminationMessage(outcome=Resolved(resolution=bare)))
    limit = MESSAGE_LIMIT
    while len(encoded) > TERMINATION_LIMIT and isinstance(outcome.outcome, Failed):
        limit //= 2
        failure = outcome.outcome.failure
        shorter = Failure(reason=failure.reason, message=shortened(failure.message, limit))
        encoded = _json(TerminationMessage(outcome=Failed(failure=shorter)))
    return encoded


def _json(outcome: TerminationMessage) -> bytes:
    # An operator that knows fewer fields reads an answer without them.
    return outcome.model_dump_json(exclude_none=True).encode()


def _resolve(text: str, around: Surroundings) -> Resolved:
    task = ResolveTask.model_validate_json(text)
    source = source_of(task.uri, around)
    resolution = (resolve_whole if task.folder else resolve)(task, source, Trust.of(task.identities or ()))
    _log.info(
        "%s is version %s with %d bytes and digest %s",
        task.uri.partition("?")[0],
        resolution.version,
        resolution.bytes,
        resolution.digest,
    )
    return Resolved(resolution=resolution)


def _fetch(text: str, around: Surroundings) -> Fetched:
    task = FetchTask.model_validate_json(text)
    directory = Path(os.environ.get(MODEL_DIR_ENV, MODEL_DIR))
    source = source_of(task.uri, around)
    size = (fetch_whole if task.folder else fetch)(task, source, directory)
    _log.info("%s holds the %d bytes with digest %s", directory, size, task.digest)
    return Fetched(digest=task.digest, bytes=size)


def _set_up(credentials: Credentials) -> None:
    def redact(record: logging.LogRecord) -> bool:
        record.msg, record.args = credentials.redacted(record.getMessage()), ()
        return True

    output = logging.StreamHandler(sys.stdout)
    output.addFilter(redact)
    logging.basicConfig(handlers=[output], level=logging.INFO, format="%(levelname)s %(message)s")
    # Its lines have whole addresses, whose queries may be secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # The first process of a container ignores SIGTERM unless it says otherwise.
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)
