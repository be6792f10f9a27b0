"""What the URI of a model in a file means: by its store, or by what serves in the cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slipway.cli.errors import CommandError
from slipway.cli.manifests import check_namespace
from slipway.cli.parts import Part
from slipway.names import DISTRIBUTION

if TYPE_CHECKING:
    from slipway.api.status import ModelStatus
    from slipway.api.types import ModelDeploymentSpec
    from slipway.cli.cluster import Cluster

#: From a ModelDeployment to the URI that names its bytes for good, and their digest; raises CommandError.
Answers = Callable[[Part], tuple[str, str]]


def by_stores() -> Answers:
    """Ask the stores themselves, by the code of the resolver; each model once."""
    known: dict[tuple[str, str], tuple[str, str]] = {}

    def answer(part: Part) -> tuple[str, str]:
        spec = _spec(part)
        asked = spec.model.uri, spec.runtime.server
        if asked not in known:
            found = _looked_up(part, spec)
            known[asked] = _for_a_spec(found.resolvedURI), found.digest
        return known[asked]

    return answer


def _spec(part: Part) -> ModelDeploymentSpec:
    from slipway.cli.planned import merged
    from slipway.core.observed import Fault
    from slipway.core.resource import read

    spec = read(merged(part.value, None)).spec
    if isinstance(spec, Fault):
        raise CommandError(f"{part.place}: {spec.message}")
    return spec


def _looked_up(part: Part, spec: ModelDeploymentSpec) -> ModelStatus:
    uri = spec.model.uri
    if uri.startswith("pvc://"):
        raise CommandError(f"{part.place}: {uri} is on a volume of the cluster: give --from-cluster")
    try:
        from slipway.local.errors import LocalError
        from slipway.local.looked_up import look_up

        return look_up(spec, uri).model
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed: pip install '{DISTRIBUTION}[serve]', or take what serves in the "
            "cluster by --from-cluster"
        ) from error
    except LocalError as error:
        raise CommandError(f"{part.place}: {error}") from error


def by_cluster(arguments: Namespace) -> Answers:
    """Take what serves in the cluster, whose bytes were verified there."""
    there: list[Cluster] = []

    def answer(part: Part) -> tuple[str, str]:
        from slipway.cli.cluster import Cluster

        check_namespace(part.file, part.value, arguments.namespace)
        if not there:
            there.append(Cluster(arguments))
        return _serving(part, there[0])

    return answer


def _serving(part: Part, there: Cluster) -> tuple[str, str]:
    from slipway.cli.sides import serving
    from slipway.core.resource import read

    meta, uri = part.value["metadata"], part.value["spec"]["model"]["uri"]
    namespace, name = meta.get("namespace") or there.namespace, meta["name"]
    live: dict[str, Any] = there.within(namespace).get(name)
    other = ((live.get("spec") or {}).get("model") or {}).get("uri")
    if other != uri:
        raise CommandError(
            f"{part.place}: the cluster has another spec.model.uri, {other}: apply the file first, or pin "
            "without --from-cluster"
        )
    resource = read(live)
    status = resource.status
    if resource.status_fault is not None:
        raise CommandError(f"{namespace}/{name}: {resource.status_fault.message}")
    model = serving(status)
    found = status.stable.resolvedURI if status.stable is not None else None
    found = found or (model.resolvedURI if model is not None else "")
    is_seen = {status.observedGeneration, status.settledGeneration} == {resource.generation}
    if model is None or not found or not is_seen:
        raise CommandError(
            f"{part.place}: what its spec asks for does not serve in the cluster yet: kubectl slipway status "
            f"{name} -n {namespace} --wait waits until it does"
        )
    if status.canary is not None:
        print(
            f"warning: {namespace}/{name}: version {status.canary.version} is on its way; pinned is version "
            f"{model.version}, which serves, and applying that ends the rollout",
            file=sys.stderr,
        )
    return _for_a_spec(found), model.digest


def _for_a_spec(uri: str) -> str:
    """A pinned URI as a spec may have it: what is attached to a manifest in a registry is found again."""
    return uri.partition("?")[0] if uri.startswith("oci://") else uri
