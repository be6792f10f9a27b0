"""``kubectl slipway status``: what serves, and how far a rollout is."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from slipway.cli import cluster
from slipway.cli.cluster import Cluster
from slipway.cli.drawing import draw, faults
from slipway.core.resource import read

#: Seconds between two looks of ``--watch``.
INTERVAL = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``status``."""
    cluster.add_arguments(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="draw it anew whenever it changes")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: as it is")


def run(arguments: Namespace) -> int:
    """Draw once, or until interrupted; 1 where not all could be read, as of another version's resource."""
    found = Cluster(arguments)
    told = ""
    while True:
        resource = found.get(arguments.name)
        if arguments.output == "json":
            text = json.dumps(resource.get("status", {}), indent=2)
        else:
            text = draw(read(resource), datetime.now(UTC))
        if not arguments.watch:
            print(text)
            unread = arguments.output != "json" and faults(read(resource))
            return 1 if unread else 0
        if text != told:
            told = text
            # On a terminal each picture takes the place of the one before.
            print(f"\033[2J\033[H{text}" if sys.stdout.isatty() else f"{text}\n", flush=True)
        time.sleep(INTERVAL)
