"""What the commands ask of a cluster, as kubectl would: the same kubeconfig, context and namespace."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from slipway.api.types import GROUP, PLURAL, VERSION
from slipway.cli.errors import CommandError
from slipway.core.observed import Manifest

#: Seconds until the API server counts as silent.
TIMEOUT = 15


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments that every command for one ModelDeployment has, named as kubectl names them."""
    parser.add_argument("name", help="the ModelDeployment")
    add_connection(parser)


def add_connection(parser: ArgumentParser) -> None:
    """Arguments that say which cluster, named as kubectl names them."""
    parser.add_argument("-n", "--namespace", help="its namespace; the context's own unless given")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--kubeconfig", help="path of the kubeconfig; KUBECONFIG unless given")


class MissingError(CommandError):
    """There is no such ModelDeployment."""


class Cluster:
    """ModelDeployments of one namespace."""

    def __init__(self, arguments: Namespace) -> None:
        """
        Raises:
            CommandError: where there is no kubeconfig that can be used.
        """
        try:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                arguments.kubeconfig, arguments.context
            )
            _, active = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
                arguments.kubeconfig
            )
        except (ConfigException, OSError) as error:
            raise CommandError(f"no cluster to ask: {error}") from error
        self.namespace: str = (
            arguments.namespace or (active or {}).get("context", {}).get("namespace") or "default"
        )
        self._api = client.CustomObjectsApi()

    def get(self, name: str) -> Manifest:
        """One ModelDeployment.

        Raises:
            CommandError: where it cannot be had.
        """
        return self._call(self._api.get_namespaced_custom_object, name)

    def find(self, name: str) -> Manifest | None:
        """One ModelDeployment, or None where there is none of that name.

        Raises:
            CommandError: where that cannot be told.
        """
        try:
            return self.get(name)
        except MissingError:
            return None

    def annotate(self, resource: Manifest, annotation: str, value: str | None) -> None:
        """Set an annotation, or take it away, unless the resource has changed since it was read.

        Raises:
            CommandError: where it has, or the API server refuses.
        """
        meta = resource["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"], "annotations": {annotation: value}},
        }
        self._call(self._api.patch_namespaced_custom_object, meta["name"], patch)

    def _call(self, method: Any, name: str, *more: Any) -> Manifest:
        try:
            found: Manifest = method(
                GROUP, VERSION, self.namespace, PLURAL, name, *more, _request_timeout=TIMEOUT
            )
        except ApiException as error:
            where = f"ModelDeployment {self.namespace}/{name}"
            if error.status == 404:
                raise MissingError(f"there is no {where}") from error
            if error.status == 409:
                raise CommandError(f"{where} has just changed; look at it again, then repeat") from error
            raise CommandError(f"{where}: the API server answered {error.status} {error.reason}") from error
        except Exception as error:  # urllib3's own, of many kinds
            raise CommandError(f"the API server does not answer: {error}") from error
        return found
