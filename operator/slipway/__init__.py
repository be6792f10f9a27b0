"""Slipway: a Kubernetes operator for model serving.

In notebooks and scripts: :func:`model`, :func:`async_model`, :func:`list` and :func:`release`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.convert.release import release as release
    from slipway.notebook.asynchronous import async_model as async_model
    from slipway.notebook.errors import NotServedError as NotServedError
    from slipway.notebook.errors import PredictionError as PredictionError
    from slipway.notebook.errors import SlipwayError as SlipwayError
    from slipway.notebook.handle import model as model
    from slipway.notebook.handle import models as list  # noqa: F401 - it is exported under this name

#: What a user's code has, and where it is. The operator imports this package too, and needs none of it.
_OFFERED = {
    "model": ("slipway.notebook.handle", "model"),
    "list": ("slipway.notebook.handle", "models"),
    "async_model": ("slipway.notebook.asynchronous", "async_model"),
    "release": ("slipway.convert.release", "release"),
    "SlipwayError": ("slipway.notebook.errors", "SlipwayError"),
    "PredictionError": ("slipway.notebook.errors", "PredictionError"),
    "NotServedError": ("slipway.notebook.errors", "NotServedError"),
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _OFFERED[name]
    extra = "convert" if name == "release" else "notebook"
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("slipway"):
            raise
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'slipway-serving[{extra}]'", name=error.name
        ) from error


def __dir__() -> Any:
    return sorted([*globals(), *_OFFERED])
