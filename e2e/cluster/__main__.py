"""`python -m e2e.cluster`: one command over the providers."""

import argparse
import os
import sys
import time
from pathlib import Path

from e2e.cluster.command import tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.provider import choose_provider, find_provider
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import Tools

EPILOG = """\
environment:
  SLIPWAY_CLUSTER=kind|node   force a provider; else kind where Docker and its node image are within reach
  SLIPWAY_NODES=N             number of nodes (default: what runs, or one)
  SLIPWAY_KIND_IMAGE=NAME     image of kind's nodes (default: the one that kind is released with)
  SLIPWAY_CLUSTER_NAME=NAME   which cluster (default: slipway); several can run side by side
  SLIPWAY_CLUSTER_DIR=FOLDER  where running clusters keep their state (default: /var/lib/slipway)
  SLIPWAY_CACHE=FOLDER        where built programs and images are kept (default: ~/.cache/slipway)
"""
PASSED_ON = {
    "kubectl": "kubectl on this cluster",
    "run": "a command of this machine in the first node's network: run -- CMD",
}


def main() -> int:
    """Parse the command line and do what it says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("up", help="make the cluster, or repair it")
    verbs.add_parser("down", help="remove the cluster and everything it left")
    verbs.add_parser("status", help="show the parts; exit code 1 unless all are well")
    load = verbs.add_parser("load", help="put image archives on the nodes, print name@sha256:… of each")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE_ARCHIVE")
    for name, what in PASSED_ON.items():
        verbs.add_parser(name, help=what, add_help=False)
    verbs.add_parser("env", help='print exports for a shell: eval "$(python -m e2e.cluster env)"')
    verbs.add_parser("tools", help="build kubectl and helm, print their folder")
    asked, words = parser.parse_known_args()
    if asked.verb in PASSED_ON:
        # Taken as they stand: the command's options are none of ours.
        words = sys.argv[2:]
    elif words:
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    try:
        return _do(asked, words, read_settings())
    except ClusterError as problem:
        tell(f"error: {problem}")
        return 1
    except KeyboardInterrupt:
        return 130


def _do(asked: argparse.Namespace, words: list[str], settings: Settings) -> int:
    tools = Tools(settings.cache)
    if asked.verb == "tools":
        tools.expose()
        print(tools.bin)
        return 0
    if asked.verb == "env":
        for line in _environment(settings, tools):
            print(line)
        return 0
    if asked.verb == "kubectl":
        if not settings.kubeconfig.exists():
            raise ClusterError(f"cluster {settings.name} is not up: run `python -m e2e.cluster up`")
        tools.expose()
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)
        os.execv(tools.bin / "kubectl", ["kubectl", *_command(asked.verb, words)])
    provider = choose_provider(settings) if asked.verb == "up" else find_provider(settings)
    if asked.verb == "up":
        started = time.monotonic()
        provider.up()
        seconds = time.monotonic() - started
        tell(f"cluster {settings.name} ({provider.kind}) is up after {seconds:.0f} s")
        tell(f"KUBECONFIG={settings.kubeconfig}")
    elif asked.verb == "down":
        provider.down()
    elif asked.verb == "load":
        print("\n".join(provider.load(asked.archives)))
    elif asked.verb == "run":
        return provider.run(_command(asked.verb, words))
    elif asked.verb == "status":
        return 0 if provider.status() else 1
    return 0


def _command(verb: str, words: list[str]) -> list[str]:
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise ClusterError(f"{verb} needs a command: python -m e2e.cluster {verb} …")
    return words


def _environment(settings: Settings, tools: Tools) -> list[str]:
    return [
        f"export KUBECONFIG={settings.kubeconfig}",
        f"export PATH={tools.bin}:$PATH",
        f"export SLIPWAY_CLUSTER_VOLUMES={settings.volumes}",
    ]


if __name__ == "__main__":
    sys.exit(main())
