"""What a ModelDeployment serves and what it would serve, side by side: model, card and profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.api.card import Card
from slipway.api.status import ModelDeploymentStatus, ModelStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.resolution import UNKNOWN_VERSION
from slipway.profile import CategoryBins, Feature, Profile

#: Features that are compared one by one, the most important first.
MOST_FEATURES = 20


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        spec: None where it cannot be read.
        model: what its URI means; None where that is not known.
        profile: of the model; None where it has none, or it was not looked up.
        note: why the model is not known.
    """

    spec: ModelDeploymentSpec | None = None
    model: ModelStatus | None = None
    profile: Profile | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One thing, as it is and as it would be; empty where there is none."""

    name: str
    now: str
    then: str


def serving(status: ModelDeploymentStatus) -> ModelStatus | None:
    """The model of the stable revision; None where nothing serves."""
    stable, model = status.stable, status.model
    if stable is None:
        return None
    if model is not None and (model.version, model.digest) == (stable.version, stable.digest):
        return model
    return ModelStatus(
        uri=stable.resolvedURI or "",
        resolvedURI=stable.resolvedURI or "",
        version=stable.version,
        digest=stable.digest,
        bytes=stable.bytes or 0,
        createdAt=stable.modelCreatedAt,
        profile=stable.profile,
        provenance=stable.provenance,
    )


def rows(now: Side | None, then: Side | None) -> list[Row]:
    """What is known of either, a row for each thing."""
    found = [dict(_facts(side)) for side in (now, then)]
    features = _features(now, then)
    names = [*dict.fromkeys([*found[0], *found[1]])]
    return [Row(name, found[0].get(name, ""), found[1].get(name, "")) for name in names] + features


def _facts(side: Side | None) -> Iterator[tuple[str, str]]:
    if side is None:
        return
    if side.spec is not None:
        yield "URI", side.spec.model.uri
    model = side.model
    if model is not None and model.version != UNKNOWN_VERSION:
        yield "Version", model.version
        yield "Digest", model.digest
        yield "Size", f"{model.bytes:,} bytes"
        if model.createdAt:
            yield "Made", model.createdAt
        if model.signedBy:
            yield "Signed by", model.signedBy
        if model.provenance:
            built = model.provenance
            yield "Built by", built.builder
            yield "Built from", f"{built.source}@{built.commit}" if built.commit else built.source
    elif side.note:
        yield "Version", side.note
    yield from _card(side.spec.card if side.spec is not None else None)
    yield from _profile(side.profile)


def _card(card: Card | None) -> Iterator[tuple[str, str]]:
    if card is None:
        return
    told = {
        "Owner": card.owner,
        "Intended use": card.intendedUse,
        "Limitations": card.limitations,
        "More": " ".join(card.links),
        "May be so old": f"{card.maxAgeDays} days" if card.maxAgeDays is not None else "",
    }
    yield from ((name, text) for name, text in told.items() if text)


def _profile(profile: Profile | None) -> Iterator[tuple[str, str]]:
    if profile is None:
        return
    yield "Training rows", f"{profile.data.rows:,}"
    yield "Features", f"{len(profile.features):,}"
    if profile.confidence is not None and any(profile.confidence.rows):
        right, of = int(sum(profile.confidence.correct)), int(sum(profile.confidence.rows))
        yield "Right on held-out rows", f"{right / of:.1%} of {of:,}"
    for one in profile.predictions:
        if isinstance(one.bins, CategoryBins) and (total := sum(one.bins.counts) + one.bins.other):
            shares = zip(one.bins.categories, one.bins.counts, strict=True)
            yield (
                f"Answers, {one.output}",
                ", ".join(f"{name}: {count / total:.1%}" for name, count in shares),
            )


def _features(now: Side | None, then: Side | None) -> list[Row]:
    """Features that differ, where both profiles are known."""
    if now is None or then is None or now.profile is None or then.profile is None:
        return []
    before = {one.name: one for one in now.profile.features}
    after = {one.name: one for one in then.profile.features}
    ordered = sorted((before | after).values(), key=lambda one: -one.importance)
    told = [
        Row(
            f"Feature {one.name}",
            _feature(before.get(one.name), now.profile.data.rows),
            _feature(after.get(one.name), then.profile.data.rows),
        )
        for one in ordered
    ]
    differ = [row for row in told if row.now != row.then]
    if len(differ) > MOST_FEATURES:
        left = f"{len(differ) - MOST_FEATURES} more differ"
        return [*differ[:MOST_FEATURES], Row("Other features", "", left)]
    return differ


def _feature(feature: Feature | None, rows: int) -> str:
    if feature is None:
        return "none"
    told = [feature.datatype, f"{feature.missing / rows:.1%} missing"]
    if feature.range is not None:
        told.append(
            f"mean {feature.range.mean:.4g}, {feature.range.minimum:.4g} to {feature.range.maximum:.4g}"
        )
    return ", ".join(told)
