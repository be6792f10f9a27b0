"""``slipway convert``: from a framework's model to ONNX, with proof."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from slipway.cli.errors import CommandError
from slipway.names import DISTRIBUTION


def run(arguments: argparse.Namespace) -> int:
    """Convert the model, compare it with the original, and write it with its proof.

    Raises:
        CommandError: where it cannot be converted, answers otherwise, or cannot be written.
    """
    try:
        from slipway.convert.errors import ConvertError
        from slipway.convert.loading import load
        from slipway.convert.make import convert, summary
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[convert]'") from error
    from slipway.digest import sha256_of

    try:
        frame = _frame(arguments.data, arguments.ignore)
        made = convert(
            load(arguments.model, allow_pickle=arguments.allow_pickle),
            frame,
            data_digest=f"sha256:{sha256_of(arguments.data)}",
            tolerance=arguments.tolerance,
            accept=arguments.accept,
            double=arguments.float64,
            strict=arguments.strict,
        )
    except ConvertError as error:
        raise CommandError(str(error)) from error
    try:
        made.write(arguments.output)
    except OSError as error:
        raise CommandError(f"{arguments.output} cannot be written: {error.strerror}") from error
    for line in summary(made.proof):
        print(line)
    print(
        f"{arguments.output}: {made.proof.modelDigest}, proved by "
        f"{arguments.output.with_name('conversion.json')}"
    )
    return 0


def _frame(path: Path, ignore: list[str]) -> Any:
    """The rows of a parquet or CSV file."""
    import pandas as pd

    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CommandError(
            f"{path} cannot be read as {'CSV' if path.suffix == '.csv' else 'parquet'}: {lines[0]}"
        ) from error
    unknown = [name for name in ignore if name not in frame.columns]
    if unknown:
        raise CommandError(
            f"{path} has no column {unknown[0]!r}; it has {', '.join(map(str, frame.columns[:30]))}"
        )
    return frame.drop(columns=ignore)
