"""Both sides of a change: what serves or what a base has, and what the files would make of it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slipway.api.audits import AuditResult
from slipway.api.types import ModelDeploymentSpec
from slipway.cli.assumed import assumed
from slipway.cli.base import Pair
from slipway.cli.comment import Proposed
from slipway.cli.errors import CommandError
from slipway.cli.planned import Planned, merged, planned
from slipway.cli.sides import Side, serving
from slipway.core.observed import Fault, Manifest
from slipway.core.resource import Resource, read
from slipway.core.revision import Settings
from slipway.names import DISTRIBUTION

_REMOVED = "no file has it any more; whoever applies what files say may delete it, and clients get no answers"
_NOT_THERE = "it is not in the cluster, and no file has it any more"


@dataclass(frozen=True)
class Known:
    """What a plan is made from.

    Attributes:
        settings: of the installation.
        now: the time, with a time zone.
        live: the ModelDeployment as it is, or None.
        children: of the live one; None where they are not known.
        wrong: why the new one would be refused.
        checked: who says so.
    """

    settings: Settings
    now: datetime
    live: Manifest | None = None
    children: Sequence[Manifest] | None = None
    wrong: tuple[str, ...] = ()
    checked: str = ""


def proposed(pair: Pair, known: Known, arguments: Namespace) -> Proposed:
    """What a change would do.

    Args:
        pair: the ModelDeployment at the base and in the files; both with a namespace.
        known: what was found of it.
        arguments: of the command.
    """
    manifest = pair.after or pair.before
    assert manifest is not None, "a pair has one of them"
    meta = manifest["metadata"]
    found = Planned(meta["namespace"], meta["name"], checked_by=known.checked)
    if pair.after is None:
        is_there = arguments.offline or known.live is not None
        return Proposed(pair.source, replace(found, removed=_REMOVED if is_there else _NOT_THERE))
    if known.wrong:
        return Proposed(pair.source, replace(found, complaints=known.wrong))
    then = _looked_up(pair.after, arguments)
    now: Side | None = None
    live, children = known.live, known.children
    if arguments.offline and pair.before is not None:
        before = then if _same_model(pair) else _looked_up(pair.before, arguments)
        now = replace(before, spec=_spec(pair.before))
        standing = assumed(pair.before, known.settings, known.now, now.model)
        live, children = standing or (None, None)
    elif live is not None:
        now = _serving(read(live), arguments)
    plan = planned(pair.after, live, known.settings, known.now, children, then.model)
    if then.model is None and live is not None and _is_resolved(live, pair.after):
        then = replace(then, model=read(live).status.model)
    audits: tuple[AuditResult, ...] = ()
    if live is not None and then.model is not None:
        version = then.model.version
        audits = tuple(one for one in read(live).status.audits or () if one.version == version)
    return Proposed(pair.source, replace(plan, checked_by=known.checked), now, then, audits)


def _same_model(pair: Pair) -> bool:
    before, after = ((one or {}).get("spec", {}) for one in (pair.before, pair.after))
    return bool(before.get("model") == after.get("model")) and (
        before.get("runtime", {}).get("server") == after.get("runtime", {}).get("server")
    )


def _is_resolved(live: Manifest, manifest: dict[str, Any]) -> bool:
    from slipway.core.resolution import is_asked

    wanted = read(merged(manifest, live))
    return not isinstance(wanted.spec, Fault) and not is_asked(wanted.spec, wanted.status)


def _spec(manifest: dict[str, Any]) -> ModelDeploymentSpec | None:
    spec = read(merged(manifest, None)).spec
    return None if isinstance(spec, Fault) else spec


def _serving(resource: Resource, arguments: Namespace) -> Side:
    """What the cluster serves now."""
    spec = None if isinstance(resource.spec, Fault) else resource.spec
    model = serving(resource.status)
    if model is None:
        return Side(spec, note="nothing serves yet")
    side = Side(spec, model)
    if not arguments.resolve or spec is None:
        return side
    return replace(side, profile=_asked(spec, model.resolvedURI).profile)


def _looked_up(manifest: dict[str, Any], arguments: Namespace) -> Side:
    spec = _spec(manifest)
    if spec is None or not arguments.resolve:
        return Side(spec, note="not looked up")
    return _asked(spec)


def _asked(spec: ModelDeploymentSpec, uri: str | None = None) -> Side:
    """What a store says; where it says nothing, why not."""
    if spec.model.uri.startswith("pvc://"):
        return Side(spec, note="on a volume of the cluster")
    try:
        from slipway.local.errors import LocalError
        from slipway.local.looked_up import look_up
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[serve]'") from error
    try:
        found = look_up(spec, uri)
    except LocalError as error:
        print(f"{uri or spec.model.uri} is not looked up: {error}", file=sys.stderr)
        return Side(spec, note=f"cannot be looked up: {error}")
    return Side(spec, found.model, found.profile)
