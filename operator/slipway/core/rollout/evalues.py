"""Evidence for and against a canary, from raw counts, valid whenever one looks and however long.

The operator looks again and again, so a test at a fixed sample size would abort healthy canaries: with a
z-test at each of fifteen looks a quarter of them. The tests here are e-processes: under the hypothesis that
they speak against, the chance that the evidence *ever* reaches ``1/α`` is at most α, over all looks of a
rollout, however many there are (Ville's inequality). They are mixtures of likelihood ratios of the binomial
split of events between the arms.

A product over a long good history would bury a fault that begins late: after 500 good looks the evidence has
to climb back from nothing. So evidence against a canary is a mixture over the look that the fault begins
with, too (:func:`since_any_look`). Its weights sum to 1, so that the bound of α over the whole rollout stays;
a fault that begins with look k has to bring ``10·k·(k − 1)`` times the evidence. CUSUM and Shiryaev and
Roberts' sum find a late fault a little sooner, but bound only the mean time to a false alarm: a rollout that
is long enough would be aborted for certain. What speaks for a canary has to hold to the last: :func:`held`.

Older looks are kept as sums (:func:`slipway.core.looks.condensed`). A sum never speaks louder than its looks
did: its share is their mean weighted by events, and the likelihood ratio is concave in it, so that the bounds
hold for sums as for single looks.

Sources: Johari et al., "Always valid inference" (2022); Lindon, Sanden, Shirikian, "Rapid regression
detection in software deployments through sequential testing" (arXiv 2205.14762); Shin, Ramdas, Rinaldo,
"E-detectors" (arXiv 2203.03532), for sums of e-processes that begin one after the other, here with weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Alternatives that a mixture covers.
_POINTS = 40
#: The largest rate ratio that the alternatives of the abort test reach, as a multiple of its null.
_MOST_HARM = 20.0


#: Weight of a fault that was there from the first look on; what is left is for all that begin later.
_FROM_THE_START = 0.9
#: What a canary did well before counts as much evidence for it at most.
_CREDIT = 1e4


@dataclass(frozen=True)
class Look:
    """What both arms saw between two looks, or the sums of several looks in a row.

    Attributes:
        canary_requests: that the canary answered.
        canary_events: of these, those that went wrong or were slow.
        stable_requests: that the stable revision answered.
        stable_events: of these, those that went wrong or were slow.
        looks: how many are summed.
        expected: events that would have fallen on the canary, look by look, if both arms had failed alike;
            None for a single look, of which the counts tell it.
        spread: variance of the canary's share of requests between the looks, times their events.
    """

    canary_requests: int
    canary_events: int
    stable_requests: int
    stable_events: int
    looks: int = 1
    expected: float | None = None
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.canary_events <= self.canary_requests:
            raise ValueError(f"canary: {self.canary_events} events in {self.canary_requests} requests")
        if not 0 <= self.stable_events <= self.stable_requests:
            raise ValueError(f"stable: {self.stable_events} events in {self.stable_requests} requests")

    @property
    def events(self) -> int:
        """Of both arms."""
        return self.canary_events + self.stable_events

    @property
    def share(self) -> float:
        """The canary's share of requests, weighted by events where looks are summed."""
        if self.expected is not None and self.events:
            return min(1.0, self.expected / self.events)
        requests = self.canary_requests + self.stable_requests
        return self.canary_requests / requests if requests else 0.0

    def __add__(self, later: Look) -> Look:
        events = self.events + later.events
        expected = self.events * self.share + later.events * later.share
        mean = expected / events if events else 0.0
        between = sum(one.events * (one.share - mean) ** 2 for one in (self, later))
        return Look(
            self.canary_requests + later.canary_requests,
            self.canary_events + later.canary_events,
            self.stable_requests + later.stable_requests,
            self.stable_events + later.stable_events,
            self.looks + later.looks,
            expected,
            self.spread + later.spread + between,
        )


@dataclass(frozen=True)
class Terms:
    """What a look adds to the logarithm of each alternative's likelihood ratio."""

    looks: int
    log_ratios: Sequence[float]


def harm_terms(looks: Iterable[Look], tolerated_ratio: float) -> list[Terms]:
    """For evidence that the canary's event rate is more than ``tolerated_ratio`` times stable's.

    Conditional on a look's events, how many fell on the canary is binomial with a share that depends on the
    ratio and on the look's own split of requests, so that a changing weight or an outage that both arms share
    is no evidence. A look without traffic on both arms says nothing.

    Args:
        looks: oldest first.
        tolerated_ratio: 1 or more.
    """
    ratios = _log_spaced(1.1 * tolerated_ratio, _MOST_HARM * tolerated_ratio)
    return _split_terms(looks, ratios, tolerated_ratio, 0.0)


def no_harm_terms(looks: Iterable[Look], ruled_out_ratio: float) -> list[Terms]:
    """For evidence that the canary's event rate is less than ``ruled_out_ratio`` times stable's.

    See :func:`harm_terms`. The ratio of likelihoods below it may be convex in the share, with a second
    derivative of at most ``(ruled_out_ratio − 1)²``: so much of the spread is taken off.
    """
    ratios = _log_spaced(ruled_out_ratio / _MOST_HARM, ruled_out_ratio / 1.1)
    convexity = (ruled_out_ratio - 1.0) ** 2
    return _split_terms(looks, ratios, ruled_out_ratio, convexity)


def above_objective_terms(looks: Iterable[Look], objective: float) -> list[Terms]:
    """For evidence that the canary's rate of events is above ``objective``, from the canary alone.

    Alternatives are spread by their odds, which have no upper end.

    Args:
        looks: oldest first.
        objective: a share between 0 and 1, both excluded.

    Raises:
        ValueError: if the objective is not between 0 and 1.
    """
    _check(objective)
    odds = objective / (1.0 - objective)
    rates = [found / (1.0 + found) for found in _log_spaced(1.1 * odds, _MOST_HARM * odds)]
    return _rate_terms(looks, rates, objective)


def below_objective_terms(looks: Iterable[Look], objective: float) -> list[Terms]:
    """For evidence that the canary's rate of events is below ``objective``, from the canary alone.

    See :func:`above_objective_terms`.
    """
    _check(objective)
    rates = _log_spaced(objective / _MOST_HARM, objective / 1.1)
    return _rate_terms(looks, rates, objective)


def from_first_look(terms: Sequence[Terms]) -> float:
    """Evidence of what holds from the first look on.

    Returns:
        The e-value, at least 0; infinite where it exceeds a float.
    """
    return _mixture(_suffix(terms)[0]) if terms else 1.0


def since_any_look(terms: Sequence[Terms]) -> float:
    """Evidence of what began with the first look or with any later one.

    The weight of the first is 0.9, that of look k is 0.1/(k(k − 1)): they sum to 1, so that this is an
    e-process, as each part is. A look within a sum is no beginning any more; its weight is lost, which only
    lowers the value.

    Returns:
        The e-value; see :func:`from_first_look`.
    """
    before, total = 0, 0.0
    for term, log_ratios in zip(terms, _suffix(terms), strict=True):
        total += weight_of_start(before) * _mixture(log_ratios)
        before += term.looks
    # What is left for the looks that are still to come.
    return total + ((1.0 - _FROM_THE_START) / before if before else 1.0)


def weight_of_start(before: int) -> float:
    """The weight of what begins after so many looks; those of all beginnings sum to 1."""
    return (1.0 - _FROM_THE_START) / (before * (before + 1)) if before else _FROM_THE_START


def held(terms: Sequence[Terms]) -> float:
    """Evidence of what holds from the first look on, and has not been lost since.

    Never more than :func:`from_first_look`, so that bounds of that are bounds of this. What was gathered
    before a look counts for 10,000 at most: a fault that begins late takes a pass away at once.

    Returns:
        The e-value; see :func:`from_first_look`.
    """
    found = [_mixture(log_ratios) for log_ratios in _suffix(terms)]
    return min([found[0], *(_CREDIT * value for value in found[1:])]) if found else 1.0


def harm_evidence(looks: Iterable[Look], tolerated_ratio: float) -> float:
    """Evidence of :func:`harm_terms` :func:`from_first_look` on."""
    return from_first_look(harm_terms(looks, tolerated_ratio))


def no_harm_evidence(looks: Iterable[Look], ruled_out_ratio: float) -> float:
    """Evidence of :func:`no_harm_terms` :func:`from_first_look` on."""
    return from_first_look(no_harm_terms(looks, ruled_out_ratio))


def above_objective_evidence(requests: int, events: int, objective: float) -> float:
    """Evidence of :func:`above_objective_terms` in one arm's counts.

    Raises:
        ValueError: if the objective is not between 0 and 1, or the counts contradict each other.
    """
    return from_first_look(above_objective_terms([Look(requests, events, 0, 0)], objective))


def below_objective_evidence(requests: int, events: int, objective: float) -> float:
    """Evidence of :func:`below_objective_terms` in one arm's counts.

    Raises:
        ValueError: if the objective is not between 0 and 1, or the counts contradict each other.
    """
    return from_first_look(below_objective_terms([Look(requests, events, 0, 0)], objective))


def _check(objective: float) -> None:
    if not 0.0 < objective < 1.0:
        raise ValueError(f"objective {objective} is not between 0 and 1")


def _rate_terms(looks: Iterable[Look], rates: Iterable[float], objective: float) -> list[Terms]:
    logs = [(math.log(rate / objective), math.log((1.0 - rate) / (1.0 - objective))) for rate in rates]
    found = []
    for look in looks:
        bad, good = look.canary_events, look.canary_requests - look.canary_events
        found.append(Terms(look.looks, [bad * of_bad + good * of_good for of_bad, of_good in logs]))
    return found


def _split_terms(
    looks: Iterable[Look], ratios: Sequence[float], null: float, convexity: float
) -> list[Terms]:
    """Of the canary's share of events, ``s·r/(s·r + 1 − s)`` with a share s of requests and a ratio r."""
    logs = [(ratio - 1.0, math.log(ratio / null)) for ratio in ratios]
    found = []
    for look in looks:
        if not (look.canary_requests and look.stable_requests and look.events):
            found.append(Terms(look.looks, [0.0] * len(logs)))
            continue
        share, canary, events = look.share, look.canary_events, look.events
        rest = events * math.log1p(share * (null - 1.0)) - convexity * look.spread / 2.0
        log_ratios = [canary * log - events * math.log1p(share * more) + rest for more, log in logs]
        found.append(Terms(look.looks, log_ratios))
    return found


def _suffix(terms: Sequence[Terms]) -> list[list[float]]:
    """The sums of each alternative from each look on to the last."""
    found: list[list[float]] = []
    for term in reversed(terms):
        after = found[-1] if found else [0.0] * len(term.log_ratios)
        found.append([one + other for one, other in zip(term.log_ratios, after, strict=True)])
    return found[::-1]


def _log_spaced(least: float, most: float) -> list[float]:
    step = math.log(most / least) / (_POINTS - 1)
    return [least * math.exp(step * point) for point in range(_POINTS)]


def _mixture(log_ratios: Sequence[float]) -> float:
    """Mean of the likelihood ratios, computed where it neither overflows nor vanishes."""
    largest = max(log_ratios)
    scaled = sum(math.exp(value - largest) for value in log_ratios) / len(log_ratios)
    log_mean = largest + math.log(scaled)
    return math.exp(log_mean) if log_mean < 700.0 else math.inf
