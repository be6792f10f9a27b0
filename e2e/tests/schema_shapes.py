"""Shapes that cases of the accept and refuse table share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from e2e.tests.schema_cases import REMOVED, Case, value_at

INT32 = 2**31 - 1


def text(path: str, longest: int, fill: str = "a", head: str = "", tail: str = "") -> Case:
    """The longest string that is taken, and one character more."""
    body = longest - len(head) - len(tail)
    return Case(
        path,
        "maxLength",
        head + fill * body + tail,
        head + fill * (body + 1) + tail,
        f"Too long: may not be more than {longest} bytes",
    )


def bounds(path: str, low: int | None, high: int | None) -> Iterator[Case]:
    if low is not None:
        yield Case(path, "minimum", low, low - 1, f"should be greater than or equal to {low}")
    if high is not None:
        yield Case(path, "maximum", high, high + 1, f"should be less than or equal to {high}")


def required(path: str, *names: str) -> Iterator[Case]:
    for name in names:
        whole = value_at(path)
        field = f"{path}.{name}".lstrip(".")
        yield Case(path, f"required {name}", whole[name], REMOVED, "Required value", at=field)


def profile(path: str) -> Iterator[Case]:
    """The digest of a profile, or that there is none."""
    whole = f"sha256:{'0' * 64}"
    pattern = "should match '^(sha256:"
    yield Case(path, "pattern", "none", "sha256:0", pattern)
    yield Case(path, "maxLength", whole, f"{whole}0", "Too long: may not be more than 71 bytes", also=pattern)


def moment(path: str) -> Iterator[Case]:
    """A time as RFC 3339 has it."""
    yield Case(path, "format", "2026-01-02T03:04:05Z", "yesterday", "must be of type date-time")
    yield text(path, 64, "0", "2026-01-02T03:04:05.0", "Z")


def choice(path: str, *words: str) -> Iterator[Case]:
    """One of several words."""
    listed = ", ".join(f'"{word}"' for word in words)
    yield Case(path, "enum", words[-1], "never", f"supported values: {listed}")


def items(path: str, most: int, make: Any) -> Iterator[Case]:
    """The longest list that is taken, and one item more; ``make`` makes the item of an index."""
    whole = [make(index) for index in range(most + 1)]
    yield Case(path, "maxItems", whole[:-1], whole, f"Too many: {most + 1}: must have at most {most} items")


def twins(path: str, make: Any) -> Iterator[Case]:
    """A list of items that are told apart by a key."""
    yield Case(path, "x-kubernetes-list-type", [make(0), make(1)], [make(0), make(0)], "Duplicate value")


def minimum(path: str) -> Iterator[Case]:
    """A share that a minimum may be."""
    says = "must be a share above 0% and below 100%, such as 82% or 99.5%"
    for right, wrong in (("0.5%", "0%"), ("99.99%", "100%"), ("82%", "0.82"), ("0.01%", "0.00%")):
        yield Case(path, "rule", right, wrong, says)
    yield Case(path, "maxLength", "99.1234%", "99.12345%", "Too long: may not be more than 8")


def share(path: str) -> Iterator[Case]:
    """A share below 100%."""
    for right, wrong in (("0%", "1"), ("0.25%", ".25%"), ("99%", "100%"), ("1%", "-1%")):
        yield Case(path, "rule", right, wrong, "must be a share below 100%, such as 1% or 0.25%")
    yield Case(path, "maxLength", "99.1234%", "99.12345%", "Too long: may not be more than 8", also="a share")


def name(path: str, longest: int) -> Iterator[Case]:
    """A string of one character at least."""
    yield text(path, longest)
    yield Case(path, "minLength", "a", "", "should be at least 1 chars long")


def some(path: str, one: Any) -> Case:
    """A list of one item at least."""
    return Case(path, "minItems", [one], [], "should have at least 1 items")


def unique(path: str) -> Case:
    """A list of different items."""
    return Case(path, "x-kubernetes-list-type", ["a", "b"], ["a", "a"], "Duplicate value")


def reference(path: str) -> Iterator[Case]:
    """A ConfigMap or Secret and its key."""
    yield from required(path, "name", "key")
    yield text(f"{path}.name", 253)
    yield Case(f"{path}.name", "rule", "a.b", "a/b", "must be a name of lower case letters")
    yield text(f"{path}.key", 253)
    for wrong in ("", "a/b", "a b"):
        yield Case(f"{path}.key", "rule", "A-b_c.d", wrong, "must be a key of a ConfigMap or Secret")
