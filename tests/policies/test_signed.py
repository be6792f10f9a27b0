"""Who has to have signed models is not weakened by the way, on a real API server."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.policies.conftest import MERGE, Installed, manifest, models
from tests.policies.control_plane import Answer, Manifest

URI = "mlflow://fraud/1"
KEYS: Manifest = {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}
ROOT: Manifest = {"configMapRef": {"name": "signers", "key": "root"}}
RELEASE: Manifest = {"email": "release@example.com"}
CI: Manifest = {"uri": "spiffe://example.com/ci"}
CERTIFICATE: Manifest = {"certificate": {"authorities": ROOT, "identities": [RELEASE, CI]}}
ISSUED: Manifest = {"issuer": "https://issuer.example.com"}
KEYLESS: Manifest = {"keyless": {"trustRoot": ROOT, "identities": [{**ISSUED, **RELEASE}, {**ISSUED, **CI}]}}
DOMAINS: Manifest = {"hazards": {"allowedOperatorDomains": ["com.example"]}}
BUILT: Manifest = {"builder": "https://example.com/ci", "source": "github.com/acme/fraud"}
OWN: Manifest = {"server": "External", "image": "a/b"}
_numbers = count()


def signed(signature: Manifest | None, **more: Any) -> Manifest:
    return {"model": {"uri": URI, "verify": {"signature": signature, **more}}}


def certificate(**parts: Any) -> Manifest:
    return signed({"certificate": {**CERTIFICATE["certificate"], **parts}})


def keyless(**parts: Any) -> Manifest:
    return signed({"keyless": {**KEYLESS["keyless"], **parts}})


#: The spec before, and what is changed of it.
WEAKER: dict[str, tuple[Manifest, Manifest]] = {
    "no signature": (signed(KEYS), signed(None)),
    "nothing": (signed(KEYS), {"model": {"uri": URI, "verify": None}}),
    "no certificate": (signed(CERTIFICATE), signed(None)),
    "other keys": (
        signed(KEYS),
        signed({"publicKeys": {"configMapRef": {"name": "mine", "key": "keys.pem"}}}),
    ),
    "another key of it": (
        signed(KEYS),
        signed({"publicKeys": {"configMapRef": {"name": "signers", "key": "mine.pem"}}}),
    ),
    "a certificate instead": (signed(KEYS), signed({**CERTIFICATE, "publicKeys": None})),
    "other authorities": (
        signed(CERTIFICATE),
        certificate(authorities={"configMapRef": {"name": "mine", "key": "root"}}),
    ),
    "an identity more": (signed(CERTIFICATE), certificate(identities=[RELEASE, CI, {"dns": "a.b"}])),
    "another identity": (signed(CERTIFICATE), certificate(identities=[{"email": "mallory@example.com"}])),
    "another trust root": (
        signed(KEYLESS),
        keyless(trustRoot={"configMapRef": {"name": "mine", "key": "root"}}),
    ),
    "another issuer": (signed(KEYLESS), keyless(identities=[{"issuer": "https://a.b", **RELEASE}])),
    "no provenance": (signed(KEYS, provenance=BUILT), signed(KEYS, provenance=None)),
    "another builder": (
        signed(KEYS, provenance=BUILT),
        signed(KEYS, provenance={**BUILT, "builder": "https://example.com/mine"}),
    ),
    "another source": (
        signed(KEYS, provenance=BUILT),
        signed(KEYS, provenance={**BUILT, "source": "github.com/mallory/fraud"}),
    ),
    "hazards are reported": ({}, {"model": {"verify": {"hazards": {"onFinding": "Report"}}}}),
    "another domain": (signed(KEYS), signed(KEYS, **DOMAINS)),
    "a server of one's own": ({"runtime": {}}, {"runtime": OWN}),
    "one that is looked at no more": (
        {"runtime": OWN, "model": {"uri": URI, "verify": {}}},
        {"model": {"verify": None}},
    ),
}
FREE: dict[str, tuple[Manifest, Manifest]] = {
    "a signature": ({}, signed(KEYS)),
    "a certificate": ({}, signed(CERTIFICATE)),
    "an identity less": (signed(CERTIFICATE), certificate(identities=[CI])),
    "an issuer's identity less": (signed(KEYLESS), keyless(identities=[{**ISSUED, **CI}])),
    "another model": (signed(KEYS), {"model": {"uri": "mlflow://fraud/2"}}),
    "provenance": (signed(KEYS), signed(KEYS, provenance=BUILT)),
    "the same provenance and an identity less": (
        signed(CERTIFICATE, provenance=BUILT),
        certificate(identities=[CI]),
    ),
    "hazards are blocked": (
        {"model": {"uri": URI, "verify": {"hazards": {"onFinding": "Report"}}}},
        {"model": {"verify": {"hazards": {"onFinding": "Block"}}}},
    ),
    "no domain": (signed(KEYS, **DOMAINS), signed(KEYS, hazards={"allowedOperatorDomains": None})),
}


@pytest.fixture(scope="module")
def namespace(installed: Installed) -> str:
    return installed.namespace("protected")


def changed(installed: Installed, namespace: str, user: str, before: Manifest, change: Manifest) -> Answer:
    model = installed.model(namespace, before, name=f"s-{next(_numbers)}")
    return model.merge(user, {"spec": change})


@pytest.mark.parametrize("case", WEAKER)
def test_weakening_what_a_model_has_to_stand_takes_bypass(
    installed: Installed, namespace: str, case: str
) -> None:
    refused = changed(installed, namespace, "reader", *WEAKER[case])
    assert refused.code == 403, refused
    assert "takes the verb bypass on modeldeployments/approval" in refused.message
    assert changed(installed, namespace, "owner", *WEAKER[case]).code == 200


@pytest.mark.parametrize("case", FREE)
def test_what_is_as_strict_is_free(installed: Installed, namespace: str, case: str) -> None:
    answer = changed(installed, namespace, "reader", *FREE[case])
    assert answer.code == 200, answer


def test_elsewhere_it_is_free(installed: Installed) -> None:
    plain = installed.namespace()
    for case in ("no signature", "another identity", "hazards are reported"):
        assert changed(installed, plain, "reader", *WEAKER[case]).code == 200


def signers(installed: Installed, namespace: str, **labels: str) -> str:
    """The path of a ConfigMap with keys."""
    path, name = f"/api/v1/namespaces/{namespace}/configmaps", f"signers-{next(_numbers)}"
    meta = {"name": name, "labels": {f"slipway.dev/{key}": value for key, value in labels.items()}}
    installed.api.must("POST", path, {"metadata": meta, "data": {"keys.pem": "a key"}})
    return f"{path}/{name}"


CHANGES: dict[str, Manifest] = {
    "a key more": {"data": {"keys.pem": "a key and another"}},
    "another entry": {"data": {"more.pem": "a key"}},
    "bytes": {"binaryData": {"more.pem": "AAAA"}},
    "no label": {"metadata": {"labels": {"slipway.dev/signers": None}}},
    "the label that is none": {"metadata": {"labels": {"slipway.dev/signers": "false"}}},
}


@pytest.mark.parametrize("case", CHANGES)
def test_whom_models_are_signed_by_is_changed_by_who_has_bypass(
    installed: Installed, namespace: str, case: str
) -> None:
    path = signers(installed, namespace, signers="true")
    refused = installed.by("editor").ask("PATCH", path, CHANGES[case], MERGE)
    assert (refused.code, "takes the verb bypass" in refused.message) == (403, True), refused
    assert installed.by("owner").ask("PATCH", path, CHANGES[case], MERGE).code == 200


def test_signers_are_deleted_by_who_has_bypass_and_the_cluster_may_clean_up(
    installed: Installed, namespace: str
) -> None:
    path = signers(installed, namespace, signers="true")
    assert installed.by("editor").ask("DELETE", path).code == 403
    note = {"metadata": {"annotations": {"note": "of no matter"}}}
    assert installed.by("editor").ask("PATCH", path, note, MERGE).code == 200
    assert installed.by("owner").ask("DELETE", path, dryRun="All").code == 200
    controller = "system:serviceaccount:kube-system:namespace-controller"
    assert installed.by(controller).ask("DELETE", path).code == 200


def test_other_config_maps_and_other_namespaces_are_as_before(installed: Installed, namespace: str) -> None:
    more = CHANGES["a key more"]
    other = signers(installed, namespace)
    elsewhere = signers(installed, installed.namespace(), signers="true")
    for path in (other, elsewhere):
        assert installed.by("editor").ask("PATCH", path, more, MERGE).code == 200


def test_where_signatures_are_required_no_model_is_accepted_without(installed: Installed) -> None:
    strict = installed.namespace("require-signature")

    def created(spec: Manifest) -> Answer:
        body = manifest(spec, {"name": f"s-{next(_numbers)}"})
        return installed.by("owner").ask("POST", models(strict), body, dryRun="All")

    for spec in ({}, {"model": {"uri": URI, "verify": {}}}, {"model": {"uri": URI, "verify": DOMAINS}}):
        refused = created(spec)
        assert refused.code == 403, refused
        assert "set spec.model.verify.signature, with publicKeys, certificate or keyless" in refused.message
    for signature in (KEYS, CERTIFICATE, KEYLESS):
        assert created(signed(signature)).code == 201
    model = installed.model(strict, signed(KEYS), name=f"s-{next(_numbers)}")
    assert model.merge("owner", {"spec": {"model": {"verify": None}}}).code == 403
    assert model.merge("owner", {"spec": {"model": {"uri": "mlflow://fraud/2"}}}).code == 200


def test_what_was_there_before_a_namespace_required_signatures_goes_on_until_it_changes(
    installed: Installed,
) -> None:
    name = installed.namespace()
    model = installed.model(name, {})
    labels = {"metadata": {"labels": {"slipway.dev/require-signature": "true"}}}
    installed.api.must("PATCH", f"/api/v1/namespaces/{name}", labels, MERGE)
    assert model.merge("owner", {"metadata": {"labels": {"team": "risk"}}}).code == 200
    model.report({"phase": "Ready"})
    assert model.merge("owner", {"spec": {"model": {"uri": "mlflow://fraud/2"}}}).code == 403
