"""What is remembered of revisions, and which of them were found bad."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from slipway.api.rollout_status import MAX_REJECTED, Rejection
from slipway.api.status import ModelDeploymentStatus
from slipway.core import naming
from slipway.core.objects.deployment import server_image, settings_of
from slipway.core.objects.metadata import Owner
from slipway.core.observed import ObjectKind, Observed, revision_of_object, rfc3339
from slipway.core.revision import Revision, revision_from


def revision_from_history(revision: str, observed: Observed) -> Revision | None:
    """A revision as its ControllerRevision holds it, or None where there is none that can be trusted."""
    for found in observed.of(ObjectKind.CONTROLLER_REVISION):
        if revision_of_object(found) == revision:
            content = _content(found.get("data"))
            if content is None:
                return None
            # A name of another content is another operator's writing; its children are left as they are.
            return content if content.name == revision else None
    return None


def was_verified_for(revision: str, observed: Observed) -> str | None:
    """Hash of what a revision's model was last verified for, as its ControllerRevision remembers it."""
    for found in observed.of(ObjectKind.CONTROLLER_REVISION):
        if revision_of_object(found) == revision:
            said = (found["metadata"].get("annotations") or {}).get(naming.VERIFIED_ANNOTATION)
            return None if said is None else str(said)
    return None


#: Revisions that were read last, by the id of what each was read from, which is held for as long: one run
#: reads the same several times.
_read: dict[int, tuple[Any, Revision | None]] = {}
_MOST_READ = 256


def _content(data: Any) -> Revision | None:
    known = _read.get(id(data))
    if known is not None and known[0] is data:
        return known[1]
    try:
        content = revision_from(data)
    except (KeyError, TypeError, ValueError):
        content = None
    if len(_read) >= _MOST_READ:
        del _read[next(iter(_read))]
    _read[id(data)] = data, content
    return content


def by_its_name(
    wanted: Revision, owner: Owner, status: ModelDeploymentStatus, observed: Observed
) -> Revision:
    """The wanted revision by the name that it has already, if people chose the same before.

    Several may be the same: an operator before ADR 8 made one for each image of the chart. Then it is the
    stable one, else the canary, else the newest.
    """
    same = [found for found in _all(observed) if _is_same(wanted, found, owner, observed)]
    same = _with_its_profile(wanted, same, status)
    same += _named_before(wanted, observed)
    if not same:
        return wanted
    at_work = (status.stable, status.canary)
    first = [role.revision for role in at_work if role is not None]
    numbers = {
        revision_of_object(found): int(found["revision"])
        for found in observed.of(ObjectKind.CONTROLLER_REVISION)
    }

    def rank(found: Revision) -> tuple[int, int]:
        place = first.index(found.name) if found.name in first else len(first)
        return place, -numbers.get(found.name, 0)

    named = replace(wanted, record=min(same, key=rank).content())
    if wanted.model.profile is None and named.profile is not None:
        return replace(named, model=wanted.model.model_copy(update={"profile": named.profile}))
    return named


def _with_its_profile(
    wanted: Revision, same: list[Revision], status: ModelDeploymentStatus
) -> list[Revision]:
    """Those of otherwise the same revisions that have the wanted profile.

    What is named without a profile has the one that was found first for it, as status says; where it says
    none, whichever is wanted, unless another one is named with a profile already.
    """
    if wanted.model.profile is None:
        return same
    seen = {
        each.revision: each.profile
        for each in (*status.rejected, status.canary, status.stable)
        if each is not None
    }
    profiles = {found.name: found.profile or seen.get(found.name) for found in same}
    having = [found for found in same if profiles[found.name] == wanted.model.profile]
    if having:
        return having
    pinned = any(found.profile is not None for found in same)
    return [found for found in same if profiles[found.name] is None and (found.name in seen or not pinned)]


def as_pinned(revision: Revision, image: str, owner: Owner, observed: Observed) -> Revision:
    """The revision as one that pins an image, if its record leaves that open and its pods run that image."""
    if not revision.may_pin(image):
        return revision
    live = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(owner.name, revision.name))
    return revision.pinning(image) if live is None or server_image(live) == image else revision


def _is_same(wanted: Revision, found: Revision, owner: Owner, observed: Observed) -> bool:
    """Whether people chose the same, whatever profile was found."""
    wanted, found = wanted.with_any_profile(), found.with_any_profile()
    if wanted.identity == found.identity:
        return True
    return as_pinned(found, wanted.runtime.image, owner, observed).identity == wanted.identity


def _named_before(wanted: Revision, observed: Observed) -> Iterator[Revision]:
    """The wanted revision by names of before that Deployments carry; their records are gone."""
    image = wanted.runtime.image
    there = {
        revision_of_object(found)
        for found in observed.of(ObjectKind.DEPLOYMENT)
        if not image or server_image(found) == image
    } - {known.name for known in _all(observed)}
    for fetch_image, address in _installations(observed):
        found = wanted.named_before(fetch_image, address)
        if found.name in there:
            yield found


def _all(observed: Observed) -> Iterator[Revision]:
    for found in observed.of(ObjectKind.CONTROLLER_REVISION):
        name = revision_of_object(found)
        revision = revision_from_history(name, observed) if name is not None else None
        if revision is not None:
            yield revision


def _installations(observed: Observed) -> list[tuple[str, str]]:
    """Images that fetch models and addresses of MLflow that anything of this ModelDeployment tells of."""
    found = [revision.installation for revision in _all(observed)]
    for live in observed.of(ObjectKind.DEPLOYMENT):
        settings = settings_of(live)
        if settings is not None:
            found.append((settings.server_image, settings.mlflow_tracking_uri))
    return list(dict.fromkeys(each for each in found if each is not None))


def carried_over_rejections(
    rejected: tuple[Rejection, ...], wanted: Revision | None, observed: Observed
) -> tuple[Rejection, ...]:
    """Rejections with what they are of, as far as those of an operator before ADR 8 still tell."""
    return tuple(
        found.model_copy(update={"identity": _identity(found, wanted, observed)})
        if found.identity is None
        else found
        for found in rejected
    )


def _identity(rejection: Rejection, wanted: Revision | None, observed: Observed) -> str | None:
    known = revision_from_history(rejection.revision, observed)
    if known is not None:
        # Where its record leaves open whether an image was pinned, it stays one of the digest.
        unsure = wanted is not None and known.may_pin(wanted.runtime.image)
        return None if unsure else known.judged
    if wanted is not None and any(
        wanted.named_before(*installation).judged_before == rejection.content
        for installation in _installations(observed)
    ):
        return wanted.judged
    return None


def rejection_of(
    revision: Revision, rejected: tuple[Rejection, ...], at_work: Collection[str] = ()
) -> Rejection | None:
    """Why a revision is not to be tried again, or None: it, or its twin by another name, was found bad.

    Args:
        revision: the revision.
        rejected: what was found bad.
        at_work: names of revisions that were let in: a vague rejection is not of them.
    """
    for found in rejected:
        if revision.name == found.revision:
            return found
        if revision.judged == found.identity and _is_of_profile(found, revision):
            return found
        if is_vague(found) and found.digest == revision.model.digest and revision.name not in at_work:
            return found
    return None


def _is_of_profile(rejection: Rejection, revision: Revision) -> bool:
    """What was judged with one profile says nothing of another; one that is not known may be any."""
    judged, found = rejection.profile, revision.model.profile
    return judged is None or found is None or judged == found


def is_vague(rejection: Rejection) -> bool:
    """Whether only the digest is known of what an operator before ADR 8 rejected: its record is gone."""
    return rejection.identity is None


def with_rejection(
    rejected: tuple[Rejection, ...],
    revision: Revision,
    observed: Observed,
    rollout: str,
    message: str,
    now: datetime,
) -> tuple[Rejection, ...]:
    """Remember that a revision was found bad by a rollout of this id."""
    rejection = Rejection(
        revision=revision.name,
        digest=revision.model.digest,
        content=_content_before(revision, observed),
        identity=revision.judged,
        profile=revision.model.profile,
        id=rollout,
        rejectedAt=rfc3339(now),
        message=message[:1024],
    )
    return (*rejected, rejection)[-MAX_REJECTED:]


def _content_before(revision: Revision, observed: Observed) -> str:
    """What an operator before ADR 8 knows a rejection by, should it be installed again."""
    if revision.installation is not None:
        return revision.judged_before
    records = (found.installation for found in _all(observed))
    known = next((found for found in records if found is not None), None)
    return revision.named_before(*known).judged_before if known is not None else revision.judged
