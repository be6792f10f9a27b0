"""KServe's InferenceServices as ModelDeployments: a pure function, which names all that it leaves out."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.cli.errors import CommandError
from slipway.names import API_VERSION, KIND

SOURCE_VERSION = "serving.kserve.io/v1beta1"
SOURCE_KIND = "InferenceService"

Object = dict[str, Any]
Path = tuple[str | int, ...]

#: Predictors of their own, as they were written before ``model.modelFormat``.
_FORMATS = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnx",
    "tensorflow",
    "pytorch",
    "triton",
    "pmml",
    "paddle",
    "mlflow",
    "huggingface",
)
_BUCKETS = ("s3://", "gs://", "az://")
#: Where KServe mounts a model's files, and the variable that names Slipway's folder in commands.
_KSERVE_FOLDER, _FOLDER = "/mnt/models", "$(SLIPWAY_MODEL_DIR)"
_AZURE = re.compile(r"https://([a-z0-9]+)\.blob\.core\.windows\.net/(.+)")
#: Annotations and labels that mean something to KServe, Knative or kubectl alone.
_FOREIGN = re.compile(r"(.*\.)?(kserve\.io|knative\.dev|istio\.io|kubectl\.kubernetes\.io|openshift\.io)/")
#: What to do instead, by the beginning of the path of what is left; the first that fits.
_ADVICE: tuple[tuple[str, str], ...] = (
    ("spec.transformer", "put it into the model's graph, or into a server of your own"),
    ("spec.explainer", "run it as a Deployment of its own"),
    ("spec.predictor.logger", "requests are not logged; spec.monitoring counts them"),
    ("spec.predictor.batcher", "batching is automatic; spec.runtime.batching limits its rows"),
    ("spec.predictor.scaleMetric", "spec.scaling follows CPU"),
    ("spec.predictor.scaleTarget", "spec.scaling follows CPU"),
    ("spec.predictor.autoScaling", "spec.scaling follows CPU"),
    ("spec.predictor.containerConcurrency", "the model server limits its own queue"),
    ("spec.predictor.workerSpec", "a model runs in one pod"),
    ("spec.predictor.deploymentStrategy", "see spec.rollout.strategy"),
    ("spec.predictor.volumes", "pods get the model's files and no other volume"),
)


@dataclass(frozen=True)
class Converted:
    """A ModelDeployment, and what a person has to know before applying it.

    Attributes:
        manifest: the ModelDeployment.
        left: what was not carried over, each with its path in the InferenceService.
        check: what was carried over and may mean something else.
    """

    manifest: Object
    left: tuple[str, ...]
    check: tuple[str, ...]


def convert(service: Mapping[str, Any]) -> Converted:
    """The ModelDeployment that serves what an InferenceService serves.

    Raises:
        CommandError: where there is no model in it, or one that Slipway has no source for.
    """
    try:
        return _Conversion(service).done()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        name = (service.get("metadata") or {}).get("name")
        raise CommandError(
            f"{SOURCE_KIND} {name}: a field has another type than KServe's: {error}"
        ) from error


class _Conversion:
    """Takes what it carries over out of a copy; what is in there at the end was not carried over."""

    def __init__(self, service: Mapping[str, Any]) -> None:
        self._rest: Object = copy.deepcopy(dict(service))
        self._check: list[str] = []
        self._runtime: Object = {}
        self._model: Object = {}
        metadata = self._take("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise CommandError(f"an {SOURCE_KIND} without metadata.name")
        self._name: str = metadata["name"]
        self._metadata = self._of_metadata(metadata)
        self._rest.pop("status", None)

    def done(self) -> Converted:
        for name in ("apiVersion", "kind"):
            self._take(name)
        if not isinstance(self._see("spec", "predictor"), dict):
            raise self._error("it has no spec.predictor")
        containers = self._see("spec", "predictor", "containers")
        if isinstance(containers, list) and containers:
            self._own_server()
        else:
            self._format()
        self._pod()
        spec: Object = {"model": self._model}
        if seconds := self._take("spec", "predictor", "timeout"):
            self._runtime["requestTimeoutMilliseconds"] = min(int(seconds) * 1000, 3_600_000)
        if self._runtime:
            spec["runtime"] = self._runtime
        spec |= self._scaling() | self._rollout()
        manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": self._metadata, "spec": spec}
        return Converted(manifest, tuple(self._left()), tuple(self._check))

    def _of_metadata(self, metadata: Object) -> Object:
        """Name, namespace, labels and annotations; what an API server adds is nobody's wish."""
        kept: Object = {"name": metadata["name"]}
        foreign: Object = {}
        if namespace := metadata.get("namespace"):
            kept["namespace"] = namespace
        for name in ("labels", "annotations"):
            found = metadata.get(name) or {}
            if ours := {key: value for key, value in found.items() if not _FOREIGN.match(key)}:
                kept[name] = ours
            if theirs := {
                key: value for key, value in found.items() if key not in ours and "last-applied" not in key
            }:
                foreign[name] = theirs
        if foreign:
            self._rest["metadata"] = foreign
        return kept

    def _format(self) -> None:
        """One of KServe's runtimes: Slipway's own server takes its place."""
        predictor = self._rest["spec"]["predictor"]
        [name, *_] = [key for key in ("model", *_FORMATS) if isinstance(predictor.get(key), dict)] or [""]
        if not name:
            raise self._error("spec.predictor has neither model nor containers")
        where: Path = ("spec", "predictor", name)
        kind = self._take(*where, "modelFormat", "name") if name == "model" else name
        self._take(*where, "protocolVersion")  # both are spoken
        self._take(*where, "name")
        if kind == "onnx":
            self._take(*where, "modelFormat", "version")
        uri = self._take(*where, "storageUri")
        if uri is None:
            uri = self._storage(where)
        self._source(str(uri))
        if kind != "onnx":
            self._check.append(
                f"the format is {kind}, and Slipway's server runs ONNX: convert the model (slipway convert) "
                "and let spec.model.uri name the .onnx file, or serve it by a server of your own "
                "(runtime.server: External)"
            )
        self._resources(where)
        if any(
            name.startswith("nvidia.com/") for name in self._runtime.get("resources", {}).get("extended", {})
        ):
            self._runtime["device"] = "CUDA"
            self._check.append(
                "with runtime.device: CUDA the installation needs an image for it (server.cudaImage of the "
                "chart's values); without device the model runs on the CPU, and needs no GPU"
            )

    def _storage(self, where: Path) -> str:
        """A model by a key of KServe's storage Secret, where the bucket is named."""
        bucket = self._take(*where, "storage", "parameters", "bucket")
        path = self._take(*where, "storage", "path")
        if not bucket or not path:
            raise self._error(f"{_told(where)} has no storageUri, and no bucket and path in storage")
        self._take(*where, "storage", "parameters", "type")
        return f"s3://{bucket}/{str(path).lstrip('/')}"

    def _own_server(self) -> None:
        """A container of the user's: it stays, and gets the model's files from Slipway."""
        where: Path = ("spec", "predictor", "containers", 0)
        env = self._see(*where, "env") or []
        found = [one.get("value") for one in env if one.get("name") == "STORAGE_URI"]
        uri = self._take(*where, "storageUri") or (found[0] if found else None)
        if not uri:
            raise self._error(
                "its container brings its own model: put the files into a store and name them by STORAGE_URI"
            )
        self._source(str(uri))
        self._runtime["server"] = "External"
        self._take(*where, "name")
        for name in ("image", "command", "args"):
            if (value := self._take(*where, name)) is not None:
                self._runtime[name] = value
        texts = [*self._runtime.get("command", ()), *self._runtime.get("args", ())]
        for name in ("command", "args"):
            if name in self._runtime:
                self._runtime[name] = [
                    str(one).replace(_KSERVE_FOLDER, _FOLDER) for one in self._runtime[name]
                ]
        if not any(_KSERVE_FOLDER in str(one) for one in texts):
            self._check.append(
                f"the model's files are in the folder $SLIPWAY_MODEL_DIR, not in {_KSERVE_FOLDER}"
            )
        plain = [one for one in env if set(one) <= {"name", "value"}]
        if plain_env := [one for one in plain if one.get("name") != "STORAGE_URI"]:
            self._runtime["env"] = plain_env
        self._put(*where, "env", value=[one for one in env if one not in plain])
        self._port(where)
        path = self._take(*where, "readinessProbe", "httpGet", "path")
        for name in ("port", "scheme"):
            self._take(*where, "readinessProbe", "httpGet", name)
        if path:
            self._runtime |= {"protocol": "HTTP", "readiness": {"path": path}}
        else:
            self._check.append("without readinessProbe the server has to answer /v2/health/ready")
        self._resources(where)

    def _port(self, where: Path) -> None:
        ports = self._see(*where, "ports") or []
        if len(ports) == 1 and isinstance(number := ports[0].get("containerPort"), int):
            self._take(*where, "ports")
            if number != 8080:
                self._runtime["ports"] = {"http": number}

    def _source(self, uri: str) -> None:
        if azure := _AZURE.fullmatch(uri):
            uri = f"az://{azure[1]}/{azure[2]}"
        if not uri.startswith((*_BUCKETS, "https://", "pvc://", "mlflow://", "oci://")):
            raise self._error(
                f"there is no source for {uri}: put the model into a bucket, MLflow, a registry or a volume"
            )
        if uri.startswith("oci://"):
            self._check.append(
                "spec.model.uri has to name an artifact with a model in it (oras push), not an image"
            )
        self._model["uri"] = uri
        account = self._take("spec", "predictor", "serviceAccountName")
        if account and uri.startswith(_BUCKETS):
            self._model["credentials"] = {"serviceAccountName": account}
            self._check.append(
                f"the ServiceAccount {account} has to have an identity in the cloud; where it names a Secret "
                "with keys instead, write credentials: {secretRef: {name: SECRET}} (docs/model-sources.md)"
            )
        elif account:
            self._runtime.setdefault("pod", {})["serviceAccountName"] = account

    def _resources(self, where: Path) -> None:
        requests = self._take(*where, "resources", "requests") or {}
        limits = self._take(*where, "resources", "limits") or {}
        if not requests and not limits:
            self._check.append("without resources KServe gives 1 CPU and 2Gi, Slipway 100m and 256Mi")
            return
        for name in ("cpu", "memory"):
            if name in limits:
                requests.setdefault(name, limits[name])  # as Kubernetes does
        if "memory" in requests:
            limits.setdefault("memory", requests["memory"])
        made: Object = {}
        for name, found in (("requests", requests), ("limits", limits)):
            if kept := {key: str(found[key]) for key in ("cpu", "memory") if key in found}:
                made[name] = kept
        others = {**requests, **limits}
        if extended := {key: int(others[key]) for key in others if "/" in key and str(others[key]).isdigit()}:
            made["extended"] = extended
        odd = {key: value for key, value in others.items() if key not in (*extended, "cpu", "memory")}
        self._put(*where, "resources", value=odd)
        if made:
            self._runtime["resources"] = made

    def _pod(self) -> None:
        """What KServe takes as a pod has it."""
        for name in ("nodeSelector", "tolerations", "affinity"):
            if value := self._take("spec", "predictor", name):
                self._runtime[name] = value
        pod = self._runtime.pop("pod", {})
        for name in ("imagePullSecrets", "labels", "annotations", "priorityClassName", "runtimeClassName"):
            if value := self._take("spec", "predictor", name):
                pod[name] = value
        spread = self._take("spec", "predictor", "topologySpreadConstraints") or []
        known = ("topologyKey", "maxSkew", "whenUnsatisfiable")
        if places := [{key: one[key] for key in known if key in one} for one in spread]:
            pod["topologySpread"] = places
        if pod:
            self._runtime["pod"] = pod

    def _scaling(self) -> Object:
        fewest = self._take("spec", "predictor", "minReplicas")
        most = self._take("spec", "predictor", "maxReplicas")
        scaling: Object = {}
        if fewest == 0:
            self._check.append("minReplicas is 1: Slipway does not scale to zero")
        if fewest:
            scaling["minReplicas"] = fewest
        if most:
            scaling["maxReplicas"] = most
        elif fewest and fewest > 10:
            scaling["maxReplicas"] = fewest
        if self._see("spec", "predictor", "scaleMetric") == "cpu":
            self._take("spec", "predictor", "scaleMetric")
            if target := self._take("spec", "predictor", "scaleTarget"):
                scaling["metrics"] = [{"type": "CPU", "targetPercent": target}]
        return {"scaling": scaling} if scaling else {}

    def _rollout(self) -> Object:
        percent = self._take("spec", "predictor", "canaryTrafficPercent")
        if percent is None or not 0 < percent < 100:
            return {}
        self._check.append(
            f"a new revision gets {percent}% and is judged by its errors; then it waits for kubectl slipway "
            "promote, as it waited for another canaryTrafficPercent"
        )
        steps = [{"setWeight": percent}, {"analysis": {}}, {"pause": {"untilApproved": True}}]
        return {"rollout": {"strategy": "Canary", "steps": steps}}

    def _see(self, *path: str | int) -> Any:
        value: Any = self._rest
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def _take(self, *path: str | int) -> Any:
        value, parent = self._see(*path), self._see(*path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        return value

    def _put(self, *path: str | int, value: Any) -> None:
        self._see(*path[:-1])[path[-1]] = value

    def _left(self) -> Iterator[str]:
        """In the order of the InferenceService; what one piece of advice is about, as one."""
        told = [_told(path) for path in _leaves(self._rest, ())]
        lines = [
            next((f"{one}: {words}" for one, words in _ADVICE if path.startswith(one)), path) for path in told
        ]
        yield from dict.fromkeys(lines)

    def _error(self, words: str) -> CommandError:
        return CommandError(f"{SOURCE_KIND} {self._name}: {words}")


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    """Paths of what holds something; an empty object or list was wished by nobody."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, (*path, number))
    elif value is not None:
        yield path


def _told(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
