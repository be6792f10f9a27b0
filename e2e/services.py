"""What stands beside Slipway on the test cluster: `python -m e2e.services [mlflow prometheus]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from e2e.cluster.command import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube

#: Each one's namespace; its Deployment and its Service have its own name.
NAMESPACES = {"mlflow": "mlflow", "prometheus": "monitoring"}
MANIFESTS = Path(__file__).resolve().parent / "images"
READY_SECONDS = 240.0


def start(names: Sequence[str], settings: Settings) -> None:
    """Build, load and run these services, and wait until they are ready; nothing happens where they are."""
    references = load(build(map(find_image, names), settings.cache), settings)
    kube = Kube.of(settings)
    for name in names:
        manifest = (MANIFESTS / f"{name}.yaml").read_text().replace(find_image(name).name, references[name])
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
        start(parser.parse_args().names or [*NAMESPACES], read_settings())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
