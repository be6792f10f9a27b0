"""``kubectl slipway plan -f``: what a change would do, by the code that would do it. Nothing is written."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slipway.api.status import ModelStatus, UpgradeStatus
from slipway.api.types import API_VERSION, KIND
from slipway.cli import cluster
from slipway.cli.cluster import Cluster, ForbiddenError
from slipway.cli.drawing import told_step
from slipway.cli.errors import CommandError
from slipway.core import naming
from slipway.core import plan as planning
from slipway.core.objects.deployment import settings_of
from slipway.core.objects.diff import contains, differences
from slipway.core.observed import Fault, Manifest, ObjectKind, ObservedTraffic, observe, rfc3339
from slipway.core.resource import Resource, read
from slipway.core.revision import Settings, revision_of
from slipway.core.rollout.history import by_its_name, carried_over_rejections, rejection_of
from slipway.core.rollout.machine import steps_of
from slipway.core.traffic.routed import has_routers

#: Of the chart, where nothing else is known.
SERVER_IMAGE = "slipway.dev/server"
#: Stands for what only a resolver pod can find out.
UNKNOWN = "sha256:" + "0" * 64


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``plan``."""
    parser.add_argument("-f", "--filename", required=True, type=Path, help="a file with ModelDeployments")
    parser.add_argument("--offline", action="store_true", help="compare with nothing: ask no cluster")
    parser.add_argument(
        "--server-image", help="image of the installed chart; unless given, that of the stable revision"
    )
    cluster.add_connection(parser)


def run(arguments: Namespace) -> int:
    """Print the plan of each ModelDeployment in a file; 1 if one of them could not be read."""
    good = True
    for manifest in _manifests(arguments.filename):
        live = children = None
        if not arguments.offline:
            there = Cluster(arguments)
            manifest["metadata"].setdefault("namespace", there.namespace)
            live = there.find(manifest["metadata"]["name"])
            try:
                children = there.children(live) if live is not None else []
            except ForbiddenError as error:
                print(f"what would change is not compared: {error}", file=sys.stderr)
        settings = Settings(arguments.server_image) if arguments.server_image else installed(live, children)
        lines = list(describe(manifest, live, settings, datetime.now(UTC), children))
        good &= not lines[-1].startswith("  invalid")
        print("\n".join(lines))
    return 0 if good else 1


def installed(live: Manifest | None, children: Sequence[Manifest] | None) -> Settings:
    """What the installation decides, as far as the stable revision tells."""
    resource = read(live) if live is not None else None
    stable = resource.status.stable if resource is not None else None
    if resource is None or stable is None or children is None:
        return Settings(SERVER_IMAGE)
    observed = observe(children)
    found = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(resource.owner.name, stable.revision))
    return (settings_of(found) if found is not None else None) or Settings(SERVER_IMAGE)


def describe(
    manifest: dict[str, Any],
    live: Manifest | None,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None = None,
) -> Iterator[str]:
    """What would follow if a manifest were applied now, line by line.

    Args:
        manifest: to be applied.
        live: the same ModelDeployment as it is, or None where there is none.
        settings: of the installation.
        now: the time, with a time zone.
        children: of the live one, to compare with; None where they are not known.
    """
    wanted = read(_merged(manifest, live))
    yield f"{wanted.owner.namespace}/{wanted.owner.name}"
    if isinstance(wanted.spec, Fault):
        yield f"  invalid: {wanted.spec.message}"
        return
    model = wanted.status.model
    if model is None or model.uri != wanted.spec.model.uri:
        uri = wanted.spec.model.uri
        model = ModelStatus(uri=uri, resolvedURI=uri, version="?", digest=UNKNOWN, bytes=0)
        yield f"  model     {uri} is looked up first; its version and digest are not known yet"
    else:
        yield f"  model     {model.uri} is version {model.version}, {model.digest}"
    observed = observe(children or ())
    revision = by_its_name(revision_of(wanted.spec, model), wanted.owner, wanted.status, observed)
    stable = wanted.status.stable
    if stable is None:
        yield "  revision  the first one; it serves as soon as one of its pods is ready"
        yield from _objects(wanted, model, settings, now, children)
        return
    before = read(live) if live is not None else wanted
    same = not isinstance(before.spec, Fault) and before.status.model == model
    unchanged = same and not isinstance(before.spec, Fault) and _same_pods(before, wanted)
    if revision.name == stable.revision or (children is None and unchanged):
        upgrade = _plan(wanted, model, settings, now, children).upgrade if children is not None else None
        if upgrade is None:
            yield f"  revision  {stable.revision} stays: no pod is restarted"
        else:
            yield f"  revision  {stable.revision} stays"
            yield "  upgrade   its pods are replaced in a rolling update: the installation differs"
        if children is not None:
            yield from _objects(wanted, model, settings, now, children)
        return
    rejection = rejection_of(revision, carried_over_rejections(wanted.status.rejected, revision, observed))
    if rejection is not None:
        yield f"  revision  rejected before, and not tried again: {rejection.message}"
        return
    yield f"  revision  a new one, beside {stable.revision} with version {stable.version}"
    yield f"  strategy  {wanted.spec.rollout.strategy}"
    for number, step in enumerate(steps_of(wanted.spec.rollout), 1):
        yield f"    {number}. {told_step(step)}"
    yield from _objects(wanted, model, settings, now, children)


def _plan(
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
    return planning.plan(
        Resource(resource.owner, resource.generation, resource.spec, resolved, deleting=False),
        resource.spec,
        observed,
        settings,
        now,
    )


def _objects(
    resource: Resource,
    model: ModelStatus,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None,
) -> Iterator[str]:
    """The objects that the plan itself would apply, and what that changes where the live ones are known."""
    planned, observed = _plan(resource, model, settings, now, children), observe(children or ())
    for found in planned.apply:
        name = str(found["metadata"]["name"])
        if model.digest == UNKNOWN and planned.roles.wanted is not None:
            name = name.replace(planned.roles.wanted.name, "REVISION")
        there = observed.find(ObjectKind(found["kind"]), str(found["metadata"]["name"]))
        yield f"  {_verb(children, there, found)} {found['kind']} {name}{_fields(there, found)}"
    for child in planned.delete:
        yield f"  delete    {child['kind']} {child['metadata']['name']}"


def _verb(children: Sequence[Manifest] | None, live: Manifest | None, wanted: Manifest) -> str:
    if children is None:
        return "apply    "
    if live is None:
        return "create   "
    return "unchanged" if contains(live, wanted) else "change   "


def _fields(live: Manifest | None, wanted: Manifest) -> str:
    found = list(differences(live, wanted)) if live is not None and not contains(live, wanted) else []
    return f": {', '.join(found)}" if found else ""


def _same_pods(before: Resource, wanted: Resource) -> bool:
    if isinstance(before.spec, Fault) or isinstance(wanted.spec, Fault):
        return False
    parts = [(spec.runtime, spec.model.credentials) for spec in (before.spec, wanted.spec)]
    return parts[0] == parts[1]


def _merged(manifest: dict[str, Any], live: Manifest | None) -> Manifest:
    meta = {"namespace": "default", "uid": "", **(live or {}).get("metadata", {}), **manifest["metadata"]}
    if live is None:
        return {**manifest, "metadata": meta}
    return {**manifest, "metadata": meta, "status": live.get("status", {})}


def _manifests(path: Path) -> list[dict[str, Any]]:
    try:
        found = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    ours = [
        document
        for document in found
        if isinstance(document, dict)
        and (document.get("apiVersion"), document.get("kind")) == (API_VERSION, KIND)
    ]
    if not ours:
        raise CommandError(f"{path} holds no {KIND} of {API_VERSION}")
    for document in ours:
        metadata = document.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise CommandError(
                f"{path}: metadata of a {KIND} must be an object with a name, not {metadata!r}"
            )
        if not isinstance(metadata.get("name"), str) or not metadata["name"]:
            raise CommandError(f"{path}: a {KIND} without metadata.name")
    return ours
