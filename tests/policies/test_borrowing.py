"""A ModelDeployment has what its writer may have, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from slipway.api.crd import crd
from tests.policies.conftest import CHART, Installed, manifest, models
from tests.policies.control_plane import Manifest

_numbers = count()
S = {"secretRef": {"name": "keys"}}
HTTPS = {"uri": "https://models.example.com/fraud.onnx", "credentials": S}
FEEDBACK = {"performance": {"feedback": S}}
JOB: Manifest = {"image": "acme/retrain", "secretRefs": [{"name": "keys"}]}
ACCESS = {"apiKeys": S}
#: TLS and routers do not go together.
ROLLING = {"strategy": "RollingUpdate"}


def breach(job: Any) -> Manifest:
    return {"onBreach": {"action": "Job", "job": job}, "drift": {}}


#: What borrows a Secret; the reader may read it, the editor may not.
SECRETS: dict[str, Manifest] = {
    "credentials": {"model": HTTPS},
    "credentials of MLflow": {"model": {"uri": "mlflow://fraud/1", "credentials": S}},
    "keys of callers": {"access": ACCESS},
    "keys of an issuer": {
        "access": {
            "issuers": [
                {
                    "name": "sso",
                    "issuer": "https://sso.example.com",
                    "audiences": ["fraud"],
                    "jwks": {"secretKeyRef": {"name": "keys", "key": "jwks"}},
                }
            ]
        }
    },
    "a certificate": {"rollout": ROLLING, "access": {"tls": S, **ACCESS}},
    "keys of feedback": {"monitoring": FEEDBACK},
    "a Job's": {"monitoring": breach(JOB)},
    "pull secrets": {"runtime": {"pod": {"imagePullSecrets": [{"name": "keys"}]}}},
}
AUDIT: Manifest = {
    "name": "groups",
    "type": "Subgroups",
    "data": {"configMapRef": {"name": "applicants", "key": "table.csv"}},
    "labelColumn": "repaid",
    "minimumAccuracy": "80%",
}
_ISSUER = {"name": "sso", "issuer": "https://sso.example.com", "audiences": ["fraud"]}
#: What borrows a ConfigMap, likewise.
CONFIG_MAPS: dict[str, Manifest] = {
    "the table of an audit": {"rollout": {"audits": [AUDIT]}},
    "public keys of an issuer": {
        "access": {"issuers": [{**_ISSUER, "jwks": {"configMapKeyRef": {"name": "sso-keys", "key": "jwks"}}}]}
    },
    "an authority of clients": {
        "rollout": ROLLING,
        "access": {"tls": {**S, "clientCA": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}, **ACCESS},
    },
    "authorities of signers": {
        "model": {
            "uri": "mlflow://fraud/1",
            "verify": {
                "signature": {
                    "certificate": {
                        "authorities": {"configMapRef": {"name": "signers", "key": "ca.pem"}},
                        "identities": [{"email": "release@example.com"}],
                    }
                }
            },
        }
    },
    "a trust root": {
        "model": {
            "uri": "mlflow://fraud/1",
            "verify": {
                "signature": {
                    "keyless": {
                        "trustRoot": {"configMapRef": {"name": "sigstore", "key": "trusted_root.json"}},
                        "identities": [{"issuer": "https://issuer.example.com", "uri": "https://a.b/c"}],
                    }
                }
            },
        }
    },
    "keys of signers": {
        "model": {
            "uri": "mlflow://fraud/1",
            "verify": {"signature": {"publicKeys": {"configMapRef": {"name": "signers", "key": "k.pem"}}}},
        }
    },
}
BORROWED = (*SECRETS, *CONFIG_MAPS)
#: What runs what the writer names, or takes names for it.
PODS: dict[str, Manifest] = {
    "an image": {"runtime": {"image": "mine/server"}},
    "a Job": {"monitoring": breach({"image": "mine/retrain"})},
    "a ServiceAccount": {"runtime": {"pod": {"serviceAccountName": "admin"}}},
    "an identity": {
        "model": {"uri": "s3://models/fraud.onnx", "credentials": {"serviceAccountName": "admin"}}
    },
    "host names": {
        "traffic": {
            "provider": "GatewayAPI",
            "gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": ["bank.example.com"]},
        }
    },
}


@pytest.fixture(scope="module")
def namespace(installed: Installed) -> str:
    return installed.namespace()


@pytest.mark.parametrize("case", [*BORROWED, *PODS])
def test_what_the_writer_may_not_have_the_spec_may_not(
    installed: Installed, namespace: str, case: str
) -> None:
    spec = (SECRETS | CONFIG_MAPS | PODS)[case]
    for code, user in ((403, "editor"), (403, "approver"), (201, "reader")):
        name = f"b-{next(_numbers)}"
        answer = installed.by(user).ask("POST", models(namespace), manifest(spec, {"name": name}))
        assert answer.code == code, answer
        if code == 403:
            assert "may not" in answer.message
        applied = installed.by(user).apply(
            f"{models(namespace)}/{name}", manifest(spec, {"name": name}), manager="tests"
        )
        assert applied.code in ((403,) if code == 403 else (200, 201)), applied
        plain = installed.model(namespace, name=f"b-{next(_numbers)}")
        assert plain.merge(user, {"spec": spec}).code == (403 if code == 403 else 200)


@pytest.mark.parametrize("case", [*BORROWED, *PODS])
def test_what_is_there_already_stays_through_other_edits(
    installed: Installed, namespace: str, case: str
) -> None:
    model = installed.model(namespace, (SECRETS | CONFIG_MAPS | PODS)[case], name=f"b-{next(_numbers)}")
    assert model.merge("editor", {"spec": {"scaling": {"minReplicas": 2}}}).code == 200
    assert model.merge("editor", {"metadata": {"labels": {"team": "risk"}}}).code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"minimumAccuracy": "90%"}, 200),
        ({"timeoutSeconds": 900}, 200),
        ({"labelColumn": "income"}, 403),
        ({"attributes": [{"column": "sex", "groups": ["a", "b"]}]}, 403),
        ({"data": {"configMapRef": {"name": "applicants", "key": "other.csv"}}}, 403),
        ({"data": {"configMapRef": {"name": "salaries", "key": "table.csv"}}}, 403),
    ],
)
def test_an_audit_reports_more_of_a_table_only_to_who_may_read_it(
    installed: Installed, namespace: str, change: Manifest, code: int
) -> None:
    for user, expected in (("editor", code), ("reader", 200)):
        model = installed.model(namespace, {"rollout": {"audits": [AUDIT]}}, name=f"b-{next(_numbers)}")
        changed = {"spec": {"rollout": {"audits": [{**AUDIT, **change}]}}}
        assert model.merge(user, changed).code == expected


def test_each_of_several_audits_is_looked_at(installed: Installed, namespace: str) -> None:
    model = installed.model(namespace, {"rollout": {"audits": [AUDIT]}}, name=f"b-{next(_numbers)}")
    more = [{**AUDIT, "name": f"more-{number}", "labelColumn": f"l-{number}"} for number in range(3)]
    for count_ in (1, 3):
        changed = {"spec": {"rollout": {"audits": [AUDIT, *more[:count_]]}}}
        refused = model.merge("editor", changed)
        assert refused.code == 403
        assert "ConfigMap applicants" in refused.message
    assert model.merge("reader", changed).code == 200


def test_an_authority_of_clients_is_borrowed_as_the_certificate_is(
    installed: Installed, namespace: str
) -> None:
    guarded = {"rollout": ROLLING, "access": {"tls": S, **ACCESS}}
    model = installed.model(namespace, guarded, name=f"b-{next(_numbers)}")
    change = {"spec": {"access": {"tls": {"clientCA": {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}}}}}
    refused = model.merge("editor", change)
    assert refused.code == 403
    assert "access.tls.clientCA" in refused.message
    assert model.merge("reader", change).code == 200


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        # The Secret goes to whoever the URI names.
        (HTTPS, {"uri": "https://models.example.com/fraud-2.onnx"}, 200),
        (HTTPS, {"uri": "https://evil.example.com/fraud.onnx"}, 403),
        (HTTPS, {"uri": "https://models.example.com.evil/fraud.onnx"}, 403),
        (HTTPS, {"uri": "https://models.example.com:444/fraud.onnx"}, 403),
        (HTTPS, {"uri": "s3://models.example.com/fraud.onnx"}, 403),
        ({**HTTPS, "uri": "mlflow://fraud/1"}, {"uri": "mlflow://other@champion"}, 200),
        ({**HTTPS, "uri": "mlflow://fraud/1"}, {"uri": "https://evil.example.com/x"}, 403),
        ({**HTTPS, "uri": "s3://models/a/1.onnx"}, {"uri": "s3://models/a/2.onnx"}, 200),
        ({**HTTPS, "uri": "s3://models/a/1.onnx"}, {"uri": "s3://mine/a/2.onnx"}, 403),
        ({**HTTPS, "uri": "oci://ghcr.io/shop/fraud:1"}, {"uri": "oci://ghcr.io/shop/fraud:2"}, 200),
        ({**HTTPS, "uri": "oci://ghcr.io/shop/fraud:1"}, {"uri": "oci://evil.io/shop/fraud:1"}, 403),
        ({**HTTPS, "uri": "dvc://h.io/o/r/m.onnx@v1"}, {"uri": "dvc://h.io/o/r/m.onnx@v2"}, 200),
        ({**HTTPS, "uri": "dvc://h.io/o/r?artifact=m"}, {"uri": "dvc://h.io/o/r?artifact=n"}, 200),
        ({**HTTPS, "uri": "dvc://h.io/o/r/m.onnx@v1"}, {"uri": "dvc://h.io/o/mine/m.onnx@v1"}, 403),
        (HTTPS, {"credentials": {"secretRef": {"name": "other"}}}, 403),
        (HTTPS, {"credentials": None}, 200),
        ({"uri": "https://a.b/c"}, {"credentials": S}, 403),
    ],
)
def test_credentials_go_to_another_server_only_by_who_may_read_them(
    installed: Installed, namespace: str, before: Manifest, after: Manifest, code: int
) -> None:
    model = installed.model(namespace, {"model": before}, name=f"b-{next(_numbers)}")
    answer = model.merge("editor", {"spec": {"model": after}})
    assert answer.code == code, answer
    model = installed.model(namespace, {"model": before}, name=f"b-{next(_numbers)}")
    assert model.merge("reader", {"spec": {"model": after}}).code == 200


@pytest.mark.parametrize(
    "runtime", [{"image": "mine/server"}, {"env": [{"name": "PYTHONPATH", "value": "/model"}]}]
)
def test_keys_reach_another_server_only_by_who_may_read_them(
    installed: Installed, namespace: str, runtime: Manifest
) -> None:
    for user, code in (("editor", 403), ("reader", 200)):
        model = installed.model(namespace, {"access": ACCESS}, name=f"b-{next(_numbers)}")
        assert model.merge(user, {"spec": {"runtime": runtime}}).code == code


@pytest.mark.parametrize("change", [{"image": "mine/retrain"}, {"command": ["env"]}, {"args": ["-c", "env"]}])
def test_a_job_with_secrets_is_another_one_only_by_who_may_read_them(
    installed: Installed, namespace: str, change: Manifest
) -> None:
    for user, code in (("editor", 403), ("reader", 200)):
        model = installed.model(namespace, {"monitoring": breach(JOB)}, name=f"b-{next(_numbers)}")
        changed = {"monitoring": {"onBreach": {"job": change}}}
        assert model.merge(user, {"spec": changed}).code == code


def test_the_largest_spec_is_within_what_a_policy_may_cost(installed: Installed, namespace: str) -> None:
    """Each question of a right is dear, and a policy that costs too much refuses everything."""
    pulled = [{"name": f"pull-{number}"} for number in range(16)]
    job = {**JOB, "secretRefs": [{"name": f"job-{number}"} for number in range(8)]}
    signed = CONFIG_MAPS["keys of signers"]["model"]["verify"]
    issuer = CONFIG_MAPS["public keys of an issuer"]["access"]["issuers"][0]
    spec = {
        **PODS["host names"],
        "model": {**HTTPS, "verify": signed},
        "access": {
            **ACCESS,
            "issuers": [
                {**issuer, "name": f"sso-{number}", "issuer": f"https://sso-{number}.example.com"}
                for number in range(4)
            ],
        },
        "rollout": {"audits": [{**AUDIT, "name": f"groups-{number}"} for number in range(4)]},
        "monitoring": {**breach(job)},
        "runtime": {"image": "a/b", "pod": {"imagePullSecrets": pulled, "serviceAccountName": "x"}},
    }
    answer = installed.by("reader").ask(
        "POST", models(namespace), manifest(spec, {"name": f"b-{next(_numbers)}"})
    )
    assert answer.code == 201, answer
    for place in (0, 7):
        short = {**job, "secretRefs": job["secretRefs"][: place + 1]}
        answer = installed.by("editor").ask(
            "POST", models(namespace), manifest({"monitoring": breach(short)}, {"name": "refused"})
        )
        assert answer.code == 403


def test_every_secret_that_a_spec_can_name_is_looked_at() -> None:
    """A field that the schema gets is in a policy, or this fails."""
    text = (CHART / "templates/policy-borrowing.yaml").read_text().replace(".?", ".")
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    found = set(_references(schema, (), "secret"))
    known = {
        "model.credentials.secretRef": "object.spec.model.credentials.secretRef",
        "monitoring.performance.feedback.secretRef": "object.spec.monitoring.performance.feedback.secretRef",
        "access.apiKeys.secretRef": "object.spec.access.apiKeys.secretRef",
        "access.issuers.jwks.secretKeyRef": "issuer.jwks.secretKeyRef",
        "access.tls.secretRef": "object.spec.access.tls.secretRef",
        "access.tls.clientCA.secretKeyRef": "object.spec.access.tls.clientCA.secretKeyRef",
        "monitoring.onBreach.job.secretRefs": "variables.job.secretRefs",
        "runtime.pod.imagePullSecrets": "object.spec.runtime.pod.imagePullSecrets",
    }
    assert found == set(known)
    for field, words in known.items():
        assert words in text, field


def test_every_config_map_that_a_spec_can_name_is_looked_at() -> None:
    text = (CHART / "templates/policy-borrowing.yaml").read_text().replace(".?", ".")
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    known = {
        "access.issuers.jwks.configMapKeyRef": "issuer.jwks.configMapKeyRef.name",
        "access.tls.clientCA.configMapKeyRef": "object.spec.access.tls.clientCA.configMapKeyRef.name",
        "model.verify.signature.publicKeys.configMapRef": (
            "object.spec.model.verify.signature.publicKeys.configMapRef.name"
        ),
        "model.verify.signature.certificate.authorities.configMapRef": (
            "object.spec.model.verify.signature.certificate.authorities.configMapRef.name"
        ),
        "model.verify.signature.keyless.trustRoot.configMapRef": (
            "object.spec.model.verify.signature.keyless.trustRoot.configMapRef.name"
        ),
        "rollout.audits.data.configMapRef": "audit.data.configMapRef.name",
    }
    assert set(_references(schema, (), "configmap")) == set(known)
    for field, words in known.items():
        assert words in text, field


def _references(schema: Any, path: tuple[str, ...], kind: str) -> Iterator[str]:
    for name, child in (schema.get("properties") or {}).items():
        if kind in name.lower():
            yield ".".join((*path, name))
        else:
            yield from _references(child, (*path, name), kind)
            yield from _references(child.get("items") or {}, (*path, name), kind)
