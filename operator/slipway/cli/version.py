"""``kubectl slipway version``: of this command, and of what the cluster has."""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from slipway.cli.errors import CommandError, NotInstalledError
from slipway.cli.output import write
from slipway.names import API_VERSION, DISTRIBUTION

#: Fields named of those that a CRD lacks.
_SHOWN = 5


def run(arguments: Namespace) -> int:
    """Print what is known; 1 where the cluster was to be asked and does not answer."""
    found: dict[str, Any] = {"client": {"version": client_version()}}
    trouble = None
    if not arguments.client:
        try:
            found |= _of_the_cluster(arguments)
        except CommandError as error:
            trouble = error
    if arguments.output is not None:
        write(arguments.output, found)
    else:
        print("\n".join(_lines(found)))
    if trouble is not None:
        print(f"error: {trouble}", file=sys.stderr)
    return 0 if trouble is None else 1


def client_version() -> str:
    """The version of the installed distribution."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown: it runs from a folder that was not installed"


def _of_the_cluster(arguments: Namespace) -> dict[str, Any]:
    from slipway.api.crd import crd
    from slipway.cli.cluster import Cluster
    from slipway.core.crd_schema import missing, schema_of

    there = Cluster(arguments)
    found: dict[str, Any] = {}
    try:
        schema = schema_of(there.openapi())
    except NotInstalledError:
        schema = None
    if schema is None:
        found["crd"] = {"installed": False}
    else:
        ours = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found["crd"] = {
            "installed": True,
            "apiVersion": API_VERSION,
            "lacks": list(missing(ours, schema)),
            "unknown": list(missing(schema, ours)),
        }
    try:
        found["operators"] = [_operator(one) for one in there.operators()]
    except CommandError as error:
        found["operatorsUnknown"] = str(error)
    return found


def _operator(deployment: dict[str, Any]) -> dict[str, Any]:
    meta, status = deployment["metadata"], deployment.get("status") or {}
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "version": (meta.get("labels") or {}).get("app.kubernetes.io/version", "unknown"),
        "image": containers[0]["image"],
        "readyReplicas": status.get("readyReplicas", 0),
        "replicas": deployment["spec"].get("replicas", 1),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"client    {found['client']['version']}"]
    crd = found.get("crd")
    if crd is not None:
        lines.append(f"CRD       {_crd(crd) if crd['installed'] else 'not installed'}")
    for one in found.get("operators", ()):
        pods = f"{one['readyReplicas']}/{one['replicas']} pods ready"
        lines.append(f"operator  {one['version']}, {one['namespace']}/{one['name']}, {one['image']}, {pods}")
    if found.get("operators") == []:
        lines.append("operator  not installed")
    if "operatorsUnknown" in found:
        lines.append(f"operator  unknown: {found['operatorsUnknown']}")
    return lines


def _crd(crd: dict[str, Any]) -> str:
    parts = [crd["apiVersion"]]
    if crd["lacks"]:
        parts.append(f"older than this client: it lacks {_some(crd['lacks'])}")
    if crd["unknown"]:
        parts.append(f"newer than this client, which does not know {_some(crd['unknown'])}")
    return "; ".join(parts)


def _some(fields: list[str]) -> str:
    more = len(fields) - _SHOWN
    return ", ".join(fields[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
