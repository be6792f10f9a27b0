"""The proof of a conversion: what was converted by what, and how far the answers differ.

A JSON document next to the model, ``conversion.json``. It has counts and digests, no rows.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.contract import Digest

#: A larger one is not read, in bytes; they have about 2 kB.
LARGEST_PROOF = 256 * 1024

Count = Annotated[int, Field(ge=0)]
Short = Annotated[str, Field(max_length=500)]


class Rows(StrEnum):
    """Which rows are compared: the user's, or those at an edge where float32 and converters go wrong."""

    DATA = "data"
    THRESHOLDS = "thresholds"
    MISSING = "missing"
    UNKNOWN = "unknown"
    OUTSIDE = "outside"
    EXTREMES = "extremes"


#: What a user can accept differences at.
EDGES = tuple(kind for kind in Rows if kind is not Rows.DATA)
#: Where differences are written down and not refused unless somebody wants it: at 3.4e38 most models that
#: compute with 32 bits overflow where the original, with 64, does not, and no row comes close to that.
TOLD = (Rows.EXTREMES,)


class Document(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Compared(Document):
    """Two models on rows of one kind.

    A difference of probabilities is absolute; one of values is relative where a value exceeds 1. It is
    None where only one of the two is a finite number.
    """

    rows: Count
    labelsDiffer: Count
    largestDifference: float | None = Field(ge=0, allow_inf_nan=False)
    beyond: Count = Field(description="rows whose answers differ by more than the tolerance")
    refused: Count = Field(description="rows that the original refuses; they are not compared")


class Source(Document):
    """The original; ``digest`` is of its file, or of the pickle of a model in memory."""

    called: Short
    kind: Short
    digest: Digest


class Conversion(Document):
    """Everything that is known of a conversion."""

    schemaVersion: Literal[1] = 1
    by: Short
    at: datetime
    original: Source
    modelDigest: Digest
    dataDigest: Digest
    versions: Annotated[dict[Short, Short], Field(max_length=30)]
    tolerance: float = Field(ge=0, allow_inf_nan=False)
    accepted: tuple[Rows, ...] = Field(
        default=(), max_length=6, description="kinds at which a difference beyond the tolerance is no refusal"
    )
    compared: Annotated[dict[Rows, Compared], Field(max_length=6)]
    float64: bool = Field(default=False, description="whether the model takes real numbers of 64 bits")
    compared32: Annotated[dict[Rows, Compared], Field(max_length=6)] | None = Field(
        default=None, description="what was refused with 32 bits, where that is why the model takes 64"
    )

    def text(self) -> bytes:
        """As it is kept in a file."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_proof(text: bytes) -> Conversion:
    """The proof in a document. Raises ``ValueError`` with what is wrong."""
    if len(text) > LARGEST_PROOF:
        raise ValueError(f"it has more than {LARGEST_PROOF} bytes")
    try:
        return Conversion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ValueError(f"it is not a proof of schema version 1 ({where}: {first['msg']})") from None
