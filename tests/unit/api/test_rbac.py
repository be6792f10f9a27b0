"""The operator may do what it must, and no more."""

from __future__ import annotations

import pytest

from slipway.api import docs
from slipway.api.rbac import EDIT, OWN_NAMESPACE, TABLES, VIEW, WATCHED, Permission
from slipway.engine.kube import RESOURCES
from slipway.infra.leader import LEASE_NAME


def verbs(table: tuple[Permission, ...], group: str, resource: str) -> set[str]:
    return {
        verb
        for permission in table
        if permission.group == group and resource in permission.resources
        for verb in permission.verbs
    }


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_kind_that_the_operator_watches_may_be_watched(kind: str) -> None:
    resource = RESOURCES[kind]
    assert verbs(WATCHED, resource.group, resource.plural) >= {"get", "list", "watch"}


def test_nothing_is_granted_by_a_wildcard() -> None:
    for table in TABLES.values():
        for permission in table:
            assert "*" not in (permission.group, *permission.resources, *permission.verbs)


@pytest.mark.parametrize("table", [WATCHED, OWN_NAMESPACE])
def test_the_operator_reads_no_secrets_and_grants_no_rights(table: tuple[Permission, ...]) -> None:
    resources = {resource for permission in table for resource in permission.resources}
    assert resources.isdisjoint({"secrets", "namespaces", "nodes", "customresourcedefinitions"})
    groups = {permission.group for permission in table}
    assert groups.isdisjoint({"rbac.authorization.k8s.io", "apiextensions.k8s.io"})
    granted = {verb for permission in table for verb in permission.verbs}
    assert granted.isdisjoint({"impersonate", "bind", "escalate", "deletecollection"})


def test_the_operator_never_writes_a_spec() -> None:
    assert verbs(WATCHED, "slipway.dev", "modeldeployments") == {"get", "list", "watch"}
    assert verbs(WATCHED, "slipway.dev", "modeldeployments/status") == {"get", "patch"}


def test_leases_of_others_are_only_looked_at_and_only_those_of_slipway() -> None:
    (other,) = (found for found in WATCHED if "leases" in found.resources)
    assert other.rule["verbs"] == ["get"]
    assert other.rule["resourceNames"] == [LEASE_NAME]
    assert verbs(OWN_NAMESPACE, "coordination.k8s.io", "leases") == {"get", "create", "update", "patch"}


def test_people_write_no_status() -> None:
    for table in (EDIT, VIEW):
        assert verbs(table, "slipway.dev", "modeldeployments/status") == {"get"}
    assert verbs(VIEW, "slipway.dev", "modeldeployments") == {"get", "list", "watch"}
    assert verbs(VIEW, "slipway.dev", "modeldeployments/scale") == {"get"}
    assert "update" in verbs(EDIT, "slipway.dev", "modeldeployments/scale")


def test_no_right_is_given_twice_and_each_says_why() -> None:
    for table in TABLES.values():
        given = [(permission.group, resource) for permission in table for resource in permission.resources]
        assert len(given) == len(set(given))
        assert all(permission.why for permission in table)


def test_the_page_of_permissions_denies_no_right_that_the_table_gives() -> None:
    page = docs.permissions()
    granted = {resource for permission in WATCHED for resource in permission.resources}
    assert "configmaps" in granted
    assert "may read every ConfigMap" in page
    assert "secrets" not in granted
    assert "no verb on Secrets" in page
    values = ("watchNamespaces", "gatewayAPI.allow", "rollouts.prometheus.addresses", "access.issuers")
    for words in (*values, "ServiceAccount"):
        assert words in page.partition("## What this amounts to")[2]
