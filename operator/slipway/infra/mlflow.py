"""Asks the installation's MLflow what an alias means; no model and no credentials pass here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from yarl import URL

from slipway.api.reasons import Reason
from slipway.core.observed import Fault
from slipway.engine.observers.aliases import Alias
from slipway.infra.bounded import ReadError, read_bounded, reading_session

log = logging.getLogger(__name__)

#: Seconds until a registry that does not answer is left alone until next time.
TIMEOUT = 10.0
#: Of an answer, in bytes and in values of JSON: it holds one version with its description and tags.
MOST_BYTES, MOST_VALUES = 1024 * 1024, 20_000
#: Of a version's name; MLflow's are numbers.
MOST_VERSION = 64
_PATH = "/api/2.0/mlflow/registered-models/alias"


#: MLflow answers 404 for a name that is missing and 400 for an alias that is.
_REFUSED = {
    400: Reason.MODEL_NOT_FOUND,
    404: Reason.MODEL_NOT_FOUND,
    401: Reason.MODEL_ACCESS_DENIED,
    403: Reason.MODEL_ACCESS_DENIED,
}
_FIX = {
    Reason.MODEL_NOT_FOUND: "set it again, or change spec.model.uri",
    Reason.MODEL_ACCESS_DENIED: "name a Secret that enters it in spec.model.credentials",
}


@asynccontextmanager
async def alias_reader(tracking_uri: str) -> AsyncIterator[Callable[[Alias], Awaitable[str | Fault]]]:
    """The version that an alias means now, or why MLflow does not say; the log says so too."""

    async def ask(alias: Alias) -> str | Fault:
        url = URL(f"{tracking_uri.rstrip('/')}{_PATH}").with_query(name=alias.name, alias=alias.alias)
        try:
            answer = await read_bounded(session, url, MOST_BYTES, seconds=TIMEOUT)
            if (reason := _REFUSED.get(answer.status)) is not None:
                where = f"the alias {alias.alias} of {alias.name}"
                words = f"MLflow answers {answer.status} for {where}; {_FIX[reason]}"
                log.info("alias not looked up", extra={"model": alias.name, "error": words})
                return Fault(reason, words)
            if answer.status != 200:
                raise ReadError(f"answers with status {answer.status}")
            version = str(answer.json(MOST_VALUES)["model_version"]["version"])
            if len(version) > MOST_VERSION:
                raise ReadError("answers with a version of no registry")
            return version
        except (TimeoutError, ReadError, KeyError, TypeError) as error:
            words = str(error) or type(error).__name__
            log.info("alias not looked up", extra={"model": alias.name, "error": words})
            return Fault(Reason.REGISTRY_UNREACHABLE, f"MLflow does not say: {words}")

    async with reading_session() as session:
        yield ask
