"""What a server that cannot serve leaves behind for Kubernetes and the operator."""

from __future__ import annotations

import logging
from pathlib import Path

from slipway.names import ModelFault

log = logging.getLogger(__name__)


def say_last_words(path: Path, fault: ModelFault, message: str) -> None:
    """Leave the reason in the termination log, where the operator looks for it, and in the log."""
    # Only now is there time for pydantic.
    from slipway.contract import Failed, Failure, TerminationMessage

    failure = Failure(reason=fault, message=message[:900])
    log.error("the model cannot be served", extra={"reason": failure.reason, "detail": failure.message})
    try:
        path.write_text(
            TerminationMessage(outcome=Failed(failure=failure)).model_dump_json(), encoding="utf-8"
        )
    except OSError as error:
        log.error("the termination log cannot be written", extra={"path": str(path), "error": str(error)})
