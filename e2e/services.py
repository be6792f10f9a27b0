"""What stands beside Slipway on the test cluster: `python -m e2e.services [mlflow prometheus]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from e2e.cluster.command import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import Tools
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube

#: Each one's namespace; its Deployment and its Service have its own name.
NAMESPACES = {"mlflow": "mlflow", "prometheus": "monitoring", "envoy-gateway": "envoy-gateway"}
#: What runs where nothing is named; the others bring kinds of their own to the cluster.
USUAL = ("mlflow", "prometheus")
#: Images beside a service's own that its manifest names.
_BESIDE = {"envoy-gateway": ("router",)}
MANIFESTS = Path(__file__).resolve().parent / "images"
READY_SECONDS = 240.0


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
        manifest = (MANIFESTS / f"{name}.yaml").read_text()
        for image in (name, *_BESIDE.get(name, ())):
            manifest = manifest.replace(find_image(image).name, references[image])
        kube.apply(*yaml.safe_load_all(manifest))
    for name in names:
        with step(f"waiting for {name}"):
            kube.wait_for_rollout(f"deployment/{name}", NAMESPACES[name], READY_SECONDS)


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
