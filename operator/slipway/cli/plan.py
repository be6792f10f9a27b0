"""``kubectl slipway plan -f``: whether a change is valid, and what it would do. Nothing is written."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slipway.cli.errors import CommandError, ForbiddenError, InvalidError
from slipway.cli.installed_pods import with_pods
from slipway.cli.manifests import Given, read_all
from slipway.cli.output import write
from slipway.cli.planned import Planned, lines, planned
from slipway.cli.terminal import is_colored, lay_out, width
from slipway.core import naming
from slipway.core.objects.deployment import settings_of
from slipway.core.observed import Manifest, ObjectKind, observe
from slipway.core.resource import read
from slipway.core.revision import Settings

if TYPE_CHECKING:
    from slipway.cli.cluster import Cluster

#: Of the chart, where nothing else is known.
SERVER_IMAGE = "slipway.dev/server"
#: Exit code where something would change, if that was asked for.
CHANGES = 3


def run(arguments: Namespace) -> int:
    """Print the plan of each ModelDeployment; 1 if one of them is not valid."""
    found = [_of(given, arguments) for given in _placed(arguments)]
    if arguments.output == "name":
        write("name", {"items": [{"metadata": {"name": one.name}} for one in found]})
    elif arguments.output is not None:
        items = [one.as_object() for one in found]
        write(arguments.output, {"apiVersion": "v1", "kind": "List", "items": items})
    else:
        drawn = [line for one in found for line in lines(one)]
        print(lay_out(drawn, width(), color=is_colored(arguments.color)))
    if any(one.complaints for one in found):
        return 1
    return CHANGES if arguments.detailed_exitcode and any(one.is_change for one in found) else 0


def _placed(arguments: Namespace) -> list[Given]:
    """What was given, each once, and in no other namespace than the one that was asked for."""
    found, seen = read_all(arguments.filename, recursive=arguments.recursive), set()
    for given in found:
        meta = given.manifest["metadata"]
        own = meta.get("namespace")
        if own is not None and arguments.namespace not in (None, own):
            raise CommandError(
                f"{given.source}: {meta['name']} is of namespace {own}, "
                f"and --namespace is {arguments.namespace}"
            )
        place = (own or arguments.namespace, meta["name"])
        if place in seen:
            raise CommandError(f"{given.source}: {meta['name']} is there twice")
        seen.add(place)
    return found


def _of(given: Given, arguments: Namespace) -> Planned:
    now = datetime.now(UTC)
    manifest = {**given.manifest, "metadata": dict(given.manifest["metadata"])}
    if arguments.offline:
        from slipway.cli.schema import complaints

        manifest["metadata"].setdefault("namespace", arguments.namespace or "default")
        wrong = complaints(manifest)
        settings = Settings(arguments.server_image or SERVER_IMAGE)
        return _described(manifest, None, settings, now, None, wrong, "the CRD of this version, offline")
    there = _cluster(arguments)
    there = there.within(manifest["metadata"].setdefault("namespace", there.namespace))
    live, children = there.find(manifest["metadata"]["name"]), None
    wrong, checked = _checked(there, manifest, live)
    if not wrong:
        try:
            children = there.children(live) if live is not None else []
        except ForbiddenError as error:
            print(f"what would change is not compared: {error}", file=sys.stderr)
    settings = Settings(arguments.server_image) if arguments.server_image else installed(live, children)
    return _described(manifest, live, settings, now, children, wrong, checked)


def _cluster(arguments: Namespace) -> Cluster:
    from slipway.cli.cluster import Cluster

    return Cluster(arguments)


def _checked(there: Cluster, manifest: dict[str, Any], live: Manifest | None) -> tuple[list[str], str]:
    """What is wrong with a manifest, and who says so: the API server if it may be asked."""
    try:
        there.check(manifest, dict(live) if live is not None else None)
    except InvalidError as error:
        return list(error.complaints), "the API server"
    except ForbiddenError as error:
        from slipway.cli.schema import complaints

        print(f"checked by the CRD of this version, and not by the API server: {error}", file=sys.stderr)
        return complaints(manifest), "the CRD of this version"
    return [], "the API server"


def _described(
    manifest: dict[str, Any],
    live: Manifest | None,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None,
    wrong: list[str],
    checked: str,
) -> Planned:
    if wrong:
        meta = manifest["metadata"]
        return Planned(meta["namespace"], meta["name"], complaints=tuple(wrong), checked_by=checked)
    return replace(planned(manifest, live, settings, now, children), checked_by=checked)


def installed(live: Manifest | None, children: Sequence[Manifest] | None) -> Settings:
    """What the installation decides, as far as the stable revision tells."""
    resource = read(live) if live is not None else None
    stable = resource.status.stable if resource is not None else None
    if resource is None or stable is None or children is None:
        return Settings(SERVER_IMAGE)
    observed = observe(children)
    found = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(resource.owner.name, stable.revision))
    settings = settings_of(found) if found is not None else None
    if found is None or settings is None:
        return Settings(SERVER_IMAGE)
    return with_pods(settings, found, resource)
