"""What the proof of a conversion says, in short: it goes into the status, and decides nothing."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from slipway.contract import Proved
from slipway.conversion import LARGEST_PROOF, Compared, Conversion, Rows, read_proof
from slipway.names import PROOF_FILE

#: What a document has that means to be a proof; others may have a file of that name, too.
_MARKS = {"schemaVersion", "modelDigest"}
_MOST_ROWS = 2**31 - 1
_LONGEST_KIND, _LONGEST_PROBLEM = 200, 300


def proved(text: bytes, digest: str) -> Proved | None:
    """What a file next to the model with that digest says; None where it does not mean to be a proof."""
    if len(text) > LARGEST_PROOF and text.lstrip().startswith(b"{"):
        return unproved(f"it has more than {LARGEST_PROOF} bytes")
    if not _is_meant(text):
        return None
    own = f"sha256:{hashlib.sha256(text).hexdigest()}"
    try:
        proof = read_proof(text)
    except ValueError as error:
        return unproved(f"{error}", own)
    if proof.modelDigest != digest:
        found = unproved(f"it is of the model {proof.modelDigest}, and not of this one", own)
        return found.model_copy(update={"modelDigest": proof.modelDigest})
    data = proof.compared.get(Rows.DATA)
    if data is None or not data.rows:
        return unproved("it has no rows on which the model was compared", own)
    return _in_short(proof, data, own)


def unproved(problem: str, own: str | None = None) -> Proved:
    """Of a file that proves nothing, and why; ``own`` is its digest."""
    return Proved(digest=own, problem=_printable(problem)[:_LONGEST_PROBLEM])


def _in_short(proof: Conversion, data: Compared, own: str) -> Proved:
    edges = [found for kind, found in proof.compared.items() if kind is not Rows.DATA]
    accepted = tuple(kind.value for kind in Rows if kind in proof.compared and proof.compared[kind].beyond)
    return Proved(
        digest=own,
        modelDigest=proof.modelDigest,
        original=_printable(proof.original.kind)[:_LONGEST_KIND],
        convertedAt=_moment(proof.at),
        tolerance=f"{proof.tolerance:.3g}",
        rows=min(data.rows, _MOST_ROWS),
        labelsDiffer=min(data.labelsDiffer, _MOST_ROWS),
        largestDifference=None if data.largestDifference is None else f"{data.largestDifference:.2g}",
        edgeRows=min(sum(found.rows for found in edges), _MOST_ROWS),
        accepted=accepted or None,
    )


def _is_meant(text: bytes) -> bool:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.keys() >= _MARKS


def _moment(at: datetime) -> str | None:
    try:
        return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except OverflowError:
        return None


def _printable(text: str) -> str:
    return "".join(each for each in text if each.isprintable())


__all__ = ["LARGEST_PROOF", "PROOF_FILE", "proved", "unproved"]
