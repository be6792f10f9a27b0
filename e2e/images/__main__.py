"""`python -m e2e.images build [NAME…]`: build what changed and load it into the cluster."""

import argparse
import sys

from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import read_settings
from e2e.images.archives import build, load
from e2e.images.catalog import NAMES, USUAL, find_image


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("build", help="build what changed and load it into the cluster, if one is up")
    verb.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; {', '.join(USUAL)} if none is given"
    )
    verb.add_argument("--force", action="store_true", help="build and load even what is unchanged")
    verb.add_argument("--no-load", action="store_true", help="leave the cluster alone")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    try:
        settings = read_settings()
        images = [find_image(name) for name in arguments.names or USUAL]
        archives = build(images, settings.cache, force=arguments.force)
        for archive in archives:
            print(f"{archive.image.name}  {archive.path.stat().st_size / 1e6:.0f} MB  {archive.path}")
        if not arguments.no_load and settings.kubeconfig.exists():
            for reference in load(archives, settings, force=arguments.force).values():
                print(reference)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
