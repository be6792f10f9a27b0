"""What a change would do, by the code that would do it: the operator's own plan, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from slipway.api.pods import NOTHING
from slipway.api.status import ModelStatus, RevisionStatus, UpgradeStatus
from slipway.api.types import ModelDeploymentSpec, Runtime
from slipway.cli.drawing import told_step
from slipway.cli.terminal import Line, Tone
from slipway.core import plan as planning
from slipway.core import proof
from slipway.core.objects.diff import contains, differences
from slipway.core.observed import Fault, Manifest, ObjectKind, ObservedTraffic, observe, rfc3339
from slipway.core.resolution import UNKNOWN_VERSION, is_asked, unresolved
from slipway.core.resource import Resource, read
from slipway.core.revision import Settings, revision_of
from slipway.core.rollout.history import by_its_name, carried_over_rejections, rejection_of
from slipway.core.rollout.machine import steps_of
from slipway.core.traffic.routed import has_routers

#: In names of objects: what is named by what nobody has looked up, and by what is taken to serve.
_WANTED, _SERVING = "REVISION", "STABLE"

Verb = Literal["apply", "create", "change", "unchanged", "delete"]


@dataclass(frozen=True)
class Change:
    """What would happen to one object; ``apply`` where it is not known whether it is there."""

    verb: Verb
    kind: str
    name: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What would follow if a manifest were applied now.

    Attributes:
        namespace: of the ModelDeployment.
        name: of the ModelDeployment.
        complaints: why it would be refused; then nothing else is known.
        checked_by: who found no complaint, or these.
        model: which model it is, in words.
        conversion: what the proof of its conversion says, in words; empty where none is known.
        device: what the pods run it on, in words; empty where that is the CPU, as it was before.
        revision: what happens to the revision that serves, in words.
        is_new: whether there would be a new revision.
        upgrade: why pods are replaced though the revision stays, in words; empty where they are not.
        strategy: of the rollout; empty without one.
        steps: of the rollout, in words.
        changes: what would happen to each object.
        removed: what becomes of it, where no file has it any more.
    """

    namespace: str
    name: str
    complaints: tuple[str, ...] = ()
    checked_by: str = ""
    model: str = ""
    conversion: str = ""
    device: str = ""
    revision: str = ""
    is_new: bool = False
    upgrade: str = ""
    strategy: str = ""
    steps: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    removed: str = ""

    @property
    def is_change(self) -> bool:
        """Whether applying it would change something in the cluster."""
        return (
            bool(self.removed)
            or self.is_new
            or bool(self.upgrade)
            or any(one.verb != "unchanged" for one in self.changes)
        )

    def as_object(self) -> dict[str, Any]:
        """For ``-o json``."""
        found = {name: value for name, value in asdict(self).items() if name not in ("is_new", "checked_by")}
        found |= {"newRevision": self.is_new, "checkedBy": self.checked_by, "valid": not self.complaints}
        for name in ("complaints", "steps", "changes"):
            found[name] = list(found[name])
        for change in found["changes"]:
            change["fields"] = list(change["fields"])
        return found


def planned(
    manifest: dict[str, Any],
    live: Manifest | None,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None = None,
    model: ModelStatus | None = None,
) -> Planned:
    """What would follow if a manifest were applied now.

    Args:
        manifest: to be applied.
        live: the same ModelDeployment as it is, or None where there is none.
        settings: of the installation.
        now: the time, with a time zone.
        children: of the live one, to compare with; None where they are not known.
        model: what its URI means now; unless given, what the live one's status says, if that still holds.
    """
    wanted = read(merged(manifest, live))
    found = Planned(wanted.owner.namespace, wanted.owner.name)
    if isinstance(wanted.spec, Fault):
        return replace(found, complaints=(wanted.spec.message,))
    before = read(live) if live is not None else wanted
    found = replace(found, device=_device(before, wanted.spec.runtime))
    if model is None and not is_asked(wanted.spec, wanted.status):
        model = wanted.status.model
    if model is None:
        model = unresolved(wanted.spec)
        found = replace(found, model=f"{model.uri} is looked up first; {_not_known(wanted.spec)}")
    elif model.version == UNKNOWN_VERSION:
        found = replace(found, model=f"{model.uri} as before; {_not_known(wanted.spec)}")
    else:
        known = f"{model.uri} is version {model.version}, {model.digest}"
        found = replace(found, model=known, conversion=proof.told(model))
    observed = observe(children or ())
    revision = by_its_name(revision_of(wanted.spec, model), wanted.owner, wanted.status, observed)
    changes = tuple(_changes(wanted, model, settings, now, children))
    stable = wanted.status.stable
    if stable is None:
        told = "the first one; it serves as soon as one of its pods is ready"
        return replace(found, revision=told, is_new=True, changes=changes)
    same = not isinstance(before.spec, Fault) and before.status.model == model
    if revision.name == stable.revision or (children is None and same and _same_pods(before, wanted)):
        told = f"{_called(stable)} stays"
        alike = isinstance(before.spec, Fault) or before.spec.runtime.pod == wanted.spec.runtime.pod
        differs = "the installation" if alike else "spec.runtime.pod"
        upgrade = f"its pods are replaced in a rolling update: {differs} differs"
        if children is None and not alike:
            return replace(found, revision=told, upgrade=upgrade)
        if children is None:
            return replace(found, revision=f"{told}: no pod is restarted")
        if plan_of(wanted, model, settings, now, children).upgrade is None:
            return replace(found, revision=f"{told}: no pod is restarted", changes=changes)
        return replace(found, revision=told, upgrade=upgrade, changes=changes)
    rejection = rejection_of(revision, carried_over_rejections(wanted.status.rejected, revision, observed))
    if rejection is not None:
        return replace(found, revision=f"rejected before, and not tried again: {rejection.message}")
    return replace(
        found,
        revision=f"a new one, next to {_called(stable)}"
        + (f" with version {stable.version}" if stable.version != UNKNOWN_VERSION else ""),
        is_new=True,
        strategy=wanted.spec.rollout.strategy,
        steps=tuple(told_step(step) for step in steps_of(wanted.spec.rollout)),
        changes=changes,
    )


def _device(before: Resource, runtime: Runtime) -> str:
    was = "CPU" if isinstance(before.spec, Fault) else before.spec.runtime.device
    if runtime.device == was == "CPU":
        return ""
    told: str = runtime.device
    if runtime.device == "CUDA":
        asked = ", ".join(f"{name}: {amount}" for name, amount in runtime.resources.extended.items())
        image = "spec.runtime.image" if runtime.image else "the installation's CUDA image"
        told += f", with {asked}, by {image}"
    return told if runtime.device == was else f"{told}; {was} before"


def _not_known(spec: ModelDeploymentSpec) -> str:
    if spec.model.digest is not None:
        return f"it must have the digest {spec.model.digest}, and its version is not known yet"
    return "its version and digest are not known yet"


def _called(stable: RevisionStatus) -> str:
    return "the one at the base" if stable.version == UNKNOWN_VERSION else stable.revision


def lines(found: Planned) -> Iterator[Line]:
    """A plan for people."""
    yield Line(f"{found.namespace}/{found.name}", Tone.TITLE)
    if found.complaints:
        yield from (Line(f"  invalid: {one}", Tone.BAD) for one in found.complaints)
        return
    if found.removed:
        yield Line(f"  removed   {found.removed}", Tone.BAD)
        return
    yield Line(f"  model     {found.model}")
    if found.conversion:
        yield Line(f"  proof     {found.conversion}")
    if found.device:
        yield Line(f"  device    {found.device}")
    yield Line(f"  revision  {found.revision}", Tone.WAITING if found.is_new else Tone.PLAIN)
    if found.upgrade:
        yield Line(f"  upgrade   {found.upgrade}", Tone.WAITING)
    if found.strategy:
        yield Line(f"  strategy  {found.strategy}")
        yield from (Line(f"    {number}. {step}") for number, step in enumerate(found.steps, 1))
    for one in found.changes:
        fields = f": {', '.join(one.fields)}" if one.fields else ""
        yield Line(f"  {one.verb:9} {one.kind} {one.name}{fields}", _TONES.get(one.verb, Tone.PLAIN))


_TONES = {"create": Tone.GOOD, "change": Tone.WAITING, "delete": Tone.BAD}


def plan_of(
    resource: Resource,
    model: ModelStatus,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None,
) -> planning.Plan:
    """The plan as the operator makes it, once it is the turn of an upgrade that it needs."""
    if isinstance(resource.spec, Fault):
        return planning.Plan()
    granted = UpgradeStatus(phase="Upgrading", startedAt=rfc3339(now), progressedAt=rfc3339(now))
    resolved = resource.status.model_copy(update={"model": model, "upgrade": granted})
    # What routers do is theirs to tell: here they are taken to go on as they are.
    observed = observe(children or (), traffic=ObservedTraffic() if has_routers(resource.spec) else None)
    observed = replace(observed, may_audit=True)
    return planning.plan(
        Resource(resource.owner, resource.generation, resource.spec, resolved, deleting=False),
        resource.spec,
        observed,
        settings,
        now,
    )


def _changes(
    resource: Resource,
    model: ModelStatus,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None,
) -> Iterator[Change]:
    """What happens to the objects that the plan itself would apply, where the live ones are known."""
    found, observed = plan_of(resource, model, settings, now, children), observe(children or ())
    stable, names = resource.status.stable, dict[str, str]()
    if model.version == UNKNOWN_VERSION and found.roles.wanted is not None:
        names[found.roles.wanted.name] = _WANTED
    if stable is not None and stable.version == UNKNOWN_VERSION:
        names[stable.revision] = _SERVING
    for wanted in found.apply:
        kind, name = str(wanted["kind"]), str(wanted["metadata"]["name"])
        live = observed.find(ObjectKind(kind), name)
        for unknown, called in names.items():
            name = name.replace(unknown, called)
        if children is None:
            yield Change("apply", kind, name)
        elif live is None:
            yield Change("create", kind, name)
        elif contains(live, wanted):
            yield Change("unchanged", kind, name)
        else:
            yield Change("change", kind, name, tuple(differences(live, wanted)))
    for child in found.delete:
        name = str(child["metadata"]["name"])
        for unknown, called in names.items():
            name = name.replace(unknown, called)
        yield Change("delete", str(child["kind"]), name)


def _same_pods(before: Resource, wanted: Resource) -> bool:
    if isinstance(before.spec, Fault) or isinstance(wanted.spec, Fault):
        return False
    specs = (before.spec, wanted.spec)
    parts = [(spec.runtime.model_copy(update={"pod": NOTHING}), spec.model.credentials) for spec in specs]
    return parts[0] == parts[1]


def merged(manifest: dict[str, Any], live: Manifest | None) -> Manifest:
    """A manifest as the API server would have it: with the metadata and status of what is there."""
    meta = {"namespace": "default", "uid": "", **(live or {}).get("metadata", {}), **manifest["metadata"]}
    if live is None:
        # A status in a file is not applied either.
        return {**manifest, "metadata": meta, "status": {}}
    return {**manifest, "metadata": meta, "status": live.get("status", {})}
