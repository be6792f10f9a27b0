"""Whether a live object still is what was asked for; what others added to it does not matter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+))(?:[eE]([+-]?[0-9]+)|(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E))?"
)
_SUFFIX: dict[str, Decimal] = {
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{
        name: Decimal(1000) ** power
        for power, name in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
}
#: Fields below which the API server rewrites amounts into its own canonical form.
_AMOUNTS = frozenset({"requests", "limits"})
#: Of an ``emptyDir``, as it does there.
_SIZE = "sizeLimit"


def contains(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there.

    Maps may hold more than is wanted, lists may not: an extra container or port is drift. An empty map
    or list that the API server leaves out counts as there.
    """
    if type(wanted) is dict and type(live) is dict:
        # Most of what is compared: every child, in every run.
        for name, value in wanted.items():
            found = live.get(name)
            if found != value and not _field_contains(name, found, value):
                return False
        return True
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        return all(_field_contains(name, live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list | tuple):
        if not wanted:
            return not live
        return (
            isinstance(live, list | tuple)
            and len(live) == len(wanted)
            and all(contains(found, value) for found, value in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


def differences(live: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields that keep a live object from being what is wanted."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name, value in wanted.items():
            if not _field_contains(name, live.get(name), value):
                yield from differences(live.get(name), value, f"{path}.{name}" if path else name)
    elif isinstance(wanted, list | tuple) and isinstance(live, list | tuple) and len(live) == len(wanted):
        for number, (found, value) in enumerate(zip(live, wanted, strict=True)):
            if not contains(found, value):
                yield from differences(found, value, f"{path}[{number}]")
    else:
        yield path


def surplus(live: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """JSON pointers to the items of lists that nobody wants, in an order in which they can be removed.

    Only where items have a name or the like to tell them by; another list has one owner, who writes it all.
    """
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name, value in wanted.items():
            if name in live:
                yield from surplus(live[name], value, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(wanted, list | tuple) and isinstance(live, list | tuple):
        key = next((found for found in _NAMES if all(_has(item, found) for item in (*live, *wanted))), None)
        known = {item[key]: item for item in wanted} if key is not None else {}
        for number in reversed(range(len(live) if key is not None else 0)):
            name = live[number][key]
            if name in known:
                yield from surplus(live[number], known[name], f"{path}/{number}")
            else:
                yield f"{path}/{number}"


#: What tells items of a list apart.
_NAMES = ("name", "mountPath", "containerPort")


def _has(item: Any, key: str) -> bool:
    return isinstance(item, Mapping) and key in item


def _field_contains(name: str, live: Any, wanted: Any) -> bool:
    if name in _AMOUNTS and isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return all(
            amount in live and quantity(live[amount]) == quantity(value) for amount, value in wanted.items()
        )
    if name == _SIZE and live is not None and wanted is not None:
        return quantity(live) == quantity(wanted)
    return contains(live, wanted)


def quantity(text: str | int) -> Decimal:
    """The number that a Kubernetes quantity stands for.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: if it is not a quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, exponent, suffix = found.groups()
    return Decimal(number).scaleb(int(exponent or 0)) * _SUFFIX[suffix or ""]
