"""``slipway convert``: from a framework's model to ONNX, with proof."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from slipway.cli.errors import CommandError
from slipway.names import DISTRIBUTION

if TYPE_CHECKING:
    from slipway.convert.make import Result


def run(arguments: argparse.Namespace) -> int:
    """Convert the model, compare it with the original, and write it with its proof.

    Raises:
        CommandError: where it cannot be converted, answers otherwise, or cannot be written.
    """
    if arguments.pipeline is not None:
        return run_pipeline(arguments)
    try:
        from slipway.convert.errors import ConvertError
        from slipway.convert.loading import load
        from slipway.convert.make import TOLERANCE, convert
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[convert]'") from error
    from slipway.digest import sha256_of

    try:
        frame = _frame(arguments.data, arguments.ignore)
        made = convert(
            load(arguments.model, allow_pickle=arguments.allow_pickle),
            frame,
            data_digest=f"sha256:{sha256_of(arguments.data)}",
            tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
            accept=arguments.accept,
            double=arguments.float64,
            strict=arguments.strict,
            keep_output_names=arguments.keep_output_names,
        )
    except ConvertError as error:
        raise CommandError(str(error)) from error
    return write(made, arguments.output)


def write(made: Result, output: Path) -> int:
    """Write a model and its proof, and say what was compared; gives the exit code."""
    from slipway.convert.make import summary

    try:
        made.write(output)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error
    for line in summary(made.proof):
        print(line)
    print(f"{output}: {made.proof.modelDigest}, proved by {output.with_name('conversion.json')}")
    return 0


def run_pipeline(arguments: argparse.Namespace) -> int:
    """Put the steps before an ONNX model; see :func:`run`."""
    try:
        from slipway.convert import pipeline
        from slipway.convert.errors import ConvertError
        from slipway.convert.make import TOLERANCE
        from slipway.convert.texts import tokenizer_of
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed: pip install '{DISTRIBUTION}[pipelines]'"
        ) from error
    from slipway.digest import sha256_of

    model, output = Path(arguments.model), arguments.output
    if output.resolve() == model.resolve():
        raise CommandError(f"{output} is the model itself: name another file by --output")
    labels = () if arguments.classes is None else _lines(arguments.classes)
    try:
        if arguments.pipeline == "image":
            made = pipeline.with_picture_steps(
                model,
                arguments.data,
                labels=labels,
                tolerance=pipeline.TOLERANCE if arguments.tolerance is None else arguments.tolerance,
                size=arguments.size,
                channels=arguments.channels,
                crop=arguments.crop,
                scale=arguments.scale,
                mean=tuple(arguments.mean),
                std=tuple(arguments.std),
            )
        else:
            if arguments.tokenizer is None:
                raise CommandError(
                    "--pipeline text needs --tokenizer: vocab.txt of BERT, or SentencePiece's .model"
                )
            frame = _frame(arguments.data, arguments.ignore)
            if len(frame.columns) != 1:
                raise CommandError(
                    f"{arguments.data} has {len(frame.columns)} columns: leave the one of the texts"
                )
            made = pipeline.with_text_steps(
                model,
                [str(text) for text in frame.iloc[:, 0].dropna()],
                tokenizer_of(arguments.tokenizer, arguments.max_length, lower=not arguments.cased),
                f"sha256:{sha256_of(arguments.data)}",
                labels=labels,
                tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
            )
    except ConvertError as error:
        raise CommandError(str(error)) from error
    return write(made, output)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as text: {error}") from error


def _frame(path: Path, ignore: list[str]) -> Any:
    """The rows of a parquet or CSV file, or of NumPy's arrays, which networks take."""
    import pandas as pd

    kind = {".csv": "CSV", ".npy": "an array of NumPy", ".npz": "arrays of NumPy"}.get(path.suffix, "parquet")
    try:
        if path.suffix in (".npy", ".npz"):
            frame = _arrays(path)
        else:
            frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, BadZipFile) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CommandError(f"{path} cannot be read as {kind}: {lines[0]}") from error
    unknown = [name for name in ignore if name not in frame.columns]
    if unknown:
        raise CommandError(
            f"{path} has no column {unknown[0]!r}; it has {', '.join(map(str, frame.columns[:30]))}"
        )
    return frame.drop(columns=ignore)


def _arrays(path: Path) -> Any:
    """Rows of one array, or of several by name, as the columns of a frame: ``NAME.0``, ``NAME.1``, …"""
    import numpy as np
    import pandas as pd

    loaded = np.load(path, allow_pickle=False)
    arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1:
        raise ValueError(f"its arrays have {', '.join(map(str, sorted(counts)))} rows")
    frames = []
    for name, array in arrays.items():
        table = array.reshape(len(array), -1) if array.ndim else array.reshape(0, 1)
        columns = [f"{name}.{at}".lstrip(".") for at in range(table.shape[1])]
        frames.append(pd.DataFrame(table, columns=columns if array.ndim > 1 or not name else [name]))
    return pd.concat(frames, axis=1)
