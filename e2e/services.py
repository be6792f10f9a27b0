"""What stands beside Slipway on the test cluster: `python -m e2e.services [NAME…]`."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from e2e.cluster.command import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
from e2e.helm import CHART
from e2e.images.archives import build, load
from e2e.images.catalog import ROOT, find_image
from e2e.kube import Kube, Object
from e2e.prometheus import hurried_routes, hurried_rules

#: Each one's namespace; its Deployment and its Service have its own name.
NAMESPACES = {"mlflow": "mlflow", "prometheus": "monitoring", "alertmanager": "monitoring"}
MANIFESTS = Path(__file__).resolve().parent / "images"
READY_SECONDS = 240.0
RULES = CHART / "rules" / "slipway.yaml"
ROUTES = ROOT / "examples" / "alertmanager.yaml"
#: How long an alert and a group of alerts wait here at most, so that nobody has to.
WAIT = "10s"


def start(names: Sequence[str], settings: Settings) -> None:
    """Build, load and run these services, and wait until they are ready; nothing happens where they are."""
    references = load(build(map(find_image, names), settings.cache), settings)
    kube = Kube.of(settings)
    for name in names:
        kube.apply(*manifests(name, references[name]))
    for name in names:
        with step(f"waiting for {name}"):
            kube.wait_for_rollout(f"deployment/{name}", NAMESPACES[name], READY_SECONDS)


def manifests(name: str, image: str) -> list[Object]:
    """A service's objects with this image; its pods are made anew when its configuration changes."""
    text = (MANIFESTS / f"{name}.yaml").read_text().replace(find_image(name).name, image)
    objects: list[Object] = list(yaml.safe_load_all(text))
    configured = [each for each in objects if each["kind"] == "ConfigMap"]
    for each in configured:
        each["data"] |= _shipped(name)
    digest = hashlib.sha256(json.dumps([each["data"] for each in configured]).encode()).hexdigest()
    for each in objects:
        if each["kind"] == "Deployment" and configured:
            each["spec"]["template"]["metadata"]["annotations"] = {"slipway.dev/configuration": digest[:16]}
    return objects


def _shipped(name: str) -> dict[str, str]:
    """Files of its configuration that users have as well."""
    if name == "prometheus":
        return {"slipway.yaml": hurried_rules(RULES.read_text(), WAIT)}
    if name == "alertmanager":
        return {"alertmanager.yml": hurried_routes(ROUTES.read_text(), WAIT)}
    return {}


def main() -> int:
    """Start what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.services", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMESPACES, []], metavar="NAME", help=", ".join(NAMESPACES)
    )
    try:
        start(parser.parse_args().names or [*NAMESPACES], read_settings())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
