"""What is known of a model's conversion, for people."""

from __future__ import annotations

from slipway.api.status import ModelStatus


def told(model: ModelStatus) -> str:
    """The proof of a model's conversion in words; empty where none is known."""
    found = model.conversion
    if found is None:
        return ""
    problem = found.problem
    if problem is None and found.modelDigest != model.digest:
        # As an operator that knows no proofs leaves it when the model moves on.
        problem = f"it is of the model {found.modelDigest}, and not of this one"
    if problem is not None:
        return f"conversion.json proves nothing of this model: {problem}"
    rows, differ = found.rows or 0, found.labelsDiffer or 0
    made = f" on {found.convertedAt[:10]}" if found.convertedAt else ""
    accepted = f"; beyond that, as was accepted: {', '.join(found.accepted)}" if found.accepted else ""
    largest = found.largestDifference or "not a number"
    return (
        f"converted from {found.original or 'a model'}{made}: of {rows} rows {differ} have another label, "
        f"and the largest difference is {largest} (tolerance {found.tolerance}); "
        f"{found.edgeRows or 0} rows at edges were compared too{accepted}"
    )


def is_proved(model: ModelStatus) -> bool:
    """Whether nothing is wrong with the proof; also where there is none."""
    found = model.conversion
    return found is None or (found.problem is None and found.modelDigest == model.digest)
