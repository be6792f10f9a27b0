"""The options of ``slipway convert`` about steps inside a model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_steps(made: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    steps = made.add_argument_group(
        "steps inside the model",
        "what a model gets pictures or texts by, so that clients send them as they are",
    )
    steps.add_argument(
        "--pipeline",
        choices=("image", "text"),
        help="put a decoder of JPEG and PNG, or a tokenizer, before MODEL",
    )
    steps.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="width and height of a picture, where the model leaves them open",
    )
    steps.add_argument(
        "--channels",
        choices=("rgb", "bgr", "grey"),
        help="of a picture (default: rgb, or grey where there is one)",
    )
    steps.add_argument(
        "--crop", action="store_true", help="cut pictures to the model's proportions rather than stretch them"
    )
    steps.add_argument(
        "--scale", type=float, default=255.0, metavar="NUMBER", help="a value is divided by it (default: 255)"
    )
    steps.add_argument(
        "--mean", nargs="+", type=float, default=[0.0], metavar="NUMBER", help="taken from a value after that"
    )
    steps.add_argument(
        "--std", nargs="+", type=float, default=[1.0], metavar="NUMBER", help="and what it is divided by then"
    )
    steps.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="vocab.txt of BERT, or a .model of SentencePiece"
    )
    steps.add_argument(
        "--max-length", type=int, default=128, metavar="TOKENS", help="tokens of a text (default: 128)"
    )
    steps.add_argument("--cased", action="store_true", help="BERT's vocabulary has capitals and accents")
    steps.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="a label in each line, for each column of the first output",
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 4096 and 0 < int(height) <= 4096):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 224x224, of 4096x4096 at most")
    return int(width), int(height)
