"""Asks the installation's MLflow what an alias means; no model and no credentials pass here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from slipway.engine.aliases import Alias

log = logging.getLogger(__name__)

#: Seconds until a registry that does not answer is left alone until next time.
TIMEOUT = 10.0
_PATH = "/api/2.0/mlflow/registered-models/alias"


@asynccontextmanager
async def alias_reader(tracking_uri: str) -> AsyncIterator[Callable[[Alias], Awaitable[str | None]]]:
    """The version that an alias means now; None where MLflow does not say, and the log says why."""

    async def ask(alias: Alias) -> str | None:
        query = {"name": alias.name, "alias": alias.alias}
        try:
            async with session.get(f"{tracking_uri.rstrip('/')}{_PATH}", params=query) as response:
                response.raise_for_status()
                found = await response.json(content_type=None)
                return str(found["model_version"]["version"])
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            log.info("alias not looked up", extra={"model": alias.name, "error": str(error)})
            return None

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
        yield ask
