"""Why the model did not take a request, in words for the client who sent it."""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway_server.errors import Reason, RequestError, not_now, show
from slipway_server.protocol.tensors import Array

#: The dimensions of each input as the model has them: a size, a name, or neither.
Symbols = Mapping[str, Sequence[int | str | None]]

_ABOUT_SHAPES = re.compile(r"broadcast|shape|dimension|\brank\b|\bMatMul\b|\baxis\b", re.IGNORECASE)
_BUFFER = re.compile(r"(?:buffer of size|Unable to allocate) ([0-9.]+) ?([KMGTPE]iB)?")
_UNITS = {None: 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4, "PiB": 5, "EiB": 6}
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_MOST_SHOWN = 6


def refused(words: str, inputs: Mapping[str, Array], symbols: Symbols) -> RequestError:
    """422; ``words`` are onnxruntime's, without what only its authors understand."""
    return RequestError(422, Reason.MODEL_INPUT, _words(words, inputs, symbols))


def _words(words: str, inputs: Mapping[str, Array], symbols: Symbols) -> str:
    differ = _differing(inputs, symbols)
    if differ is not None:
        return f"the model refuses these shapes: {differ} ({words})"
    free = [
        name for name in inputs if any(not isinstance(size, int) for size in symbols.get(name) or (None,))
    ]
    if not free or not _ABOUT_SHAPES.search(words):
        return f"the model refuses these values: {words}"
    shown = ", ".join(f"input {show(name)} has {list(inputs[name].shape)}" for name in free[:_MOST_SHOWN])
    return f"the model refuses these shapes: {shown} ({words})"


def _differing(inputs: Mapping[str, Array], symbols: Symbols) -> str | None:
    """Two inputs that share a dimension of the model's, and whose sizes in it differ."""
    seen: dict[str, tuple[str, int, int]] = {}
    for name, array in inputs.items():
        for axis, (symbol, size) in enumerate(zip(symbols.get(name, ()), array.shape, strict=False)):
            if not isinstance(symbol, str):
                continue
            other, at, first = seen.setdefault(symbol, (name, axis, size))
            if first != size:
                return (
                    f"dimension {at} of input {show(other)} and dimension {axis} of input {show(name)} are "
                    f"both {show(symbol)} in the model, and must be equal; they are {first} and {size}"
                )
    return None


def no_memory(error: MemoryError) -> RequestError:
    """503 where there may be memory later; 422 where there will never be as much."""
    size, most = _wanted(str(error)), _most_memory()
    if size is None and _is_strict():
        size = 0  # it may have been anything
    if size is not None and size <= most:
        return not_now(Reason.OVERLOAD, "not enough memory for this request now; send fewer rows at once")
    wanted = "more" if size is None else f"{_mib(size)} MiB"
    return RequestError(
        422,
        Reason.MODEL_INPUT,
        f"the model needs {wanted} of memory at once for this request, and this server has {_mib(most)} MiB: "
        "send fewer rows, or smaller dimensions",
    )


def _wanted(words: str) -> int | None:
    found = _BUFFER.search(words)
    return None if found is None else int(float(found[1]) * 1024 ** _UNITS[found[2]])


def _mib(size: int) -> int:
    return max(1, size >> 20)


def _most_memory() -> int:
    """Bytes that this process could have if nothing else ran."""
    most = [_machine(), *(_limit(Path(path)) for path in _LIMITS)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min([size for size in most if size], default=0) if soft == resource.RLIM_INFINITY else soft


def _machine() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return sizes["MemTotal"] + sizes.get("SwapTotal", 0)


def _limit(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _is_strict() -> bool:
    """Whether an allocation can fail that would do so at no other time.

    By default the kernel refuses only what is larger than the machine.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    mode = Path("/proc/sys/vm/overcommit_memory").read_text().strip()
    return mode == "2" or soft != resource.RLIM_INFINITY
