"""A client of the API server, configured as kubectl is: by a kubeconfig, or by the pod that this runs in."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes import config
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject, RESTResponse
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME
from urllib3 import HTTPHeaderDict
from yaml import YAMLError

from slipway.cli.errors import CommandError

#: Where a pod's ServiceAccount says its namespace.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Connection:
    """A client and what it was configured by.

    Attributes:
        namespace: the usual one of the context or of the pod.
        is_inside: whether this process is a pod of the cluster, and known by its ServiceAccount.
    """

    settings: Configuration
    transport: RESTClientObject
    namespace: str
    is_inside: bool

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self.settings.host)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: object,
        timeout: float | None,
    ) -> RESTResponse:
        """Send a request as who the configuration says; the body of the answer is still to be read.

        Raises:
            HTTPError: where nothing answers, and OSError.
            ApiException: where the server's certificate is not trusted.
        """
        sent = {"User-Agent": "kubectl-slipway", **headers}
        # The client of the whole API would do this too, and imports pydantic and a parser of dates for it.
        if token := self.settings.get_api_key_with_prefix("BearerToken", alias="authorization"):
            sent["Authorization"] = token
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        answer: RESTResponse = self.transport.request(  # type: ignore[no-untyped-call]
            method, url, headers=sent, body=body, _request_timeout=timeout
        )
        return answer


def connect(arguments: Namespace) -> Connection:
    """A client for the arguments that all commands have.

    Raises:
        CommandError: where there is neither a kubeconfig that can be used nor a ServiceAccount.
    """
    settings, is_inside = Configuration(), _is_inside(arguments)
    with _reading():
        if is_inside:
            namespace = _pods_own(settings)
        elif arguments.server and not (arguments.kubeconfig or arguments.context or _has_kubeconfig()):
            namespace = "default"
        else:
            namespace = _kubeconfigs(settings, arguments)
    _override(settings, arguments)
    # A person is waiting: once more for a connection that broke, and then the reason.
    settings.retries = 1
    transport = RESTClientObject(settings)
    if arguments.as_group and not arguments.as_user:
        raise CommandError("--as-group needs --as: a group is impersonated together with a user")
    if arguments.as_user:
        _impersonate(transport, arguments.as_user, arguments.as_group)
    return Connection(settings, transport, namespace, is_inside)


def _is_inside(arguments: Namespace) -> bool:
    """A kubeconfig goes first, as with kubectl. No other server is shown the pod's own token."""
    if arguments.kubeconfig or arguments.context or arguments.server:
        return False
    return SERVICE_HOST_ENV_NAME in os.environ and not _has_kubeconfig()


def _has_kubeconfig() -> bool:
    paths = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    return any(Path(path).expanduser().exists() for path in paths if path)


def _override(settings: Configuration, arguments: Namespace) -> None:
    """What the arguments say goes before what was found."""
    if arguments.server:
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", arguments.server):
            raise CommandError(
                f"--server {arguments.server}: write an address such as https://cluster.example.com:6443"
            )
        settings.host = arguments.server.rstrip("/")
    if arguments.certificate_authority:
        if not Path(arguments.certificate_authority).is_file():
            raise CommandError(
                f"--certificate-authority {arguments.certificate_authority}: there is no such file"
            )
        settings.ssl_ca_cert = arguments.certificate_authority
    if arguments.token:
        settings.api_key = {"BearerToken": f"Bearer {arguments.token}"}
        settings.refresh_api_key_hook = None
        # A certificate would go before the token.
        settings.cert_file = settings.key_file = None


def _pods_own(settings: Configuration) -> str:
    config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
    return _OWN_NAMESPACE.read_text().strip()


def _kubeconfigs(settings: Configuration, arguments: Namespace) -> str:
    config.load_kube_config(  # type: ignore[no-untyped-call]
        arguments.kubeconfig, arguments.context, settings
    )
    contexts, active = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
        arguments.kubeconfig
    )
    if arguments.context:
        active = next(found for found in contexts if found["name"] == arguments.context)
    return str((active or {}).get("context", {}).get("namespace") or "default")


def contexts_of(kubeconfig: str | None) -> list[str]:
    """Names of the contexts of a kubeconfig.

    Raises:
        CommandError: where it cannot be used.
    """
    with _reading():
        contexts, _ = config.list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call]
        return [str(found["name"]) for found in contexts]


@contextmanager
def _reading() -> Iterator[None]:
    """A file that is no kubeconfig fails in as many ways as there are such files."""
    try:
        yield
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, YAMLError) as error:
        raise CommandError(f"no cluster to ask: the kubeconfig cannot be read: {error}") from error


def _impersonate(transport: Any, user: str, groups: list[str]) -> None:
    """Have every request say on whose behalf it is; a header for each group, which a dict cannot hold."""
    send = transport.request

    def request(method: str, url: str, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
        all_ = HTTPHeaderDict(headers or {})
        all_["Impersonate-User"] = user
        for group in groups:
            all_.add("Impersonate-Group", group)
        return send(method, url, headers=all_, **more)

    transport.request = request
