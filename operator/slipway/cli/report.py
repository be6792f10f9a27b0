"""``kubectl slipway report``: a page of what a model is asked, answers and gets right, by live counters."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.core import naming
from slipway.core.observed import Manifest, is_ready, revision_of_object
from slipway.core.pod_counters import began
from slipway.core.resource import Resource, read
from slipway.names import DISTRIBUTION

if TYPE_CHECKING:
    from slipway.report.live import Counted, Sample

#: Pods that are asked at a time.
_AT_ONCE = 8


@dataclass(frozen=True)
class Page:
    """A report as HTML, and of how many of the ready pods it tells."""

    html: str
    read: int
    ready: int


def run(arguments: Namespace) -> int:
    """Read the pods and write the page."""
    page = page_of(Cluster(arguments), arguments.name)
    if arguments.output == "-":
        sys.stdout.write(page.html)
        return 0
    path = Path(arguments.output or f"{arguments.name}-report.html")
    try:
        path.write_text(page.html)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    print(f"{path}: {page.read} of {page.ready} ready pods read")
    return 0


def page_of(there: Cluster, name: str) -> Page:
    """The report of a ModelDeployment by what its pods count now.

    Raises:
        CommandError: where there is nothing to report, or no pod answers.
    """
    try:
        from slipway.report.page import render
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed: pip install '{DISTRIBUTION}[cli,report]'"
        ) from error
    from slipway.report.live import report_of, serving

    resource = read(there.get(name))
    arm = serving(resource.status)
    if arm is None:
        raise CommandError(_nothing(resource, "serves nothing yet"))
    ready = [
        pod for pod in there.pods(name) if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
    ]
    if not any(revision_of_object(pod) == arm.revision for pod in ready):
        raise CommandError(_nothing(resource, f"has no ready pod of revision {arm.revision}"))
    counted, silent = _read(there, ready)
    if not any(pod.revision == arm.revision for pod in counted):
        pod, why = next(iter(silent.items()))
        raise CommandError(
            f"no pod of {there.namespace}/{name} answered; {pod}: {why}. Its port for metrics is "
            "reached by way of the API server, which takes the right to get pods/proxy (role edit)"
        )
    html = render(report_of(resource, counted, silent, there.revisions(name), datetime.now(UTC)))
    return Page(html, len(counted), len(ready))


def _read(there: Cluster, pods: Sequence[Manifest]) -> tuple[list[Counted], dict[str, str]]:
    """What the pods that answer have counted, and why the others did not."""
    counted: list[Counted] = []
    silent: dict[str, str] = {}

    def ask(pod: Manifest) -> Counted | CommandError:
        from slipway.report.live import Counted

        try:
            text = there.metrics(pod["metadata"]["name"])
            samples = tuple(_samples(text))
        except CommandError as error:
            return error
        except ValueError as error:
            return CommandError(f"its metrics are not in the text format of Prometheus: {error}")
        return Counted(
            pod["metadata"]["name"],
            revision_of_object(pod) or "",
            began(pod, naming.SERVER_CONTAINER),
            samples,
        )

    with ThreadPoolExecutor(_AT_ONCE) as crew:
        for pod, found in zip(pods, crew.map(ask, pods), strict=True):
            if isinstance(found, CommandError):
                silent[pod["metadata"]["name"]] = str(found)
            else:
                counted.append(found)
    return counted, silent


def _samples(text: str) -> Iterator[Sample]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, float(sample.value)


def _nothing(resource: Resource, what: str) -> str:
    owner = resource.owner
    return (
        f"{owner.namespace}/{owner.name} {what}, so there is nothing to report; "
        f"kubectl slipway status {owner.name} says why"
    )
