"""How pods learn who may ask: what the server is told, and the volumes with keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway import contract
from slipway.api.access import ACTIONS, Access, KeyRef, Limits, Source
from slipway.core import naming
from slipway.core.objects.cluster_keys import DATA_KEY
from slipway.core.objects.issuer_keys import source_of
from slipway.core.observed import Manifest

#: The volumes with the hashes of API keys, the public keys of issuers, and the server's own certificate.
_CALLERS, _ISSUERS, _TLS = "access-keys", "access-issuers", "access-tls"


def contract_of(access: Access, namespace: str, service: str = "") -> contract.Access:
    """As the server reads it: every rule, and that of a spec without rules.

    Args:
        access: of the spec.
        namespace: of the ModelDeployment.
        service: the revision's headless Service, by which its pods know how many they are.
    """
    rules = [contract.AccessRule(callers=rule.callers, actions=rule.actions) for rule in access.allow]
    limits = access.limits and contract.AccessLimits(
        perCaller=_limits(access.limits.perCaller), anonymous=_limits(access.limits.anonymous)
    )
    return contract.Access(
        allow=tuple(rules or (contract.AccessRule(callers=("*",), actions=ACTIONS),)),
        limits=limits,
        peers=service if limits else "",
        apiKeys=access.apiKeys is not None,
        issuers=tuple(
            contract.Issuer(
                name=each.name,
                issuer=each.issuer,
                audiences=each.audiences,
                callerClaim=each.callerClaim or "sub",
                requiredClaims=tuple(
                    contract.RequiredClaim(name=claim.name, values=claim.values)
                    for claim in each.requiredClaims
                ),
            )
            for each in access.issuers
        ),
        tls=access.tls is not None,
        clientCertificates=access.tls is not None and access.tls.clientCA is not None,
        serviceAccountAudience="" if access.serviceAccounts is None else naming.token_audience(namespace),
    )


def _limits(limits: Limits | None) -> contract.CallerLimits | None:
    return None if limits is None else contract.CallerLimits(**limits.model_dump(exclude_none=True))


def volumes_of(access: Access | None, model_deployment: str) -> list[dict[str, Any]]:
    """The hashes of API keys, and the public keys of issuers and of the cluster.

    A kubelet empties the files of a deleted Secret or ConfigMap only where it is optional.
    """
    volumes: list[dict[str, Any]] = []
    if access is not None and access.apiKeys is not None:
        secret = {"secretName": access.apiKeys.secretRef.name, "optional": True}
        volumes.append({"name": _CALLERS, "secret": secret})
    sources = (
        []
        if access is None
        else [_projected(source_of(each, model_deployment), f"{each.name}.json") for each in access.issuers]
    )
    if access is not None and access.serviceAccounts is not None:
        ref = KeyRef(name=naming.cluster_keys(model_deployment), key=DATA_KEY)
        sources.append(_projected(Source(configMapKeyRef=ref), f"{contract.CLUSTER_ISSUER}.json"))
    if access is not None and access.tls is not None:
        # Not optional: nothing can be served without it, and what once was there serves on.
        volumes.append({"name": _TLS, "secret": {"secretName": access.tls.secretRef.name}})
        if access.tls.clientCA is not None:
            sources.append(_projected(access.tls.clientCA, contract.CLIENT_CA_FILE))
    if sources:
        volumes.append({"name": _ISSUERS, "projected": {"sources": sources}})
    return volumes


def _projected(source: Source, path: str) -> dict[str, Any]:
    kind, ref = (
        ("configMap", source.configMapKeyRef) if source.configMapKeyRef else ("secret", source.secretKeyRef)
    )
    assert ref is not None
    return {kind: {"name": ref.name, "items": [{"key": ref.key, "path": path}], "optional": True}}


def mounted(volumes: Iterable[Manifest] | None) -> dict[str, Any]:
    """What tells volumes of :func:`volumes_of` apart, whatever the API server adds to them."""
    return {
        found["name"]: (
            (found.get("secret") or {}).get("secretName"),
            (found.get("projected") or {}).get("sources"),
        )
        for found in volumes or ()
        if found["name"] in (_CALLERS, _ISSUERS, _TLS)
    }


def mounts_of(access: Access | None, model_deployment: str) -> list[dict[str, Any]]:
    paths = {
        _CALLERS: contract.ACCESS_KEYS_DIR,
        _ISSUERS: contract.ACCESS_ISSUERS_DIR,
        _TLS: contract.TLS_DIR,
    }
    names = [each["name"] for each in volumes_of(access, model_deployment)]
    return [{"name": name, "mountPath": paths[name], "readOnly": True} for name in names]
