"""What others put into lists, as JSON pointers by which it can be removed."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.objects.diff import surplus


@pytest.mark.parametrize(
    ("live", "wanted", "found"),
    [
        ({"env": [{"name": "A"}]}, {"env": [{"name": "A"}]}, []),
        (
            {"env": [{"name": "X"}, {"name": "A"}, {"name": "Y"}]},
            {"env": [{"name": "A"}]},
            ["/env/2", "/env/0"],
        ),
        # Of what the wanted one says nothing, others may say what they like.
        ({"env": [{"name": "X"}], "a": 1}, {"a": 1}, []),
        (
            {"containers": [{"name": "s", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]},
            {"containers": [{"name": "s", "ports": [{"containerPort": 2}]}]},
            ["/containers/0/ports/0"],
        ),
        (
            {"a/b": {"m~n": [{"mountPath": "/x"}, {"mountPath": "/y"}]}},
            {"a/b": {"m~n": [{"mountPath": "/y"}]}},
            ["/a~1b/m~0n/0"],
        ),
        # Nothing tells these apart: one owner writes such a list whole.
        ({"args": ["a", "b"]}, {"args": ["a"]}, []),
        ({"a": [{"name": "x"}]}, {"a": {"name": "x"}}, []),
    ],
)
def test_items_that_nobody_wants_are_named_from_the_last_to_the_first(
    live: Any, wanted: Any, found: list[str]
) -> None:
    assert list(surplus(live, wanted)) == found
