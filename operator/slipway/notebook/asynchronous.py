"""The same handle for code that awaits: every call runs in a thread, since the cluster's client blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.api.status import ModelDeploymentStatus
from slipway.notebook.handle import Model
from slipway.notebook.predictions import Predictions
from slipway.notebook.shown import Report


class AsyncModel:
    """As :class:`slipway.notebook.handle.Model`, awaited; what asks the cluster is a method here."""

    def __init__(self, model: Model) -> None:
        self.name, self.namespace = model.name, model.namespace
        self._model = model

    def __repr__(self) -> str:
        return f"<slipway.async_model {self.namespace}/{self.name}>"

    async def status(self) -> ModelDeploymentStatus:
        """As ``Model.status``."""
        return await asyncio.to_thread(lambda: self._model.status)

    async def predict(self, table: Any, parameters: Mapping[str, Any] | None = None) -> Predictions:
        """As ``Model.predict``."""
        return await asyncio.to_thread(self._model.predict, table, parameters)

    async def feedback(self, tokens: Predictions | Sequence[str], labels: Sequence[Any]) -> dict[str, int]:
        """As ``Model.feedback``."""
        return await asyncio.to_thread(self._model.feedback, tokens, labels)

    async def wait(self, timeout: float | None = None) -> AsyncModel:  # noqa: ASYNC109 - as Model.wait
        """As ``Model.wait``."""
        await asyncio.to_thread(self._model.wait, timeout)
        return self

    async def promote(self, *, full: bool = False) -> str:
        """As ``Model.promote``."""
        return await asyncio.to_thread(lambda: self._model.promote(full=full))

    async def abort(self) -> str:
        """As ``Model.abort``."""
        return await asyncio.to_thread(self._model.abort)

    async def pause(self) -> str:
        """As ``Model.pause``."""
        return await asyncio.to_thread(self._model.pause)

    async def resume(self) -> str:
        """As ``Model.resume``."""
        return await asyncio.to_thread(self._model.resume)

    async def retry(self) -> str:
        """As ``Model.retry``."""
        return await asyncio.to_thread(self._model.retry)

    async def report(self) -> Report:
        """As ``Model.report``."""
        return await asyncio.to_thread(self._model.report)


def async_model(name: str, namespace: str | None = None, **access: Any) -> AsyncModel:
    """As :func:`slipway.notebook.handle.model`, with the same arguments; its methods are awaited."""
    from slipway.notebook.handle import model

    return AsyncModel(model(name, namespace, **access))
