"""The profile: what a model's training data looked like, and what the model made of it.

A JSON document beside the model (:data:`slipway.names.PROFILE_FILE`), made by ``slipway profile``. It has
counts, no rows. What changes its meaning changes ``schemaVersion``. The model server reads it without this
module, whose import of pydantic takes longer than a cold start may.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipway.contract import Digest
from slipway.names import LARGEST_PROFILE

#: Groups and categories of fewer rows are not shown: they could tell of single people.
FEWEST_ROWS = 10

Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]


class ProfileError(ValueError):
    """A document is no profile, or not of this model; the message says what to do."""


class Document(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IntervalBins(Document):
    """Values by size. Bin k has those above ``edges[k-1]`` up to and with ``edges[k]``.

    Edges are numbers of the datatype that is served, so that a value falls into the same bin in training and
    in serving. Values that are missing (NaN) are in none.
    """

    kind: Literal["Intervals"] = "Intervals"
    edges: tuple[Number, ...] = Field(max_length=100, description="ascending")
    counts: tuple[Count, ...] = Field(description="one more than edges")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) + 1} counts")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must ascend")
        return self


class CategoryBins(Document):
    """Values by name; those with few rows are in ``other``."""

    kind: Literal["Categories"] = "Categories"
    categories: tuple[str | int, ...] = Field(max_length=100)
    counts: tuple[Count, ...]
    other: Count = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.categories):
            raise ValueError("each category needs one count")
        if len(set(map(str, self.categories))) != len(self.categories):
            raise ValueError("a category is there twice")
        return self


Bins = Annotated[IntervalBins | CategoryBins, Field(discriminator="kind")]


class Range(Document):
    """Of the finite values of a column of numbers."""

    minimum: Number
    maximum: Number
    mean: Number
    deviation: Number = Field(ge=0)
    integral: bool = Field(description="all are whole numbers")


class Feature(Document):
    """One column of one input tensor."""

    name: Name
    tensor: Name
    column: Count = Field(description="within the tensor's row, from 0")
    datatype: Datatype
    missing: Count
    importance: Number = Field(ge=0, description="mean change of the answer when the column is shuffled")
    bins: Bins
    range: Range | None = None


class Prediction(Document):
    """One output of the model."""

    output: Name
    bins: Bins


class Confidence(Document):
    """The probability of the likeliest class, and how often that class was right.

    ``rows`` and ``correct`` are of held-out data, one number a bin; both empty where none was given.
    """

    output: Name
    bins: IntervalBins
    rows: tuple[Count, ...] = ()
    correct: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.rows) != len(self.correct) or len(self.rows) not in (0, len(self.bins.counts)):
            raise ValueError("held-out rows and correct ones need one number for each bin")
        if any(right > rows for right, rows in zip(self.correct, self.rows, strict=True)):
            raise ValueError("more held-out rows are right than there are")
        return self


class Group(Document):
    name: str
    rows: int = Field(ge=FEWEST_ROWS)


class Attribute(Document):
    """A sensitive attribute, and how many rows each of its groups has."""

    name: Name
    groups: tuple[Group, ...] = Field(max_length=20)
    suppressed: Count = Field(description="rows in groups too small to be shown")


class Tensor(Document):
    """As the Open Inference Protocol writes it in JSON; ``null`` stands for a number that is none."""

    name: Name
    datatype: Datatype
    shape: tuple[int, ...]
    data: tuple[bool | int | float | str | None, ...]


class Example(Document):
    """A made-up row of middle values, and what the model answered."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Data(Document):
    """Which data was read."""

    digest: Digest
    rows: Annotated[int, Field(ge=1)]


class Profile(Document):
    """Everything that is known of a model's training data."""

    schemaVersion: Literal[1] = 1
    modelDigest: Digest
    data: Data
    holdout: Data | None = None
    features: tuple[Feature, ...] = Field(max_length=2000)
    predictions: tuple[Prediction, ...] = Field(max_length=20)
    confidence: Confidence | None = None
    attributes: tuple[Attribute, ...] = Field(default=(), max_length=3)
    example: Example | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("two features have the same name")
        return self

    def text(self) -> bytes:
        """As it is kept in a file."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_profile(text: bytes, model_digest: str) -> Profile:
    """The profile in a document, of the model with that digest. Raises :class:`ProfileError`."""
    if len(text) > LARGEST_PROFILE:
        raise ProfileError(f"it has more than {LARGEST_PROFILE} bytes: profile fewer columns")
    try:
        profile = Profile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ProfileError(
            f"it is not a profile of schema version 1 ({where}: {first['msg']}): "
            "make it again with 'slipway profile'"
        ) from None
    if profile.modelDigest != model_digest:
        raise ProfileError(
            f"it was made for the model {profile.modelDigest}, but this one is {model_digest}: "
            "make it again with 'slipway profile' for this model"
        )
    return profile
