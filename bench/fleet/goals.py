"""The goals of the operator, and what was measured of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.fleet.lag import Answers
from bench.fleet.measure import Measured
from bench.fleet.monitored import Monitored
from bench.fleet.rollouts import INTERVAL_SECONDS, Rollouts

MIB = 2**20
#: A median of others' events next to black holes may differ by so much: a factor, and seconds.
NOISE, LEAST_NOISE = 1.3, 0.02
#: Of the looks of a rollout, this share comes within so many times the interval.
IN_TIME, LATE = 0.99, 1.5
_ELSEWHERE = "not measured here"


@dataclass(frozen=True)
class Row:
    """A figure and its goal; ``met`` is None where there is no figure."""

    what: str
    goal: str
    found: str
    met: bool | None

    @classmethod
    def missing(cls, what: str, goal: str, why: str = _ELSEWHERE) -> Row:
        """Of something that was not measured."""
        return cls(what, goal, why, None)


@dataclass
class Found:
    """What was measured so far.

    Attributes:
        sizes: each number of ModelDeployments, the smallest first.
        monitored: what a monitored model holds; or None.
        real: figures of the real cluster: what, goal, what was found, whether it is met.
        failed: why a part has no figure, by its name.
    """

    sizes: list[Measured] = field(default_factory=list)
    monitored: Monitored | None = None
    real: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def rows(found: Found) -> Iterator[Row]:
    """In the order of their importance, the smallest number of ModelDeployments first."""
    made = [(one.size, one.creation) for one in found.sizes if one.creation is not None]
    each = {size: creation.cpu / size * 1000 for size, creation in made}
    for size, cpu in each.items():
        yield Row(f"CPU for one from nothing to Ready, at {size:,}", "≤ 30 ms", f"{cpu:.1f} ms", cpu <= 30)
    if len(each) > 1:
        ratio = max(each.values()) / min(each.values())
        yield Row("the same, most to least", "≤ 1.3×", f"{ratio:.2f}×", ratio <= 1.3)
    for size, creation in made:
        writes, reads = (each.total() / size for each in (creation.writes, creation.reads))
        yield Row(f"writes for one, at {size:,}", "≤ 9", f"{writes:.1f}", writes <= 9)
        yield Row(f"reads for one, at {size:,}", "≤ 1", f"{reads:.4g}", reads <= 1)
        if size == 1000:
            seconds = creation.seconds
            yield Row("1,000 created, on two quiet cores", "≤ 35 s", f"{seconds:.0f} s", seconds <= 35)
    for kind in (_restart, _memory, _lag, _rest, _holes):
        for one in found.sizes:
            yield from kind(one)
    yield _monitored(found.monitored)
    yield from found.real or (Row.missing(what, goal) for what, goal in REAL)
    yield from _rollouts(next((one.rollouts for one in found.sizes if one.rollouts), None))
    for one in found.sizes:
        for name, why in one.failed.items():
            yield Row.missing(f"{name}, at {one.size:,}", "", f"failed: {why[:200]}")
    for name, why in found.failed.items():
        yield Row.missing(name, "", f"failed: {why[:200]}")


#: What takes a real cluster, with its goal.
REAL = (
    ("`kubectl apply` to Ready, image on the node, small model, on the real cluster", "≤ 4 s"),
    ("moved alias (webhook) to the canary's first request, on the real cluster", "≤ 6 s"),
)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that a share of all are not above; of an ordered list that is not empty."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _restart(one: Measured) -> Iterator[Row]:
    if (restart := one.restart) is None:
        return
    goal = 60 if one.size > 1000 else 10
    title = f"a restart with {one.size:,} and nothing changed"
    yield Row(f"{title}: writes", "0", str(restart.writes.total()), not restart.writes)
    yield Row(
        f"{title}: from its start to a new event's first write",
        f"≤ {goal} s",
        f"{restart.acted_seconds:.1f} s",
        restart.acted_seconds <= goal,
    )


def _memory(one: Measured) -> Iterator[Row]:
    goal = 400 if one.size > 1000 else 150
    parts = {"after creation": one.creation, "after a restart": one.restart}
    usages = {when: part.after for when, part in parts.items() if part is not None}
    held = {when: usage.rss for when, usage in usages.items()}
    if usages:
        held["at its top"] = max(usage.top for usage in usages.values())
    for when, size in held.items():
        yield Row(
            f"memory with {one.size:,}, {when}", f"≤ {goal} MiB", f"{size / MIB:.0f} MiB", size <= goal * MIB
        )


def _lag(one: Measured) -> Iterator[Row]:
    phases = {"creation": one.creation, "a restart": one.restart, "rollouts": one.rollouts}
    for phase, part in phases.items():
        if part is not None:
            yield _answers(f"`/healthz` during {phase}, at {one.size:,}: p99, most", part.answers)


def _answers(what: str, answers: Answers) -> Row:
    p99, most = answers.quantile(0.99) * 1000, answers.quantile(1.0) * 1000
    found = f"{p99:.0f} ms, {most:.0f} ms"
    return Row(what, "≤ 50 ms, ≤ 250 ms", found, p99 <= 50 and most <= 250)


def _rest(one: Measured) -> Iterator[Row]:
    if (rest := one.rest) is None:
        return
    share, wrote, took = rest.share * 100, rest.writes.total(), rest.metrics_ms
    title = f"at rest with {one.size:,}"
    yield Row(f"{title}: share of a core", "≤ 2 %", f"{share:.1f} %", share <= 2)
    yield Row(f"{title}: writes", "0", f"{wrote}", wrote == 0)
    yield Row(f"{title}: `/metrics`", "≤ 50 ms", f"{took:.0f} ms", took <= 50)


def _holes(one: Measured) -> Iterator[Row]:
    if (holes := one.holes) is None or not one.reactions:
        return
    without, with_them = (
        [quantile(each, share) for share in (0.5, 0.9)] for each in (one.reactions, holes.reactions)
    )
    unchanged = all(
        there <= max(NOISE * here, here + LEAST_NOISE) for here, there in zip(without, with_them, strict=True)
    )
    words = (
        f"{with_them[0] * 1000:.0f} and {with_them[1] * 1000:.0f} ms, "
        f"{without[0] * 1000:.0f} and {without[1] * 1000:.0f} ms without"
    )
    yield Row(
        f"{holes.namespaces} namespaces of black holes next to {one.size:,}: others' event to write, "
        "median and p90",
        "unchanged within noise",
        words,
        unchanged,
    )


def _monitored(found: Monitored | None) -> Row:
    what, goal = "memory that a monitored model of 30 features adds", "≤ 50 kB"
    if found is None:
        return Row.missing(what, goal)
    words = f"{found.adds / 1000:.0f} kB, to {found.plain / 1000:.0f} kB"
    return Row(what, goal, words, found.adds <= 50_000)


def _rollouts(found: Rollouts | None) -> Iterator[Row]:
    title = f"1,000 rollouts at once, evaluated every {INTERVAL_SECONDS} s"
    if found is None:
        yield Row.missing(title, "keeps up; ≤ 1 MB/s into etcd")
        return
    middle, late = quantile(found.gaps, 0.5), quantile(found.gaps, IN_TIME)
    yield Row(
        f"{title}: seconds between two evaluations of one, median and p99",
        f"p99 ≤ {LATE * INTERVAL_SECONDS:.0f} s",
        f"{middle:.1f} s, {late:.1f} s",
        late <= LATE * INTERVAL_SECONDS,
    )
    written, sent = (found.bytes_per_second.get(name, 0.0) / 1e6 for name in ("written", "sent"))
    yield Row(
        f"{title}: into etcd",
        "≤ 1 MB/s",
        f"{written:.2f} MB/s, {sent:.2f} MB/s sent by clients",
        0 < max(written, sent) <= 1,
    )
