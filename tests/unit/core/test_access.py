"""Who may ask reaches the pods of every revision, makes none, and is told as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from slipway import contract
from slipway.api.access import Access
from slipway.api.pods import NOTHING, PodOptions
from slipway.api.reasons import Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.allowed import access_fault
from slipway.core.objects.cluster_keys import as_text, cluster_keys
from slipway.core.objects.deployment import deployment
from slipway.core.objects.service import revision_service, stable_service
from slipway.core.observed import Manifest, observe
from slipway.core.revision import Settings, revision_of
from slipway.core.status.access import access_controlled
from slipway.core.upgrade import applied_mark, is_behind, is_of_one_installation
from slipway_server.settings import parse_serving
from tests.unit.core.tables import OWNER, SETTINGS, model

KEYS: dict[str, Any] = {"apiKeys": {"secretRef": {"name": "fraud-keys"}}}
RULES = {**KEYS, "allow": [{"callers": ["key:batch"], "actions": ["Infer"]}]}
LIMITS = {**KEYS, "limits": {"perCaller": {"requestsPerSecond": 5}, "anonymous": {"concurrent": 1}}}
OTHER_KEYS = {"apiKeys": {"secretRef": {"name": "others"}}}


def sso(**more: Any) -> dict[str, Any]:
    """Tokens of one issuer, and no keys."""
    jwks = {"configMapKeyRef": {"name": "sso", "key": "jwks.json"}}
    issuer = {"name": "sso", "issuer": "https://sso.example.com", "audiences": ["fraud"], "jwks": jwks}
    return {"issuers": [{**issuer, **more}]}


TOKENS = sso()
ACCOUNTS: dict[str, Any] = {"serviceAccounts": {}}
OTHER_TOKENS = sso(jwks={"secretKeyRef": {"name": "sso", "key": "jwks.json"}})


def spec_of(access: dict[str, Any] | None) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}, "access": access})


def made(access: dict[str, Any] | None, settings: Settings = SETTINGS, own: PodOptions = NOTHING) -> Manifest:
    spec = spec_of(access)
    return deployment(OWNER, revision_of(spec, model(1)), settings, own, spec.access)


def live(manifest: Manifest, updated: int = 2) -> Manifest:
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), naming.APPLIED_ANNOTATION: applied_mark(manifest)}
    status = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": updated, "readyReplicas": 2}
    return {
        **manifest,
        "metadata": {**meta, "annotations": annotations, "generation": 1},
        "status": status,
    }


def told(manifest: Manifest) -> contract.ServingConfig:
    (server,) = manifest["spec"]["template"]["spec"]["containers"]
    (config,) = [found for found in server["env"] if found["name"] == contract.SERVING_CONFIG_ENV]
    return contract.ServingConfig.model_validate_json(config["value"])


def test_pods_are_told_the_rules_and_get_the_hashes_and_none_of_it_without_access() -> None:
    manifest = made(RULES)
    pod = manifest["spec"]["template"]["spec"]
    assert told(manifest).access == contract.Access(
        allow=(contract.AccessRule(callers=("key:batch",), actions=("Infer",)),)
    )
    (volume,) = [found for found in pod["volumes"] if found["name"] == "access-keys"]
    # What a kubelet once mounted stays there after its Secret is gone, unless it is optional.
    assert volume["secret"] == {"secretName": "fraud-keys", "optional": True}
    (server,), (fetch,) = pod["containers"], pod["initContainers"]
    assert {"name": "access-keys", "mountPath": contract.ACCESS_KEYS_DIR, "readOnly": True} in server[
        "volumeMounts"
    ]
    assert "access" not in json.dumps(fetch)
    assert "access" not in json.dumps(made(None))


def test_without_rules_each_known_caller_may_do_everything_and_no_stranger_anything() -> None:
    config = told(made(KEYS)).access
    assert config is not None
    assert [(rule.callers, rule.actions) for rule in config.allow] == [
        (("*",), ("Infer", "Feedback", "Metadata"))
    ]


def test_pods_are_told_the_issuers_and_get_their_public_keys_from_where_the_spec_says() -> None:
    given = sso(callerClaim="email", requiredClaims=[{"name": "groups", "values": ["risk"]}])
    second = {**OTHER_TOKENS["issuers"][0], "name": "b", "issuer": "https://b.example.com"}
    manifest = made({**KEYS, "issuers": [*given["issuers"], second]})
    config = told(manifest).access
    assert config is not None
    assert config.apiKeys
    claims = (contract.RequiredClaim(name="groups", values=("risk",)),)
    assert config.issuers == (
        contract.Issuer(
            name="sso",
            issuer="https://sso.example.com",
            audiences=("fraud",),
            callerClaim="email",
            requiredClaims=claims,
        ),
        contract.Issuer(name="b", issuer="https://b.example.com", audiences=("fraud",)),
    )
    pod = manifest["spec"]["template"]["spec"]
    (volume,) = [found for found in pod["volumes"] if found["name"] == "access-issuers"]
    items = [[{"key": "jwks.json", "path": f"{name}.json"}] for name in ("sso", "b")]
    assert volume["projected"]["sources"] == [
        {"configMap": {"name": "sso", "items": items[0], "optional": True}},
        {"secret": {"name": "sso", "items": items[1], "optional": True}},
    ]
    (server,), (fetch,) = pod["containers"], pod["initContainers"]
    mounts = {found["name"]: found for found in server["volumeMounts"]}
    assert mounts["access-issuers"] == {
        "name": "access-issuers",
        "mountPath": contract.ACCESS_ISSUERS_DIR,
        "readOnly": True,
    }
    assert "access" not in json.dumps(fetch)
    # Without API keys there is no Secret of hashes, and the server looks for none.
    alone = made(TOKENS)
    assert "access-keys" not in json.dumps(alone)
    config = told(alone).access
    assert config is not None
    assert not config.apiKeys


def test_pods_that_take_tokens_of_service_accounts_get_the_clusters_keys_and_an_audience() -> None:
    manifest = made(ACCOUNTS)
    config = told(manifest).access
    assert config is not None
    assert config.serviceAccountAudience == f"slipway.dev/{OWNER.namespace}"
    (volume,) = [
        found
        for found in manifest["spec"]["template"]["spec"]["volumes"]
        if found["name"] == "access-issuers"
    ]
    keys = cluster_keys(OWNER, "{}")
    (data_key,) = keys["data"]
    items = [{"key": data_key, "path": f"{contract.CLUSTER_ISSUER}.json"}]
    source = {"name": keys["metadata"]["name"], "items": items, "optional": True}
    assert volume["projected"]["sources"] == [{"configMap": source}]
    assert json.dumps(made(KEYS)).count("cluster-keys") == 0


def test_the_clusters_keys_are_one_text_whatever_their_order_and_bounded() -> None:
    keys = [{"kty": "RSA", "kid": kid, "n": "AQAB", "e": "AQAB", "x5c": ["x"]} for kid in ("b", "a")]
    text = as_text({"issuer": "https://c"}, {"keys": keys})
    assert as_text({"issuer": "https://c", "more": 1}, {"keys": keys[::-1]}) == text
    assert [key["kid"] for key in json.loads(text)["keys"]] == ["a", "b"]
    assert "x5c" not in text
    wrong: list[tuple[Any, Any]] = [
        ({}, {"keys": keys}),
        ({"issuer": ""}, {"keys": keys}),
        ({"issuer": 1}, {"keys": keys}),
        ({"issuer": "c" * 513}, {"keys": keys}),
        ({"issuer": "c"}, {}),
        ({"issuer": "c"}, {"keys": []}),
        ({"issuer": "c"}, {"keys": keys * 33}),
        ({"issuer": "c"}, {"keys": ["k"]}),
    ]
    for configuration, key_set in wrong:
        with pytest.raises(ValueError, match="API server"):
            as_text(configuration, key_set)


TLS: dict[str, Any] = {
    **KEYS,
    "tls": {
        "secretRef": {"name": "fraud-tls"},
        "clientCA": {"secretKeyRef": {"name": "clients", "key": "ca.crt"}},
    },
}


def test_pods_with_tls_get_their_certificate_and_are_probed_by_it() -> None:
    manifest = made(TLS)
    config = told(manifest).access
    assert config is not None
    assert (config.tls, config.clientCertificates) == (True, True)
    pod = manifest["spec"]["template"]["spec"]
    volumes = {found["name"]: found for found in pod["volumes"]}
    # What was mounted serves on after its Secret is gone: a closed model is better by its keys.
    assert volumes["access-tls"] == {"name": "access-tls", "secret": {"secretName": "fraud-tls"}}
    items = [{"key": "ca.crt", "path": contract.CLIENT_CA_FILE}]
    assert volumes["access-issuers"]["projected"]["sources"] == [
        {"secret": {"name": "clients", "items": items, "optional": True}}
    ]
    (server,) = pod["containers"]
    mounts = {found["name"]: found["mountPath"] for found in server["volumeMounts"]}
    assert mounts["access-tls"] == contract.TLS_DIR
    for probe in ("readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["scheme"] == "HTTPS"
        (plain,) = made(KEYS)["spec"]["template"]["spec"]["containers"]
        assert plain[probe]["httpGet"]["scheme"] == "HTTP"
    only = {**KEYS, "tls": {"secretRef": {"name": "fraud-tls"}}}
    config = told(made(only)).access
    assert config is not None
    assert (config.tls, config.clientCertificates) == (True, False)


def test_the_service_of_pods_with_tls_does_not_promise_what_is_in_the_clear() -> None:
    service = stable_service(OWNER, "r", tls=True)
    assert {port["name"]: port.get("appProtocol") for port in service["spec"]["ports"]} == {
        "http": "https",
        "http-oip": "https",
        "grpc": None,
    }
    assert stable_service(OWNER, "r") == stable_service(OWNER, "r", tls=False) != service


def test_a_server_reads_what_the_operator_tells_it_of_callers() -> None:
    given = sso(callerClaim="email", requiredClaims=[{"name": "groups", "values": ["risk"]}])
    for access in (KEYS, RULES, LIMITS, TOKENS, ACCOUNTS, TLS, {**LIMITS, **given, **ACCOUNTS}):
        config = told(made(access))
        text = config.model_dump_json(exclude_defaults=True)
        read = parse_serving(text).access
        assert read is not None
        assert json.loads(orjson.dumps(read)) == json.loads(orjson.dumps(config.access.model_dump()))  # type: ignore[union-attr]


def test_pods_are_told_limits_and_by_which_name_they_find_each_other() -> None:
    config = told(made(LIMITS)).access
    assert config is not None
    assert config.limits == contract.AccessLimits(
        perCaller=contract.CallerLimits(requestsPerSecond=5), anonymous=contract.CallerLimits(concurrent=1)
    )
    # The revision's headless Service, whose addresses are those of its ready pods.
    name = revision_of(spec_of(LIMITS), model(1)).name
    service = revision_service(OWNER, name)
    assert config.peers == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in service["spec"]


def test_no_revision_is_of_who_may_ask() -> None:
    names = {
        revision_of(spec_of(access), model(1)).name for access in (None, KEYS, RULES, OTHER_KEYS, LIMITS)
    }
    assert len(names) == 1


NEWER = replace(SETTINGS, server_image="slipway.dev/server:next")
PODS = PodOptions.model_validate({"labels": {"team": "risk"}})


@pytest.mark.parametrize("own", [NOTHING, PODS])
@pytest.mark.parametrize(
    ("before", "now", "settings", "behind", "one"),
    [
        (None, None, SETTINGS, False, True),
        (None, KEYS, SETTINGS, True, True),
        (KEYS, None, SETTINGS, True, True),
        (KEYS, RULES, SETTINGS, True, True),
        (KEYS, OTHER_KEYS, SETTINGS, True, True),
        (KEYS, LIMITS, SETTINGS, True, True),
        (KEYS, TOKENS, SETTINGS, True, True),
        (TOKENS, OTHER_TOKENS, SETTINGS, True, True),
        (TOKENS, TOKENS, SETTINGS, False, True),
        (KEYS, {**KEYS, **ACCOUNTS}, SETTINGS, True, True),
        (ACCOUNTS, ACCOUNTS, SETTINGS, False, True),
        (KEYS, TLS, SETTINGS, True, True),
        (TLS, TLS, SETTINGS, False, True),
        (KEYS, KEYS, SETTINGS, False, True),
        (KEYS, KEYS, NEWER, True, False),
        (None, KEYS, NEWER, True, False),
    ],
)
def test_a_change_of_who_may_ask_is_one_of_the_spec_and_no_upgrade(
    before: dict[str, Any] | None,
    now: dict[str, Any] | None,
    settings: Settings,
    behind: bool,
    one: bool,
    own: PodOptions,
) -> None:
    was, wanted = live(made(before, own=own)), made(now, settings, own)
    assert (is_behind(was, wanted), is_of_one_installation(was, wanted)) == (behind, one)


@pytest.mark.parametrize(
    ("asked", "there", "updated", "status", "reason"),
    [
        (None, None, 2, "False", Reason.ACCESS_OPEN),
        # What is there still is no promise: it goes with the next pods.
        (None, KEYS, 2, "False", Reason.ACCESS_OPEN),
        (KEYS, None, 2, "False", Reason.ACCESS_PENDING),
        (KEYS, KEYS, 1, "False", Reason.ACCESS_PENDING),
        (KEYS, KEYS, 2, "True", Reason.CALLERS_CHECKED),
        (RULES, KEYS, 2, "False", Reason.ACCESS_PENDING),
        (OTHER_KEYS, KEYS, 2, "False", Reason.ACCESS_PENDING),
        (LIMITS, KEYS, 2, "False", Reason.ACCESS_PENDING),
        (LIMITS, LIMITS, 2, "True", Reason.CALLERS_CHECKED),
        (TOKENS, KEYS, 2, "False", Reason.ACCESS_PENDING),
        (TOKENS, TOKENS, 2, "True", Reason.CALLERS_CHECKED),
        (OTHER_TOKENS, TOKENS, 2, "False", Reason.ACCESS_PENDING),
        (ACCOUNTS, ACCOUNTS, 2, "True", Reason.CALLERS_CHECKED),
        ({**KEYS, **ACCOUNTS}, KEYS, 2, "False", Reason.ACCESS_PENDING),
        (TLS, TLS, 2, "True", Reason.CALLERS_CHECKED),
        (TLS, KEYS, 2, "False", Reason.ACCESS_PENDING),
        ({**KEYS, "tls": {**TLS["tls"], "secretRef": {"name": "b"}}}, TLS, 2, "False", Reason.ACCESS_PENDING),
        ({**KEYS, **TOKENS}, TOKENS, 2, "False", Reason.ACCESS_PENDING),
        (sso(audiences=["other"]), TOKENS, 2, "False", Reason.ACCESS_PENDING),
    ],
)
def test_access_is_controlled_once_every_pod_checks_it(
    asked: dict[str, Any] | None,
    there: dict[str, Any] | None,
    updated: int,
    status: str,
    reason: Reason,
) -> None:
    other = spec_of(KEYS)
    elsewhere = deployment(OWNER, revision_of(other, model(2)), SETTINGS, NOTHING, spec_of(asked).access)
    observed = observe([live(made(there), updated), live(elsewhere)])
    (value,) = access_controlled(spec_of(asked), observed).values()
    assert (value.status, value.reason) == (status, reason)
    if reason is Reason.ACCESS_PENDING:
        assert naming.revision_object("fraud", revision_of(other, model(1)).name) in value.message
        assert naming.revision_object("fraud", revision_of(other, model(2)).name) not in value.message


def test_an_installation_may_demand_it() -> None:
    fault = access_fault(spec_of(None), required=True)
    assert fault is not None
    assert fault.reason is Reason.ACCESS_REQUIRED
    assert access_fault(spec_of(KEYS), required=True) is None
    assert access_fault(spec_of(None), required=False) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "batch",
        "key:",
        "key:a/b",
        "key:" + "x" * 65,
        "anonymous ",
        "Key:batch",
        "key:*x",
        "serviceaccount:a/b",
        "system:serviceaccount:",
        "system:serviceaccount:shop",
        "system:serviceaccount:shop:",
        "system:serviceaccount:shop/checkout",
        "system:serviceaccount:*:checkout",
        "system:serviceaccount:Shop:checkout",
        "system:serviceaccount:shop:check:out",
        "system:node:a",
        "jwt:",
        "jwt:sso",
        "jwt:sso:",
        "jwt:SSO:a",
        "jwt:sso:a b",
    ],
)
def test_a_caller_of_no_known_kind_is_refused(wrong: str) -> None:
    rule = {"callers": [wrong], "actions": ["Infer"]}
    with pytest.raises(ValidationError):
        Access.model_validate({**KEYS, "allow": [rule]})
