"""What stands beside Slipway on the test cluster: `python -m e2e.services [NAME…]`."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from e2e.cluster.command import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import Tools
from e2e.helm import CHART
from e2e.images.archives import build, load
from e2e.images.catalog import ROOT, find_image
from e2e.kube import Kube, Object
from e2e.prometheus import hurried_routes, hurried_rules

#: Each one's namespace; its Deployment and its Service have its own name.
NAMESPACES = {
    "mlflow": "mlflow",
    "prometheus": "monitoring",
    "alertmanager": "monitoring",
    "envoy-gateway": "envoy-gateway",
}
#: What runs where nothing is named; the other brings kinds of its own to the cluster.
USUAL = ("mlflow", "prometheus", "alertmanager")
#: Images beside a service's own that its manifest names.
_BESIDE = {"envoy-gateway": ("router",)}
MANIFESTS = Path(__file__).resolve().parent / "images"
READY_SECONDS = 240.0
RULES = CHART / "rules" / "slipway.yaml"
ROUTES = ROOT / "examples" / "alertmanager.yaml"
#: How long an alert and a group of alerts wait here at most, so that nobody has to.
WAIT = "10s"


def start(names: Sequence[str], settings: Settings) -> None:
    """Build, load and run these services, and wait until they are ready; nothing happens where they are."""
    images = [*names, *(beside for name in names for beside in _BESIDE.get(name, ()))]
    references = load(build(map(find_image, images), settings.cache), settings)
    kube = Kube.of(settings)
    if "envoy-gateway" in names:
        crds = Tools(settings.cache).gateway_crds()
        for path in (crds / "gatewayapi-crds.yaml", crds / "generated"):
            # Too large for what a client-side apply notes on them.
            kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
        kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", seconds=90)
    for name in names:
        beside = {short: references[short] for short in _BESIDE.get(name, ())}
        kube.apply(*manifests(name, references[name], beside))
    for name in names:
        with step(f"waiting for {name}"):
            kube.wait_for_rollout(f"deployment/{name}", NAMESPACES[name], READY_SECONDS)


def manifests(name: str, image: str, beside: Mapping[str, str] | None = None) -> list[Object]:
    """A service's objects with this image and those beside it, by their short names.

    Its pods are made anew when its configuration changes.
    """
    text = (MANIFESTS / f"{name}.yaml").read_text()
    for short, reference in {name: image, **(beside or {})}.items():
        text = text.replace(find_image(short).name, reference)
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
        start(parser.parse_args().names or USUAL, read_settings())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
