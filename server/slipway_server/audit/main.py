"""The ``slipway-audit`` command: what an audit's pod runs, next to ``slipway-model fetch``.

The task is JSON in an environment variable, the answer JSON in the container's termination message. Exit
code 0 whenever there is an answer, also where it says that nothing could be counted: another try would say
the same. A pod that ends without one, such as for want of memory, is tried again by its Job.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from slipway.contract import Audited, AuditTask, Evaded, TerminationMessage, Unaudited, Withstood
from slipway.names import (
    AUDIT_DATA_DIR,
    AUDIT_TASK_ENV,
    BASELINE_DIR,
    MODEL_DIR,
    MODEL_DIR_ENV,
    TERMINATION_PATH,
    WITHOUT_CREDENTIALS_ENV,
)
from slipway_server.audit.counting import audit
from slipway_server.audit.evasion import evaded
from slipway_server.audit.smoothing import smoothed
from slipway_server.audit.table import AuditError
from slipway_server.injected import injected
from slipway_server.runtime.load import LoadError

log = logging.getLogger("slipway.audit")

#: Other directories, for tests and for a look at a table outside a cluster.
BASELINE_DIR_ENV, AUDIT_DATA_DIR_ENV = "SLIPWAY_BASELINE_DIR", "SLIPWAY_AUDIT_DATA_DIR"
TERMINATION_PATH_ENV = "SLIPWAY_TERMINATION_PATH"


def main() -> None:
    """Do the task of the environment."""
    sys.exit(run(os.environ))


def run(environment: Mapping[str, str]) -> int:
    """Do one task; gives the exit code: 2 where the task cannot be read."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        task = AuditTask.model_validate_json(environment.get(AUDIT_TASK_ENV, ""))
    except ValidationError as error:
        log.error("%s does not hold an audit's task: %s", AUDIT_TASK_ENV, error)
        return 2
    outcome = _outcome(task, environment)
    if isinstance(outcome, Unaudited):
        log.error("%s", outcome.message)
    words = TerminationMessage(outcome=outcome).model_dump_json()
    Path(environment.get(TERMINATION_PATH_ENV, TERMINATION_PATH)).write_text(words, encoding="utf-8")
    return 0


def _outcome(task: AuditTask, environment: Mapping[str, str]) -> Audited | Withstood | Evaded | Unaudited:
    found = injected(environment) if WITHOUT_CREDENTIALS_ENV in environment else ""
    if found:
        return Unaudited(message=f"the container was given credentials ({found}), and must have none"[:1024])
    model, baseline, data = (
        Path(environment.get(name, place))
        for name, place in (
            (MODEL_DIR_ENV, MODEL_DIR),
            (BASELINE_DIR_ENV, BASELINE_DIR),
            (AUDIT_DATA_DIR_ENV, AUDIT_DATA_DIR),
        )
    )
    try:
        if task.smoothing is not None:
            return smoothed(task, task.smoothing, model, baseline, data)
        if task.attack is not None:
            return evaded(task, task.attack, model, baseline, data)
        return audit(task, model, baseline, data)
    except AuditError as error:
        return Unaudited(message=str(error)[:1024])
    except LoadError as error:
        return Unaudited(message=f"{error.fault}: {error.message}"[:1024])


if __name__ == "__main__":
    main()
