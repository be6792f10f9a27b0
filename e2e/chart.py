"""`python -m e2e.chart`: lint the chart, and hold what it renders against the schemas of Kubernetes.

The schemas come from the OpenAPI description in Kubernetes' own Go module, at the version that the tests run.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2e.cluster.command import run, step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, KUBECONFORM, KUBERNETES_VERSION, Tools
from e2e.helm import CHART, Helm

Schema = dict[str, Any]

#: Installations that differ in which manifests the chart renders.
INSTALLATIONS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "some namespaces only": {"watchNamespaces": ["payments", "risk"]},
    "one replica, no extras": {
        "replicas": 1,
        "crds": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "an MLflow server": {"mlflow": {"trackingURI": "http://mlflow.mlflow:5000"}},
}
#: What the OpenAPI description calls a string although numbers are as good.
NUMBER_OR_TEXT: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["number", "string"]},
}


def write_schemas(folder: Path, description: Mapping[str, Any]) -> None:
    """Write one JSON Schema per kind, named as kubeconform asks for them, from an OpenAPI v2 description.

    Unknown fields are refused, as the API server refuses them under strict validation.
    """
    definitions: dict[str, Schema] = {**description["definitions"], **NUMBER_OR_TEXT}
    for name, definition in definitions.items():
        if "properties" in definition and "additionalProperties" not in definition:
            definitions[name] = {**definition, "additionalProperties": False}
    folder.mkdir(parents=True, exist_ok=True)
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            needed = {other: definitions[other] for other in _reachable(name, definitions)}
            schema = {"$ref": f"#/definitions/{name}", "definitions": needed}
            # The core group has no name; kubeconform takes its version for one.
            group = kind["group"] or kind["version"]
            path = folder / f"{group}_{kind['version']}_{kind['kind'].lower()}.json"
            path.write_text(json.dumps(schema))


def _reachable(name: str, definitions: Mapping[str, Schema]) -> set[str]:
    """The definition itself and all that it refers to, directly or not."""
    found = {name}
    unread = [name]
    while unread:
        for other in set(_references(definitions[unread.pop()])) - found:
            found.add(other)
            unread.append(other)
    return found


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/definitions/")
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def conform(program: Path, schemas: Path) -> list[str]:
    """The command that holds manifests from standard input against schemas that `write_schemas` wrote."""
    location = schemas / "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"
    return [str(program), "-strict", "-summary", "-schema-location", str(location)]


def check(cache: Path) -> None:
    """Raise ClusterError with what is wrong, and where."""
    tools = Tools(cache)
    helm = Helm(tools.install(HELM), Path("/dev/null"))
    schemas = cache / f"schemas-{KUBERNETES_VERSION}"
    if not schemas.exists():
        with step(f"schemas of Kubernetes {KUBERNETES_VERSION}"):
            found = json.loads(
                run(["go", "mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES_VERSION}"])
            )
            described = Path(found["Dir"]) / "api" / "openapi-spec" / "swagger.json"
            unfinished = schemas.with_suffix(".part")
            write_schemas(unfinished, json.loads(described.read_text()))
            unfinished.rename(schemas)
    kubeconform = tools.install(KUBECONFORM)
    for title, values in INSTALLATIONS.items():
        helm.helm("lint", "--strict", f"--kube-version={KUBERNETES_VERSION}", str(CHART), values=values)
        rendered = helm.template(values)
        said = run(conform(kubeconform, schemas), stdin=rendered.encode())
        print(f"{title}: {said.strip()}")


def main() -> int:
    """Check the chart; returns the exit code."""
    try:
        check(read_settings().cache)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
