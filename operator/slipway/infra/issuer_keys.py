"""Reads an issuer's public keys, as whoever verifies its tokens may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from slipway.core.objects.issuer_keys import key_set_text
from slipway.engine.observers.looks import UnreadError
from slipway.infra.bounded import Budget, ReadError, read_bounded, reading_session

#: Of an answer, in bytes and in values of JSON.
MOST_BYTES, MOST_VALUES = 256 * 1024, 4096
_HEADERS = {"Accept": "application/jwk-set+json, application/json"}


@asynccontextmanager
async def issuer_key_reader(budget: Budget) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Reads the keys at an address; raises :class:`UnreadError`, in no word of the answer."""

    async def read(address: str) -> str:
        try:
            async with budget.request(address, address) as charge:
                answer = await read_bounded(session, address, MOST_BYTES, headers=_HEADERS, charge=charge)
                if answer.status != 200:
                    raise UnreadError(f"{address} answers with status {answer.status}")
                return key_set_text(answer.json(MOST_VALUES))
        except TimeoutError as error:
            raise UnreadError(f"{address} does not answer in time") from error
        except (ReadError, ValueError) as error:
            raise UnreadError(f"{address} {error}") from error

    async with reading_session() as session:
        yield read
