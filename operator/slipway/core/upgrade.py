"""An upgrade: the same revisions get pods from the newest template of the installation, a few at a time.

What spec.runtime.pod and spec.access say reaches pods in the same way, but at once and in nobody's turn.

See docs/adr/0008-identity-and-upgrades.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

from slipway.api.access import Access
from slipway.api.pods import PodOptions
from slipway.api.reasons import Reason
from slipway.api.status import UpgradeStatus
from slipway.core import naming
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods
from slipway.core.objects.deployment import TOLD_BY_PODS, deployment, image_of, server_image, settings_of
from slipway.core.objects.diff import contains
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Fault, Manifest, ObjectKind, Observed, condition_of, rfc3339, timestamp
from slipway.core.revision import Revision, Settings

#: Without progress for so long, an upgrade is stuck: if something is seen to be wrong, and if nothing is.
WITH_FAULT = timedelta(seconds=60)
WITHOUT_FAULT = timedelta(seconds=600)


@dataclass(frozen=True)
class Part:
    """One Deployment of a revision that has a role.

    Attributes:
        revision: what it serves.
        live: the Deployment as it is, or None.
        newest: as the installation, spec.runtime.pod and spec.access would have it now.
        served: whether clients may rely on it.
        older: makes it as it may have been applied last; None where that cannot be told.
    """

    revision: Revision
    live: Manifest | None
    newest: dict[str, Any]
    served: bool
    older: Callable[[], dict[str, Any]] | None = None

    @cached_property
    def awaits_a_turn(self) -> bool:
        """Whether its pods are of an older template, and not to be replaced just so.

        What never served has nothing to lose.
        """
        if self.live is None or not is_behind(self.live, self.newest):
            return False
        return self.served or ready(self.live) > 0

    @cached_property
    def asked_for(self) -> bool:
        """Whether its pods differ by what the spec says alone: a change that is nobody's upgrade."""
        return self.live is not None and is_of_one_installation(self.live, self.newest)


def part(
    owner: Owner,
    revision: Revision,
    settings: Settings,
    observed: Observed,
    served: bool,
    own: PodOptions,
    access: Access | None = None,
) -> Part:
    """A revision's Deployment beside what it should be.

    With a pinned image, another image to fetch the model with is alone no reason to replace pods.
    """
    live = _live(owner, revision, observed)
    runs = settings_of(live) if live is not None else None
    settings = _keeping_cuda(settings, live)
    newest = deployment(owner, revision, settings, own, access)
    if live is None or runs is None:
        return Part(revision, live, newest, served)
    if revision.runtime.image:
        kept = deployment(owner, revision, replace(settings, server_image=runs.server_image), own, access)
        if is_of_one_installation(live, kept):
            newest = kept
    before = replace(settings, **{name: getattr(runs, name) for name in TOLD_BY_PODS})
    return Part(revision, live, newest, served, partial(deployment, owner, revision, before, own, access))


def image_fault(owner: Owner, revision: Revision, settings: Settings, observed: Observed) -> Fault | None:
    """Why no Deployment of a revision can be made, or None: the installation has no image for it."""
    if image_of(revision, _keeping_cuda(settings, _live(owner, revision, observed))):
        return None
    return Fault(
        Reason.CUDA_IMAGE_MISSING,
        f"revision {revision.name} runs on CUDA, its Deployment is gone, and this installation has no image "
        "to make another one with: have the chart's value server.cudaImage set (the Dockerfile's target "
        "server-cuda builds one)",
    )


def _keeping_cuda(settings: Settings, live: Manifest | None) -> Settings:
    """Where the installation has no image for CUDA any more, what runs by one keeps it."""
    if settings.cuda_image or live is None:
        return settings
    return replace(settings, cuda_image=server_image(live))


def _live(owner: Owner, revision: Revision, observed: Observed) -> Manifest | None:
    return observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(owner.name, revision.name))


def next_upgrade(
    before: UpgradeStatus | None, parts: Sequence[Part], observed: Observed, now: datetime
) -> UpgradeStatus | None:
    """How far the upgrade of a ModelDeployment is; None where there is none."""
    waiting = [each for each in parts if each.awaits_a_turn]
    asked = all(each.asked_for for each in waiting)
    if before is not None and is_under_way(before) and (asked or _takes_along(before)):
        return (
            None if not waiting and _is_done(before, parts) else _go_on(before, waiting, parts, observed, now)
        )
    if not waiting:
        return None
    if asked or observed.may_upgrade:
        count = sum(ready(each.live) for each in waiting if each.live is not None)
        moment = rfc3339(now)
        return UpgradeStatus(
            phase="Upgrading",
            startedAt=moment,
            progressedAt=moment,
            readyReplicas=count,
            message=_ASKED if asked else _REPLACES,
            cause="Spec" if asked else None,
        )
    return UpgradeStatus(phase="Waiting", message=_HALTED if observed.upgrades_halted else _WAITS)


def is_under_way(upgrade: UpgradeStatus | None) -> bool:
    """Whether status says that pods may be replaced."""
    return upgrade is not None and upgrade.phase != "Waiting"


def has_a_turn(upgrade: UpgradeStatus | None) -> bool:
    """Whether one of the installation's turns is taken: what a spec asks for needs none, and keeps none."""
    return is_under_way(upgrade) and upgrade is not None and upgrade.cause != "Spec"


def _takes_along(upgrade: UpgradeStatus | None) -> bool:
    """Whether a change of the installation comes with what is under way.

    Not with what a spec asks for, which could be everywhere at once. But what is stuck by its spec is not to
    take a turn that it could not give back.
    """
    return has_a_turn(upgrade) or (upgrade is not None and upgrade.phase == "Stuck")


def to_apply(each: Part, upgrade: UpgradeStatus | None) -> dict[str, Any] | None:
    """The Deployment to be applied, or None where it is to stay as it is.

    Args:
        each: the Deployment.
        upgrade: as status had it before: a turn is remembered before it is taken.
    """
    if each.live is None or not each.awaits_a_turn or _takes_along(upgrade):
        return each.newest
    if is_under_way(upgrade) and each.asked_for:
        return each.newest
    return as_it_is(each.live, each.newest, each.older() if each.older is not None else None)


def as_it_is(
    live: Manifest, newest: dict[str, Any], older: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """What may be applied of a Deployment whose pods have to wait, or None for nothing.

    Args:
        live: the Deployment as it is.
        newest: with the template that it waits for.
        older: with what may be the template that was applied last; where it is, drift from it is taken back.
    """
    if older is not None and not is_behind(live, older):
        return older
    meta = {name: value for name, value in newest["metadata"].items() if name != "annotations"}
    noted = (live["metadata"].get("annotations") or {}).get(naming.INSTALLED_ANNOTATION)
    if noted is not None:
        meta["annotations"] = {naming.INSTALLED_ANNOTATION: noted}
    spec = {**newest["spec"], "template": live["spec"]["template"]}
    same_pods = {**newest, "metadata": meta, "spec": spec}
    return None if contains(live, same_pods) else same_pods


def deadline(upgrade: UpgradeStatus | None, now: datetime) -> datetime | None:
    """When an upgrade that makes no progress is to be looked at again, or None."""
    since = timestamp(upgrade.progressedAt) if upgrade is not None else None
    if since is None:
        return None
    return next(
        (since + patience for patience in (WITH_FAULT, WITHOUT_FAULT) if since + patience > now), None
    )


def applied_mark(manifest: Manifest) -> str:
    """Noted on an object that is applied: a hash of all and, of a Deployment, one of its pods' template."""
    whole = naming.content_hash(manifest)
    if manifest["kind"] != ObjectKind.DEPLOYMENT:
        return whole
    return f"{whole}.{naming.content_hash(manifest['spec']['template'])}"


def was_applied(live: Manifest, manifest: Manifest) -> bool:
    """Whether it is this manifest that was applied last."""
    return has_mark(live, applied_mark(manifest))


def has_mark(live: Manifest, mark: str) -> bool:
    """Whether an object bears the mark of a manifest."""
    # Operators before ADR 8 noted the first half.
    return _noted(live) in (mark, mark.partition(".")[0])


def is_behind(live: Manifest, newest: Manifest) -> bool:
    """Whether applying a Deployment would replace its pods, as far as that can be told."""
    if was_applied(live, newest):
        return False
    noted = _noted(live)
    template = noted.partition(".")[2]
    if template:
        return template != naming.content_hash(newest["spec"]["template"])
    if not noted:
        there = (live.get("spec") or {}).get("template")
        return there is not None and not contains(there, newest["spec"]["template"])
    owners = live["metadata"].get("ownerReferences") or []
    before = {**newest, "metadata": {**newest["metadata"], "ownerReferences": owners}}
    return naming.content_hash(before) != noted


def is_of_one_installation(live: Manifest, newest: Manifest) -> bool:
    """Whether the same installation made both, so that only the spec can make their pods differ."""
    if not is_behind(live, newest):
        return True
    one, other = _installed(live), _installed(newest)
    pulled = {found[1] for found in (one, other) if found[1]}
    return bool(one[0]) and one[0] == other[0] and len(pulled) < 2


def _installed(manifest: Manifest) -> tuple[str, str]:
    """Hashes of a template without what the spec says, and of the Secrets that came into it otherwise."""
    noted = (manifest["metadata"].get("annotations") or {}).get(naming.INSTALLED_ANNOTATION)
    if noted is None:
        applied = _noted(manifest)
        # What is not applied yet bears no mark.
        noted = applied.partition(".")[2] if applied else naming.content_hash(manifest["spec"]["template"])
    template, _, pulled = str(noted).partition(".")
    return template, pulled


def is_replacing(live: Manifest) -> bool:
    """Whether pods of an older template are left, or its controller has not looked at the newest yet."""
    return not _is_counted(live) or _count(live, "updatedReplicas") < _count(live, "replicas")


def is_late(live: Manifest, pods: Iterable[Manifest], now: datetime) -> bool:
    """Whether replacing pods makes no progress, by what the Deployment's controller and the pods say."""
    progressing = condition_of(live, "Progressing")
    if progressing is None:
        return False
    since = timestamp(progressing.get("lastUpdateTime"))
    waited = since is not None and now - since >= WITH_FAULT
    return progressing["status"] == "False" or (waited and diagnose_pods(pods, now) is not None)


def ready(live: Manifest) -> int:
    """Ready pods of a Deployment, of whichever template."""
    return _count(live, "readyReplicas")


_REPLACES = "pods are replaced, since the installation changed"
_ASKED = "pods are replaced, since spec.runtime.pod or spec.access changed"
_WAITS = "waits for its turn; rollouts.maxConcurrentUpgrades of the chart says how many have one at a time"
_HALTED = (
    "waits, since every upgrade that is under way is stuck; see which by slipway_modeldeployment_upgrade"
)


def _go_on(
    before: UpgradeStatus,
    waiting: Sequence[Part],
    parts: Sequence[Part],
    observed: Observed,
    now: datetime,
) -> UpgradeStatus:
    updated = 0 if waiting else sum(_count(found, "updatedReplicas") for found in _lives(parts))
    progressed_at = rfc3339(now) if updated > before.updatedReplicas else before.progressedAt
    since = timestamp(progressed_at) or now
    fault = next((found for each in parts if (found := _fault(each, observed, now)) is not None), None)
    patience = WITH_FAULT if fault is not None else WITHOUT_FAULT
    stuck = now - since >= patience
    cause = f"; {fault.reason}: {fault.message}" if fault is not None else ""
    goes_on = _REPLACES if has_a_turn(before) else _ASKED
    message = f"new pods do not become ready, and the old ones serve on{cause}" if stuck else goes_on
    return before.model_copy(
        update={
            "phase": "Stuck" if stuck else "Upgrading",
            "progressedAt": progressed_at,
            "updatedReplicas": updated,
            "message": message[:1024],
        }
    )


def _is_done(before: UpgradeStatus, parts: Sequence[Part]) -> bool:
    lives = _lives(parts)
    if not all(_is_counted(live) for live in lives):
        return False
    if before.readyReplicas == 0:
        # Nothing was ready before; what kept it so may keep it so.
        return True
    if any(is_replacing(live) for live in lives):
        return False
    return sum(map(ready, lives)) >= min(
        before.readyReplicas, sum(_count(live, "replicas") for live in lives)
    )


def _lives(parts: Iterable[Part]) -> list[Manifest]:
    return [each.live for each in parts if each.live is not None]


def _fault(each: Part, observed: Observed, now: datetime) -> Fault | None:
    if each.live is None or not is_replacing(each.live):
        return None
    fault = diagnose_deployment(each.live, now) or diagnose_pods(observed.pods(each.revision.name), now)
    # A large model may take its time to load.
    return None if fault is not None and fault.reason is Reason.PROBE_FAILING else fault


def _noted(live: Manifest) -> str:
    return str((live["metadata"].get("annotations") or {}).get(naming.APPLIED_ANNOTATION, ""))


def _is_counted(live: Manifest) -> bool:
    return _count(live, "observedGeneration") >= int(live["metadata"].get("generation", 0))


def _count(live: Manifest, field: str) -> int:
    return int((live.get("status") or {}).get(field) or 0)
