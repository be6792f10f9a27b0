"""Every sentence about an InferenceService that becomes a ModelDeployment, whole."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli.errors import CommandError
from slipway.cli.inference_services import convert
from tests.unit.cli.test_convert_manifest import Object, converted, onnx, service, spec

FORMATS = [
    *("sklearn", "xgboost", "lightgbm", "tensorflow", "pytorch", "triton"),
    *("pmml", "paddle", "mlflow", "huggingface"),
]
OTHER_FORMAT = (
    "and Slipway's server runs ONNX: convert the model (slipway convert) and let spec.model.uri name the "
    ".onnx file, or serve it by a server of your own (runtime.server: External)"
)
NO_RESOURCES = "without resources KServe gives 1 CPU and 2Gi, Slipway 100m and 256Mi"
OWN = {
    "image": "a",
    "args": ["/mnt/models"],
    "env": [{"name": "STORAGE_URI", "value": "s3://models/fraud"}],
    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}},
    "resources": {"limits": {"cpu": "1"}},
}


def model(**fields: Any) -> Object:
    predictor = onnx()
    predictor["model"] |= fields
    return predictor


@pytest.mark.parametrize("name", FORMATS)
def test_a_predictor_by_the_name_of_its_format_says_that_it_has_to_be_converted(name: str) -> None:
    found = converted(service({name: {"storageUri": "gs://models/iris", "name": "it"}}))
    assert found.check == (f"the format is {name}, {OTHER_FORMAT}", NO_RESOURCES)
    assert found.left == ()


def test_onnx_by_its_name_has_to_be_checked_for_nothing() -> None:
    predictor = {"onnx": {"storageUri": "gs://models/iris", "resources": {"limits": {"cpu": 1}}}}
    assert (converted(service(predictor)).check, converted(service(predictor)).left) == ((), ())


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        (onnx(), []),
        (model(resources={}), [NO_RESOURCES]),
        (model(protocolVersion="v2", name="it", modelFormat={"name": "onnx", "version": "1"}), []),
        (
            model(resources={"limits": {"nvidia.com/gpu": 1}}),
            [
                "with runtime.device: CUDA the installation needs an image for it (server.cudaImage of the "
                "chart's values); without device the model runs on the CPU, and needs no GPU"
            ],
        ),
        (
            model(storageUri="oci://registry.example.com/fraud:1"),
            ["spec.model.uri has to name an artifact with a model in it (oras push), not an image"],
        ),
        (
            onnx(serviceAccountName="reader"),
            [
                "the ServiceAccount reader has to have an identity in the cloud; where it names a Secret "
                "with keys instead, write credentials: {secretRef: {name: SECRET}} (docs/model-sources.md)"
            ],
        ),
        (onnx(minReplicas=0), ["minReplicas is 1: Slipway does not scale to zero"]),
        (
            onnx(canaryTrafficPercent=25),
            [
                "a new revision gets 25% and is judged by its errors; then it waits for kubectl slipway "
                "promote, as it waited for another canaryTrafficPercent"
            ],
        ),
        ({"containers": [OWN]}, []),
        (
            {"containers": [{**OWN, "args": ["/models"]}]},
            ["the model's files are in the folder $SLIPWAY_MODEL_DIR, not in /mnt/models"],
        ),
        (
            {"containers": [{**OWN, "readinessProbe": {}}]},
            ["without readinessProbe the server has to answer /v2/health/ready"],
        ),
    ],
)
def test_what_is_to_be_checked_is_said_in_full(predictor: Object, words: list[str]) -> None:
    found = convert(service(predictor))
    assert (list(found.check), found.left) == (words, ())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logger": {"url": "http://log"}}, "requests are not logged; spec.monitoring counts them"),
        ({"batcher": {"maxBatchSize": 8}}, "batching is automatic; spec.runtime.batching limits its rows"),
        ({"scaleMetric": "rps"}, "spec.scaling follows CPU"),
        ({"scaleTarget": 3}, "spec.scaling follows CPU"),
        ({"autoScaling": {"metrics": [1]}}, "spec.scaling follows CPU"),
        ({"containerConcurrency": 4}, "the model server limits its own queue"),
        ({"workerSpec": {"size": 2}}, "a model runs in one pod"),
        ({"deploymentStrategy": {"type": "Recreate"}}, "see spec.rollout.strategy"),
        ({"volumes": [{"name": "a"}]}, "pods get the model's files and no other volume"),
    ],
)
def test_what_is_left_out_comes_with_what_to_do(fields: Object, words: str) -> None:
    [name] = fields
    assert converted(service(onnx(**fields))).left == (f"spec.predictor.{name}: {words}",)


def test_what_is_left_out_beside_the_predictor_comes_with_what_to_do() -> None:
    found = converted(service(onnx(), transformer={"containers": [{}, {"image": "a"}]}, explainer={"a": 1}))
    assert found.left == (
        "spec.transformer: put it into the model's graph, or into a server of your own",
        "spec.explainer: run it as a Deployment of its own",
    )


@pytest.mark.parametrize(
    "key",
    [
        "serving.kserve.io/deploymentMode",
        "kserve.io/x",
        "autoscaling.knative.dev/target",
        "sidecar.istio.io/inject",
        "serving.knative.openshift.io/enablePassthrough",
    ],
)
@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_what_means_something_to_another_project_is_left_out(key: str, where: str) -> None:
    document = service(onnx())
    document["metadata"] |= {"namespace": "payments", where: {key: "yes", "team.example.com/a": "risk"}}
    found = converted(document)
    assert found.manifest["metadata"] == {
        "name": "fraud",
        "namespace": "payments",
        where: {"team.example.com/a": "risk"},
    }
    assert found.left == (f"metadata.{where}.{key}",)


def test_what_kubectl_applied_last_is_nobodys_wish() -> None:
    document = service(onnx())
    document["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    found = converted(document)
    assert (found.manifest["metadata"], found.left) == ({"name": "fraud"}, ())


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        ("text", "it has no spec.predictor"),
        ({}, "spec.predictor has neither model nor containers"),
        (
            {"model": {"modelFormat": {"name": "onnx"}, "storage": {"path": "a"}}},
            "spec.predictor.model has no storageUri, and no bucket and path in storage",
        ),
        (
            {"model": {"storage": {"parameters": {"bucket": "a"}}}},
            "spec.predictor.model has no storageUri, and no bucket and path in storage",
        ),
        (
            {"containers": [{"image": "a"}]},
            "its container brings its own model: put the files into a store and name them by STORAGE_URI",
        ),
        (
            model(storageUri="hf://org/model"),
            "there is no source for hf://org/model: put the model into a bucket, MLflow, a registry or a "
            "volume",
        ),
        (
            onnx(timeout="soon"),
            "a field has another type than KServe's: invalid literal for int() with base 10: 'soon'",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_in_full_words(predictor: Any, words: str) -> None:
    with pytest.raises(CommandError) as refused:
        convert(service(predictor))
    assert str(refused.value) == f"InferenceService fraud: {words}"


@pytest.mark.parametrize("metadata", [None, {}, {"name": 1}])
def test_one_without_a_name_is_refused(metadata: Any) -> None:
    with pytest.raises(CommandError, match=r"^an InferenceService without metadata\.name$"):
        convert({**service(onnx()), "metadata": metadata})


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(1, 1000), (3600, 3_600_000), (4000, 3_600_000), ("30", 30_000)]
)
def test_a_timeout_is_told_in_milliseconds(seconds: Any, milliseconds: int) -> None:
    made = spec(service(onnx(timeout=seconds)))
    assert made["runtime"]["requestTimeoutMilliseconds"] == milliseconds


def test_what_a_pod_has_goes_where_slipway_takes_it() -> None:
    pod = {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
    }
    kept = {
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
    }
    spread = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    constraint = {**spread, "labelSelector": {"matchLabels": {"a": "b"}}}
    fields = {**pod, **kept, "topologySpreadConstraints": [constraint], "serviceAccountName": "reader"}
    made = spec(service({**model(storageUri="pvc://models/fraud.onnx"), **fields}))
    assert made["runtime"]["pod"] == {"serviceAccountName": "reader", **pod, "topologySpread": [spread]}
    assert {name: made["runtime"][name] for name in kept} == kept
    assert "credentials" not in made["model"]


@pytest.mark.parametrize(("replicas", "most"), [(10, None), (11, 11)])
def test_a_lower_bound_above_the_default_of_the_upper_raises_it(replicas: int, most: int | None) -> None:
    assert spec(service(onnx(minReplicas=replicas)))["scaling"].get("maxReplicas") == most


@pytest.mark.parametrize(
    ("ports", "expected", "left"),
    [
        ([{"containerPort": 8080}], None, 0),
        ([{"containerPort": 9000}], {"http": 9000}, 0),
        ([{"containerPort": 8080}, {"containerPort": 9000}], None, 2),
        ([{"containerPort": "http"}], None, 1),
    ],
)
def test_one_port_is_the_servers_and_several_are_told(ports: Any, expected: Any, left: int) -> None:
    found = convert(service({"containers": [{**OWN, "ports": ports}]}))
    assert found.manifest["spec"]["runtime"].get("ports") == expected
    assert len(found.left) == left


def test_resources_that_no_model_can_have_are_told() -> None:
    limits = {"cpu": 1, "ephemeral-storage": "1Gi", "example.com/odd": "1.5"}
    found = converted(service(model(resources={"limits": limits})))
    assert found.manifest["spec"]["runtime"]["resources"] == {
        "requests": {"cpu": "1"},
        "limits": {"cpu": "1"},
    }
    assert found.left == (
        "spec.predictor.model.resources.ephemeral-storage",
        "spec.predictor.model.resources.example.com/odd",
    )
