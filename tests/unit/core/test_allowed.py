"""What an installation allows ModelDeployments to have done for them."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.reasons import Reason
from slipway.api.rollout import PrometheusSource
from slipway.api.traffic import GatewayAPI
from slipway.core.allowed import Allowed, GatewayRule


def rule(namespaces: str = "payments", gateways: str = "gateways/public", hostnames: str = "") -> GatewayRule:
    return GatewayRule(frozenset(namespaces.split()), frozenset(gateways.split()), tuple(hostnames.split()))


def asked(*hostnames: str, **parent: str) -> GatewayAPI:
    place: dict[str, Any] = {"name": "public", "namespace": "gateways", **parent}
    return GatewayAPI.model_validate({"parentRefs": [place], "hostnames": list(hostnames)})


@pytest.mark.parametrize(
    ("rules", "gateway", "refused"),
    [
        ((), asked("a.example.com"), "a route"),
        ((), asked(namespace="payments"), ""),
        ((), asked("a.example.com", namespace="payments"), ""),
        ((rule(hostnames="a.example.com"),), asked("a.example.com"), ""),
        ((rule(hostnames="a.example.com"),), asked("a.example.com", "b.example.com"), "host name b."),
        ((rule(hostnames="a.example.com"),), asked(), "every host name"),
        ((rule(hostnames="*.example.com"),), asked(), "every host name"),
        ((rule(hostnames="*"),), asked(), ""),
        ((rule(hostnames="*"),), asked("*.example.com"), ""),
        ((rule(hostnames="*.example.com"),), asked("a.b.example.com"), ""),
        ((rule(hostnames="*.example.com"),), asked("*.b.example.com"), ""),
        ((rule(hostnames="*.example.com"),), asked("*.example.com"), ""),
        ((rule(hostnames="*.example.com"),), asked("example.com"), "host name example.com"),
        ((rule(hostnames="*.example.com"),), asked("badexample.com"), "host name badexample.com"),
        ((rule(hostnames="*.example.com"),), asked("*.com"), "host name *.com"),
        ((rule(hostnames="a.example.com"),), asked("*.example.com"), "host name *.example.com"),
        ((rule("shop", hostnames="*"),), asked("a.example.com"), "a route"),
        ((rule("*", hostnames="*"),), asked("a.example.com"), ""),
        ((rule(gateways="gateways/private", hostnames="*"),), asked(), "a route"),
        ((rule(gateways="gateways/*", hostnames="*"),), asked(), ""),
        ((rule(gateways="other/*", hostnames="*"),), asked(), "a route"),
        # Two rules of different Gateways do not add up for one of them.
        (
            (rule(hostnames="a.example.com"), rule(gateways="gateways/private", hostnames="b.example.com")),
            asked("a.example.com", "b.example.com"),
            "host name b.",
        ),
        (
            (rule(hostnames="a.example.com"), rule("*", hostnames="b.example.com")),
            asked("a.example.com", "b.example.com"),
            "",
        ),
    ],
)
def test_gateways_and_host_names(rules: tuple[GatewayRule, ...], gateway: GatewayAPI, refused: str) -> None:
    fault = Allowed(gateways=rules).gateway_fault("payments", gateway)
    if not refused:
        assert fault is None
        return
    assert fault is not None
    assert fault.reason is Reason.GATEWAY_NOT_ALLOWED
    assert refused in fault.message.partition("on Gateway")[0].partition("may not have ")[2]
    assert "gatewayAPI.allow" in fault.message


def test_each_gateway_of_a_route_needs_leave() -> None:
    both = GatewayAPI.model_validate(
        {"parentRefs": [{"name": "own"}, {"name": "other", "namespace": "gateways"}]}
    )
    fault = Allowed(gateways=(rule(hostnames="*"),)).gateway_fault("payments", both)
    assert fault is not None
    assert "gateways/other" in fault.message


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("http://prometheus.monitoring:9090", True),
        ("http://prometheus.monitoring:9090/", True),
        ("http://prometheus.monitoring:9090/other", False),
        ("http://prometheus.monitoring", False),
        ("https://prometheus.monitoring:9090", False),
        ("http://prometheus.monitoring:9090.evil.example.com", False),
        ("http://a:secret@prometheus.monitoring:9090", False),
        ("http://169.254.169.254", False),
    ],
)
def test_a_prometheus_is_asked_where_its_very_address_is_listed(address: str, allowed: bool) -> None:
    policy = Allowed(frozenset({"http://prometheus.monitoring:9090"}))
    fault = policy.prometheus_fault(PrometheusSource(address=address))
    assert (fault is None) is allowed
    if fault is not None:
        assert fault.reason is Reason.PROMETHEUS_NOT_ALLOWED
        assert "rollouts.prometheus.addresses" in fault.message
        assert "secret" not in fault.message
    assert Allowed().prometheus_fault(PrometheusSource(address=address)) is not None
