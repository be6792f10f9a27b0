"""Public keys of issuers at addresses: read by the operator, handed to the pods, and closed without them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.core.observed import ObjectKind
from slipway.engine.observers.issuer_keys import INTERVAL, IssuerKeys
from slipway.engine.observers.looks import UnreadError
from slipway.engine.store import Key
from tests.unit.engine.test_pod_options import templates
from tests.unit.engine.test_upgrades import PLAIN, canary
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World

SSO, OTHER = "https://sso.example.com/jwks", "https://other.example.com/jwks"
AWAY = UnreadError("it does not answer in time")


def keys(*kids: str) -> str:
    return json.dumps({"keys": [{"kid": kid, "kty": "RSA"} for kid in kids]})


def issuer(name: str, uri: str) -> dict[str, Any]:
    return {"name": name, "issuer": f"https://{name}", "audiences": ["fraud"], "jwks": {"uri": uri}}


def asking(spec: dict[str, Any], *issuers: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "access": {"issuers": list(issuers) or [issuer("sso", SSO)]}}


async def world(**shown: str | UnreadError) -> World:
    found = World()
    found.settings = replace(SETTINGS, issuers=frozenset({SSO, OTHER}))
    found.kube.issuers = {SSO: shown.get("sso", keys("1")), OTHER: shown.get("other", keys("2"))}
    await found.operator.start()
    await found.restart()
    return found


def mounted(world: World) -> dict[str, str | None]:
    """By the files that pods find, what is in them."""
    data = {
        found["metadata"]["name"]: found["data"]
        for found in world.kube.all(ObjectKind.CONFIG_MAP)
        if found["metadata"]["name"].startswith(NAME)
    }
    (template, *_) = templates(world)
    volume = next(one for one in template["spec"]["volumes"] if one["name"] == "access-issuers")
    return {
        item["path"]: data.get(source["configMap"]["name"], {}).get(item["key"])
        for source in volume["projected"]["sources"]
        for item in source["configMap"]["items"]
    }


def kept(world: World) -> list[str]:
    maps = [one["metadata"]["name"] for one in world.kube.all(ObjectKind.CONFIG_MAP)]
    return [name for name in maps if name == f"{NAME}-issuer-keys"]


async def test_pods_get_an_issuers_keys_and_follow_a_rotation_without_being_replaced() -> None:
    found = await world()
    found.create(asking(canary(1)))
    await found.run(60)
    assert found.said()["Ready"] == "True Serving"
    assert mounted(found) == {"sso.json": keys("1")}
    pods = {one["metadata"]["uid"] for one in found.kube.all(ObjectKind.POD)}
    for shown in (keys("1", "2"), keys("2"), keys()):
        found.kube.issuers[SSO] = shown
        await found.run(2 * INTERVAL.total_seconds())
        assert mounted(found) == {"sso.json": shown}
    assert {one["metadata"]["uid"] for one in found.kube.all(ObjectKind.POD)} == pods
    # Whoever changes them otherwise is not listened to.
    place = (ObjectKind.CONFIG_MAP, NAMESPACE, f"{NAME}-issuer-keys")
    found.kube.edit(place, lambda live: live["data"].update(dict.fromkeys(live["data"], "x")))
    await found.run(5)
    assert mounted(found) == {"sso.json": keys()}
    found.create({**canary(1), "access": {"serviceAccounts": {}}})
    await found.run(60)
    assert kept(found) == []
    assert found.said()["Ready"] == "True Serving"


async def test_an_address_that_is_not_allowed_is_not_read_and_nothing_changes() -> None:
    found = await world()
    found.create(PLAIN)
    await found.run(30)
    elsewhere = "https://169.254.169.254/latest"
    found.kube.issuers[elsewhere] = keys("evil")
    for uri in (elsewhere, f"{SSO}/", f"{SSO}?x", SSO.upper().replace("HTTPS", "https")):
        found.create(asking({**PLAIN, "model": {"uri": "mlflow://fraud/2"}}, issuer("sso", uri)))
        await found.run(30)
        assert found.said()["Ready"] == "False IssuerNotAllowed"
        assert kept(found) == []
        assert found.status()["stable"]["version"] == "1"
        assert found.operator.observers.issuer_keys.texts == {}


async def test_no_pod_starts_before_all_keys_are_known_and_those_that_serve_go_on() -> None:
    found = await world(other=AWAY)
    asked = asking(PLAIN, issuer("sso", SSO), issuer("other", OTHER))
    found.create(asked)
    await found.run(30)
    assert found.said()["Ready"] == "False IssuerKeysUnread"
    assert found.kube.all(ObjectKind.POD) == []
    found.kube.issuers[OTHER] = keys("2")
    await found.run(120)
    assert found.said()["Ready"] == "True Serving"
    assert mounted(found) == {"sso.json": keys("1"), "other.json": keys("2")}
    # From then on an issuer that does not answer takes nothing away, whoever else goes on.
    found.kube.issuers = {SSO: keys("3"), OTHER: AWAY}
    await found.restart()
    await found.run(120)
    assert mounted(found) == {"sso.json": keys("3"), "other.json": keys("2")}
    found.create({**asked, "model": {"uri": "mlflow://fraud/2"}})
    await found.run(240)
    assert found.said()["Ready"] == "True Serving"
    assert found.status()["stable"]["version"] == "2"


async def test_keys_of_one_address_never_stand_for_those_of_another() -> None:
    found = await world(other=AWAY)
    found.create(asking(PLAIN))
    await found.run(60)
    found.create(asking(PLAIN, issuer("sso", OTHER)))
    await found.run(60)
    assert found.said()["Ready"] == "False IssuerKeysUnread"
    found.kube.issuers[OTHER] = keys("9")
    await found.run(120)
    assert mounted(found) == {"sso.json": keys("9")}
    assert found.said()["Ready"] == "True Serving"


async def test_an_address_is_read_once_for_all_and_less_often_while_it_fails() -> None:
    asked: list[str] = []
    now = datetime(2026, 11, 24, tzinfo=UTC)
    answers = {SSO: keys("1")}

    async def read(address: str) -> str:
        asked.append(address)
        if address not in answers:
            raise AWAY
        return answers[address]

    told: list[Key] = []
    found = IssuerKeys(read, told.append, lambda: now, lambda: 0.5)
    models = [Key("a", f"m{number}") for number in range(50)]
    for model in models:
        found.subscribe(model, {SSO, OTHER})
    for _ in range(600):
        await found.pool.drain()
        now += timedelta(seconds=1)
    assert asked.count(SSO) == 2
    # A second, two, four … and 30 in the end.
    assert 20 <= asked.count(OTHER) <= 30
    assert sorted(told) == sorted(models * 2)
    assert found.error(OTHER) == str(AWAY)
    for model in models:
        found.forget(model)
    assert found.texts == {}
    count = len(asked)
    now += timedelta(hours=1)
    await found.pool.drain()
    assert len(asked) == count
