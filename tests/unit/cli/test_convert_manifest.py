"""KServe's InferenceServices become ModelDeployments, and nothing of them goes silently."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import snippets
from slipway.cli.errors import CommandError
from slipway.cli.inference_services import Converted, convert
from slipway.cli.main import main
from slipway.cli.schema import complaints

PAGE = "docs/migrating.md"
Object = dict[str, Any]


def service(predictor: Object, **more: Any) -> Object:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": predictor, **more},
    }


def onnx(**fields: Any) -> Object:
    model = {
        "modelFormat": {"name": "onnx"},
        "storageUri": "s3://models/fraud.onnx",
        "resources": {"limits": {"cpu": 1}},
    }
    return {"model": model, **fields}


def converted(document: Object) -> Converted:
    before = copy.deepcopy(document)
    found = convert(document)
    assert document == before, "it is a pure function"
    assert complaints(found.manifest) == [], "the API server takes it"
    return found


def spec(document: Object) -> Object:
    made: Object = converted(document).manifest["spec"]
    return made


def test_the_pages_manifest_converts_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, typed = snippets.commands(PAGE)
    monkeypatch.chdir(tmp_path)
    Path("service.yaml").write_text(shown.output)
    assert main(typed.text.split()[1:]) == 0
    assert capsys.readouterr().out == typed.output


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"minReplicas": 2, "maxReplicas": 4}, {"scaling": {"minReplicas": 2, "maxReplicas": 4}}),
        ({"minReplicas": 20}, {"scaling": {"minReplicas": 20, "maxReplicas": 20}}),
        ({"minReplicas": 0}, {}),
        (
            {"scaleMetric": "cpu", "scaleTarget": 60},
            {"scaling": {"metrics": [{"type": "CPU", "targetPercent": 60}]}},
        ),
        ({"canaryTrafficPercent": 0}, {}),
        ({"canaryTrafficPercent": 100}, {}),
        (
            {"canaryTrafficPercent": 25},
            {
                "rollout": {
                    "strategy": "Canary",
                    "steps": [{"setWeight": 25}, {"analysis": {}}, {"pause": {"untilApproved": True}}],
                }
            },
        ),
    ],
)
def test_scaling_and_canaries_are_carried_over(fields: Object, expected: Object) -> None:
    made = spec(service(onnx(**fields)))
    assert {name: made[name] for name in made if name not in ("model", "runtime")} == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {"cpu": 2}}, {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}),
        ({"requests": {"memory": "4Gi"}}, {"requests": {"memory": "4Gi"}, "limits": {"memory": "4Gi"}}),
        (
            {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}, "extended": {"nvidia.com/gpu": 1}},
        ),
    ],
)
def test_resources_mean_what_they_meant(resources: Object, expected: Object) -> None:
    predictor = onnx()
    predictor["model"]["resources"] = resources
    assert spec(service(predictor))["runtime"]["resources"] == expected


@pytest.mark.parametrize(
    ("name", "device"), [("nvidia.com/gpu", "CUDA"), ("nvidia.com/mig-1g.5gb", "CUDA"), ("amd.com/gpu", None)]
)
def test_what_asked_for_an_nvidia_gpu_runs_on_it(name: str, device: str | None) -> None:
    predictor = onnx()
    predictor["model"]["resources"] = {"limits": {name: 1}}
    made = convert(service(predictor))
    assert made.manifest["spec"]["runtime"].get("device") == device
    assert any("server.cudaImage" in words for words in made.check) == (device is not None)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("gs://models/fraud/model.onnx", "gs://models/fraud/model.onnx"),
        ("pvc://models/fraud/model.onnx", "pvc://models/fraud/model.onnx"),
        ("https://models.example.com/fraud.onnx", "https://models.example.com/fraud.onnx"),
        ("https://lake.blob.core.windows.net/models/fraud.onnx", "az://lake/models/fraud.onnx"),
    ],
)
def test_a_models_place_is_carried_over(uri: str, expected: str) -> None:
    predictor = onnx()
    predictor["model"]["storageUri"] = uri
    assert spec(service(predictor))["model"]["uri"] == expected


def test_a_bucket_in_a_storage_spec_is_a_place_too() -> None:
    predictor = onnx()
    del predictor["model"]["storageUri"]
    predictor["model"]["storage"] = {
        "key": "minio",
        "path": "fraud/7",
        "parameters": {"type": "s3", "bucket": "models"},
    }
    found = converted(service(predictor))
    assert found.manifest["spec"]["model"]["uri"] == "s3://models/fraud/7"
    assert found.left == ("spec.predictor.model.storage.key",)


def test_a_container_of_ones_own_stays_as_an_external_server() -> None:
    container = {
        "name": "kserve-container",
        "image": "registry.example.com/team/fraud:1",
        "args": ["--model", "/mnt/models/model.joblib"],
        "env": [
            {"name": "STORAGE_URI", "value": "s3://models/fraud"},
            {"name": "LEVEL", "value": "info"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
        ],
        "ports": [{"containerPort": 9001, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 9001}},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    found = converted(service({"containers": [container]}))
    assert found.manifest["spec"] == {
        "model": {"uri": "s3://models/fraud"},
        "runtime": {
            "server": "External",
            "image": "registry.example.com/team/fraud:1",
            "args": ["--model", "$(SLIPWAY_MODEL_DIR)/model.joblib"],
            "env": [{"name": "LEVEL", "value": "info"}],
            "ports": {"http": 9001},
            "protocol": "HTTP",
            "readiness": {"path": "/healthz"},
            "resources": {
                "requests": {"cpu": "1", "memory": "1Gi"},
                "limits": {"cpu": "1", "memory": "1Gi"},
            },
        },
    }
    assert [line.partition(":")[0] for line in found.left] == [
        "spec.predictor.containers[0].env[0].name",
        "spec.predictor.containers[0].env[0].valueFrom.secretKeyRef.name",
        "spec.predictor.containers[0].env[0].valueFrom.secretKeyRef.key",
    ]


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "tensorflow"])
def test_a_model_of_another_format_comes_with_what_to_do(name: str) -> None:
    found = converted(service({name: {"storageUri": "gs://models/iris"}}))
    assert found.manifest["spec"]["model"] == {"uri": "gs://models/iris"}
    assert any(f"the format is {name}" in line and "slipway convert" in line for line in found.check)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "predictor", "model", "args"), ["--x"]),
        (("spec", "predictor", "model", "runtime"), "kserve-tritonserver"),
        (("spec", "predictor", "containerConcurrency"), 4),
        (("spec", "predictor", "scaleMetric"), "rps"),
        (("spec", "predictor", "fieldOfALaterVersion"), {"deep": [{"er": 1}]}),
        (("spec", "explainer"), {"art": {"type": "SquareAttack"}}),
        (("spec", "somethingNew"), True),
        (("metadata", "annotations"), {"autoscaling.knative.dev/target": "5"}),
    ],
)
def test_whatever_is_not_carried_over_is_named(path: tuple[str, ...], value: Any) -> None:
    document = service(onnx())
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert any(line.startswith(".".join(path)) for line in converted(document).left)


def test_nothing_is_named_where_everything_is_carried_over() -> None:
    found = converted(
        service(onnx(nodeSelector={"pool": "a"}, imagePullSecrets=[{"name": "pull"}], timeout=3))
    )
    assert (found.left, found.check) == ((), ())
    assert found.manifest["spec"]["runtime"]["pod"] == {"imagePullSecrets": [{"name": "pull"}]}


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        (
            {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "hf://org/model"}},
            "no source for hf://org/model",
        ),
        ({"model": {"modelFormat": {"name": "onnx"}}}, "has no storageUri"),
        ({"containers": [{"image": "a"}]}, "brings its own model"),
        ({}, "neither model nor containers"),
        ("text", "no spec.predictor"),
        (onnx(timeout="soon"), "another type than KServe's"),
        (onnx(minReplicas="2"), "another type than KServe's"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_a_reason(predictor: Any, words: str) -> None:
    with pytest.raises(CommandError, match=f"InferenceService fraud: .*{words}"):
        convert(service(predictor))


def test_lists_and_other_objects_are_read_as_kubectl_prints_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = service(onnx())
    live["metadata"] |= {"uid": "1", "resourceVersion": "2", "labels": {"team": "risk"}}
    live["status"] = {"url": "http://fraud"}
    bad = service({}) | {"metadata": {"name": "empty"}}
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump({"kind": "List", "items": [live, {"kind": "Secret"}, bad]}))
    assert main(["convert-manifest", str(file)]) == 1
    printed = capsys.readouterr()
    [made] = yaml.safe_load_all(printed.out)
    assert made["metadata"] == {"name": "fraud", "labels": {"team": "risk"}}
    assert "InferenceService empty" in printed.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Secret\n", "holds no InferenceService"),
        ("a: [", "cannot be read"),
        ("kind: InferenceService\napiVersion: serving.kserve.io/v1alpha2\n", "v1alpha2"),
    ],
)
def test_a_file_without_one_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert main(["convert-manifest", str(tmp_path / "a.yaml")]) == 1
    assert words in capsys.readouterr().err
