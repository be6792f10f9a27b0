"""``kubectl slipway set-model``: another ``spec.model.uri``."""

from __future__ import annotations

from argparse import Namespace

from slipway.cli.changes import proposing, warn_of_writers
from slipway.cli.cluster import Cluster
from slipway.cli.output import write


def run(arguments: Namespace) -> int:
    """Write the URI, and the digest or none."""
    there = Cluster(arguments)
    before = there.get(arguments.name)
    warn_of_writers(before)
    # A digest that is left would refuse every other model.
    model = {"uri": arguments.uri, "digest": arguments.digest}
    change = {"metadata": proposing(there, before), "spec": {"model": model}}
    after = there.patch(arguments.name, change, dry_run=arguments.dry_run)
    if arguments.output is not None:
        write(arguments.output, after)
        return 0
    old = ((before.get("spec") or {}).get("model") or {}).get("uri")
    would = "would be" if arguments.dry_run else "is"
    unchanged = after["metadata"].get("generation") == before["metadata"].get("generation")
    print(
        f"{arguments.name}: spec.model.uri is {arguments.uri} already"
        if unchanged
        else f"{arguments.name}: spec.model.uri {would} {arguments.uri}; it was {old}"
    )
    return 0
