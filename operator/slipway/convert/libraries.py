"""Which library made a model, of those that are not scikit-learn and have its interface."""

from __future__ import annotations

from typing import Any

_LIBRARIES = ("xgboost", "lightgbm", "catboost")


def library_of(model: Any) -> str | None:
    """Which of the libraries made the model; None for another."""
    library = type(model).__module__.partition(".")[0]
    return library if library in _LIBRARIES else None


def names_of(model: Any) -> list[str] | None:
    """The columns' names that a model of CatBoost was fitted with; None where it knows none."""
    if library_of(model) != "catboost":
        return None
    names = [str(name) for name in model.feature_names_ or []]
    return None if names == [str(at) for at in range(len(names))] else names
