"""``kubectl slipway plan -f``: whether a change is valid, and what it would do. Nothing is written."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slipway.cli.base import Pair, differing
from slipway.cli.comment import Proposed, comment
from slipway.cli.errors import CommandError, ForbiddenError, InvalidError
from slipway.cli.installed_pods import with_pods
from slipway.cli.manifests import Given, check_namespace, read_all
from slipway.cli.output import write
from slipway.cli.planned import lines
from slipway.cli.proposals import Known, proposed
from slipway.cli.terminal import is_colored, lay_out, width
from slipway.core import naming
from slipway.core.objects.deployment import settings_of
from slipway.core.observed import Manifest, ObjectKind, observe
from slipway.core.resource import read
from slipway.core.revision import Settings
from slipway.names import KIND

if TYPE_CHECKING:
    from slipway.cli.cluster import Cluster

#: Of the chart, where nothing else is known.
SERVER_IMAGE = "slipway.dev/server"
#: Stands for the installation's image for CUDA likewise.
CUDA_IMAGE = "slipway.dev/server-cuda"
#: Exit code where something would change, if that was asked for.
CHANGES = 3


def run(arguments: Namespace) -> int:
    """Print the plan of each ModelDeployment; 1 if one of them is not valid."""
    if arguments.output == "github":
        from slipway.cli import github

        # Names of files and what is in them are a stranger's. After an error nothing is printed but why.
        end = github.stop_commands()
    found = [_of(pair, arguments) for pair in _pairs(arguments)]
    plans = [one.planned for one in found]
    if arguments.output == "name":
        if plans:
            write("name", {"items": [{"metadata": {"name": one.name}} for one in plans]})
    elif arguments.output in ("json", "yaml"):
        items = [one.as_object() for one in plans]
        write(arguments.output, {"apiVersion": "v1", "kind": "List", "items": items})
    elif arguments.output == "markdown":
        print(comment(found, _compared(arguments)), end="")
    else:
        drawn = [line for one in plans for line in lines(one)]
        if drawn:
            print(lay_out(drawn, width(), color=is_colored(arguments.color)))
        elif arguments.base is not None:
            print(f"no {KIND} differs from {arguments.base}", file=sys.stderr)
    if arguments.output == "github":
        text = comment(found, _compared(arguments), github.marker())
        github.append_summary(text.partition("\n")[2])
        github.publish(text, is_worth_one=bool(found))
        print(end, flush=True)
    if any(one.complaints for one in plans):
        return 1
    return CHANGES if arguments.detailed_exitcode and any(one.is_change for one in plans) else 0


def _compared(arguments: Namespace) -> str:
    """With what, in words."""
    of_base = f", and what {arguments.base} has" if arguments.base is not None else ""
    if arguments.offline:
        return f"compared with what {arguments.base} has" if of_base else "compared with nothing"
    return f"compared with what is in the cluster{of_base}"


def _pairs(arguments: Namespace) -> list[Pair]:
    """What was given, each once; with a base, what differs from it."""
    if arguments.base is None:
        return [Pair(given.source, None, given.manifest) for given in _placed(arguments)]
    found = differing(arguments.base, arguments.filename, recursive=arguments.recursive)
    for pair in found:
        check_namespace(pair.source, pair.after or pair.before or {}, arguments.namespace)
    return found


def _placed(arguments: Namespace) -> list[Given]:
    """What was given, each once, and in no other namespace than the one that was asked for."""
    found, seen = read_all(arguments.filename, recursive=arguments.recursive), set()
    for given in found:
        meta = given.manifest["metadata"]
        check_namespace(given.source, given.manifest, arguments.namespace)
        place = (meta.get("namespace") or arguments.namespace, meta["name"])
        if place in seen:
            raise CommandError(f"{given.source}: {meta['name']} is there twice")
        seen.add(place)
    return found


def _of(pair: Pair, arguments: Namespace) -> Proposed:
    now = datetime.now(UTC)
    if arguments.offline:
        from slipway.cli.schema import complaints

        pair = _placed_in(pair, arguments.namespace or "default")
        wrong = complaints(pair.after) if pair.after is not None else []
        settings = _named(arguments.server_image or SERVER_IMAGE)
        checked = "the CRD of this version, offline"
        return proposed(pair, Known(settings, now, wrong=tuple(wrong), checked=checked), arguments)
    there = _cluster(arguments)
    pair = _placed_in(pair, there.namespace)
    meta = (pair.after or pair.before or {})["metadata"]
    there = there.within(meta["namespace"])
    live, children = there.find(meta["name"]), None
    wrong, checked = _checked(there, pair.after, live) if pair.after is not None else ([], "")
    if not wrong and pair.after is not None:
        try:
            children = there.children(live) if live is not None else []
        except ForbiddenError as error:
            print(f"what would change is not compared: {error}", file=sys.stderr)
    settings = _named(arguments.server_image) if arguments.server_image else installed(live, children)
    return proposed(pair, Known(settings, now, live, children, tuple(wrong), checked), arguments)


def _placed_in(pair: Pair, namespace: str) -> Pair:
    """With that namespace where a file names none."""
    before, after = (
        one and {**one, "metadata": {"namespace": namespace, **one["metadata"]}}
        for one in (pair.before, pair.after)
    )
    return replace(pair, before=before, after=after)


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


def installed(live: Manifest | None, children: Sequence[Manifest] | None) -> Settings:
    """What the installation decides, as far as the stable revision tells."""
    resource = read(live) if live is not None else None
    stable = resource.status.stable if resource is not None else None
    if resource is None or stable is None or children is None:
        return _named(SERVER_IMAGE)
    observed = observe(children)
    found = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(resource.owner.name, stable.revision))
    settings = settings_of(found) if found is not None else None
    if found is None or settings is None:
        return _named(SERVER_IMAGE)
    known = replace(settings, cuda_image=settings.cuda_image or CUDA_IMAGE)
    return with_pods(known, found, resource)


def _named(server_image: str) -> Settings:
    """An installation of which only an image is known."""
    return Settings(server_image, cuda_image=CUDA_IMAGE)
