"""What a cluster has to complete a word with. A shell waits, so whatever goes wrong there is no candidate."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from slipway.cli.errors import CommandError

#: Seconds that somebody who pressed the tab key waits.
_PATIENCE = 2.0


def model_deployments(parsed_args: Namespace, **_: Any) -> list[str]:
    """Names of the ModelDeployments of the namespace."""
    from slipway.cli.cluster import Cluster

    return _found(parsed_args, lambda asking: [one["metadata"]["name"] for one in Cluster(asking).select()])


def namespaces(parsed_args: Namespace, **_: Any) -> list[str]:
    """Names of the namespaces."""
    from slipway.cli.cluster import Cluster

    return _found(parsed_args, lambda asking: Cluster(asking).namespaces())


def contexts(parsed_args: Namespace, **_: Any) -> list[str]:
    """Names of the contexts of the kubeconfig."""
    from slipway.cli.connection import contexts_of

    return _found(parsed_args, lambda asking: contexts_of(asking.kubeconfig))


def _found(parsed_args: Namespace, ask: Callable[[Namespace], list[str]]) -> list[str]:
    asking = Namespace(
        **{"namespace": None, "context": None, "kubeconfig": None, "as_user": None, "as_group": []}
        | dict.fromkeys(("server", "token", "certificate_authority"))
        | vars(parsed_args)
        | {"request_timeout": _PATIENCE}
    )
    try:
        return ask(asking)
    except CommandError:
        return []
