"""Imports the kubernetes package part by part."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def import_by_part() -> None:
    """Import of the kubernetes package what is used, when it is.

    Its ``__init__`` imports every client that it has, and requests, OAuth and Google's libraries with them:
    20 MiB and 0.4 s of CPU, for one asynchronous client. The package stays as it is to everyone else: its
    parts are imported when they are first used. Does nothing where it was imported before.
    """
    if "kubernetes" in sys.modules or (spec := find_spec("kubernetes")) is None:
        return
    package = module_from_spec(spec)
    package.__getattr__ = _part  # type: ignore[method-assign]
    sys.modules["kubernetes"] = package


def _part(name: str) -> ModuleType | str:
    """A part of the package, by the protocol of PEP 562."""
    if name == "__version__":
        return version("kubernetes")
    if name.startswith("__"):
        raise AttributeError(f"module 'kubernetes' has no attribute {name!r}")
    try:
        return importlib.import_module(f"kubernetes.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module 'kubernetes' has no attribute {name!r}") from error
