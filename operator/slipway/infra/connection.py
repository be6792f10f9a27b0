"""How the operator reaches the API server."""

from __future__ import annotations

import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration


async def connect() -> None:
    """Make what KUBECONFIG says, or else the pod's ServiceAccount, the default of all clients."""
    if os.environ.get("KUBECONFIG"):
        await kube_config.load_kube_config()  # type: ignore[no-untyped-call]
    else:
        kube_config.load_incluster_config()  # type: ignore[no-untyped-call]
    Configuration.set_default(with_one_look_at_the_environment(Configuration.get_default_copy()))


def with_one_look_at_the_environment(configuration: Configuration) -> Configuration:
    """The same configuration, with the proxy that the environment has for the API server.

    aiohttp looks for a proxy, and in ``.netrc``, by two threads for each request: an eighth of the operator's
    CPU. Nothing of that changes while it runs, and it has its own credentials.
    """
    server = urlsplit(configuration.host)
    if not configuration.proxy and not proxy_bypass(server.netloc):
        configuration.proxy = getproxies().get(server.scheme)
    configuration.client_session_kwargs = {**(configuration.client_session_kwargs or {}), "trust_env": False}
    return configuration


def client_of(configuration: Configuration | None = None) -> ApiClient:
    """A client, by the default of all where none is given."""
    return ApiClient(configuration)


def without_limit() -> Configuration:
    """The default, without a limit of connections: each watch has one of its own for as long as it lasts."""
    configuration = Configuration.get_default_copy()
    configuration.connection_pool_maxsize = 0
    return configuration
