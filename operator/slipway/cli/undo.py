"""``kubectl slipway undo``: the spec of an earlier revision, as its ControllerRevision remembers it.

What a rollout judges is written back: the model, the runtime and the inputs. The rest of the spec stays.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from slipway.cli.changes import proposing, replacing, unless_changed, warn_of_writers
from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.errors import CommandError
from slipway.cli.output import write
from slipway.cli.waiting import Outcome, progress
from slipway.core.observed import ObjectKind, observe
from slipway.core.resource import Resource, read
from slipway.core.revision import Revision
from slipway.core.rollout.history import rejection_of, revision_from_history
from slipway.engine.kube import typed


def run(arguments: Namespace) -> int:
    """Write the spec of an earlier revision."""
    there = Cluster(arguments)
    live = there.get(arguments.name)
    resource = read(live)
    known = [typed(found, ObjectKind.CONTROLLER_REVISION) for found in there.revisions(arguments.name)]
    target = earlier(resource, live, known, arguments.to_revision)
    warn_of_writers(live)
    spec = replacing(live.get("spec") or {}, restored(live.get("spec") or {}, target))
    after = unless_changed(there, live, lambda last: _sent(there, last, spec, dry_run=arguments.dry_run))
    if arguments.output is not None:
        write(arguments.output, after)
        return 0
    would = "would go" if arguments.dry_run else "goes"
    print(f"{arguments.name} {would} back to revision {target.name}, version {target.model.version}")
    before = str(((live.get("spec") or {}).get("model") or {}).get("uri", ""))
    if before != target.model.resolvedURI:
        print(
            f"spec.model.uri: {target.model.resolvedURI}, pinned by its digest; it was {before}, which "
            f"`kubectl slipway set-model {arguments.name} {before}` sets again"
        )
    return 0


def earlier(resource: Resource, live: Manifest, known: list[Any], wished: str | None) -> Revision:
    """The revision to go back to.

    Raises:
        CommandError: where there is none, or none that would be let in.
    """
    name, status = resource.owner.name, resource.status
    if resource.status_fault is not None:
        raise CommandError(f"the status of {name} cannot be read: {resource.status_fault.message}")
    if wished is not None:
        names = [wished]
    elif progress(live).outcome is Outcome.DONE:
        names = list(status.previous)
    elif status.observedGeneration < resource.generation:
        raise CommandError(
            f"the operator has not seen the newest change of {name} yet; try again in a moment"
        )
    else:
        # What is asked for is not stable, and never may be.
        names = [status.stable.revision] if status.stable is not None else []
    if not names:
        raise CommandError(f"{name} has no earlier revision that was stable")
    observed = observe(known)
    refused = ""
    for wanted in names:
        found = revision_from_history(wanted, observed)
        if found is None:
            refused = refused or f"{name} has no revision {wanted} any more (spec.rollout.historyLimit)"
            continue
        rejection = rejection_of(found, status.rejected, at_work=(wanted,))
        if rejection is None:
            return found
        refused = f"revision {wanted} was rejected: {rejection.message}; kubectl slipway retry {name} first"
    raise CommandError(refused)


def restored(spec: dict[str, Any], revision: Revision) -> dict[str, Any]:
    """A spec with the model, runtime and inputs of a revision."""
    model = {**(spec.get("model") or {}), "uri": revision.model.resolvedURI, "digest": revision.model.digest}
    model.pop("credentials", None)
    if revision.credentials is not None:
        model["credentials"] = {"secretRef": {"name": revision.credentials}}
    if revision.service_account is not None:
        model["credentials"] = {"serviceAccountName": revision.service_account}
    found = {name: value for name, value in spec.items() if name != "inputs"} | {"model": model}
    found["runtime"] = revision.runtime.model_dump(mode="json", exclude_defaults=True)
    if revision.inputs is not None:
        found["inputs"] = revision.inputs.model_dump(mode="json", exclude_defaults=True)
    return found


def _sent(there: Cluster, last: Manifest, spec: dict[str, Any], *, dry_run: bool) -> Manifest:
    meta = last["metadata"]
    changed = {"resourceVersion": meta["resourceVersion"], **proposing(there, last)}
    change = {"metadata": changed, "spec": spec}
    return there.patch(meta["name"], change, dry_run=dry_run)
