"""Imports the kubernetes package part by part."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

#: What reading a kubeconfig takes for a user with an ``auth-provider``, and for nobody else: libraries by the
#: name that an import statement binds, and classes, which are only called, by where they come from.
_LIBRARIES = {"google": "google.auth.transport.requests", "oauthlib": "oauthlib.oauth2"}
_CLASSES = {"requests_oauthlib": "OAuth2Session", "kubernetes.client": "ApiClient"}


def import_by_part() -> None:
    """Import of the kubernetes package what is used, when it is.

    Its ``__init__`` imports every client that it has, and what reads a kubeconfig imports requests, OAuth and
    Google's libraries: 20 MiB and 0.3 s of CPU, for one client and a file with a certificate. The package is
    the same to everyone else: its parts and those libraries are imported when they are first used. Does
    nothing where the package was imported before.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds two modules as ever, and has them loaded in another way."""

    def find_spec(self, name: str, path: Sequence[str] | None, _: object = None) -> ModuleSpec | None:
        loader = {"kubernetes": _Package, "kubernetes.config.kube_config": _KubeConfig}.get(name)
        found = None if loader is None else PathFinder.find_spec(name, path)
        if loader is not None and found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = loader(name, found.loader.path)
        return found


class _Package(SourceFileLoader):
    """Imports no part before it is used."""

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = _part  # type: ignore[method-assign]


def _part(name: str) -> ModuleType | str:
    """A part of the package, by the protocol of PEP 562."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kubernetes")
    if name.startswith("__"):
        raise AttributeError(f"module 'kubernetes' has no attribute {name!r}")
    try:
        return importlib.import_module(f"kubernetes.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module 'kubernetes' has no attribute {name!r}") from error


class _KubeConfig(SourceFileLoader):
    """Runs the module as it is; the import statements in it find stand-ins for the libraries of providers."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals_: Mapping[str, object] | None = None,
    locals_: Mapping[str, object] | None = None,
    names: Sequence[str] = (),
    level: int = 0,
) -> Any:
    """What an import statement calls."""
    root = name.partition(".")[0]
    if not level and root in _LIBRARIES:
        # Without Google's, which is optional, the module has another way.
        if root == "google" and find_spec("google.auth") is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return _Later(root)
    if not level and name in _CLASSES:
        return SimpleNamespace(
            **{
                one: partial(_new, name, one)
                if one == _CLASSES[name]
                else getattr(importlib.import_module(name), one)
                for one in names
            }
        )
    return builtins.__import__(name, globals_, locals_, names, level)


class _Later:
    """A library that is imported once something of it is used."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __getattr__(self, name: str) -> Any:
        importlib.import_module(_LIBRARIES[self._root])
        return getattr(sys.modules[self._root], name)


def _new(module: str, name: str, *arguments: Any, **more: Any) -> Any:
    return getattr(importlib.import_module(module), name)(*arguments, **more)
