"""Asks the installation's MLflow what an alias means; no model and no credentials pass here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from yarl import URL

from slipway.engine.aliases import Alias
from slipway.infra.bounded import ReadError, read_bounded, reading_session

log = logging.getLogger(__name__)

#: Seconds until a registry that does not answer is left alone until next time.
TIMEOUT = 10.0
#: Of an answer, in bytes and in values of JSON: it holds one version with its description and tags.
MOST_BYTES, MOST_VALUES = 1024 * 1024, 20_000
#: Of a version's name; MLflow's are numbers.
MOST_VERSION = 64
_PATH = "/api/2.0/mlflow/registered-models/alias"


@asynccontextmanager
async def alias_reader(tracking_uri: str) -> AsyncIterator[Callable[[Alias], Awaitable[str | None]]]:
    """The version that an alias means now; None where MLflow does not say, and the log says why."""

    async def ask(alias: Alias) -> str | None:
        url = URL(f"{tracking_uri.rstrip('/')}{_PATH}").with_query(name=alias.name, alias=alias.alias)
        try:
            answer = await read_bounded(session, url, MOST_BYTES, seconds=TIMEOUT)
            if answer.status != 200:
                raise ReadError(f"answers with status {answer.status}")
            version = str(answer.json(MOST_VALUES)["model_version"]["version"])
            if len(version) > MOST_VERSION:
                raise ReadError("answers with a version of no registry")
            return version
        except (TimeoutError, ReadError, KeyError, TypeError) as error:
            words = str(error) or type(error).__name__
            log.info("alias not looked up", extra={"model": alias.name, "error": words})
            return None

    async with reading_session() as session:
        yield ask
