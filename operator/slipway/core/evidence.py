"""Evidence for and against a canary, from raw counts, valid whenever one looks.

The operator looks again and again, so a test at a fixed sample size would abort healthy canaries: with a
z-test at each of fifteen looks a quarter of them. The tests here are e-processes: under the hypothesis that
they speak against, the chance that the evidence *ever* reaches ``1/α`` is at most α, however often one looks
(Ville's inequality). They are mixtures of likelihood ratios of the binomial split of events between the arms.

Sources: Johari et al., "Always valid inference" (2022); Lindon, Sanden, Shirikian, "Rapid regression
detection in software deployments through sequential testing" (arXiv 2205.14762).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Alternatives that a mixture covers.
_POINTS = 40
#: The largest rate ratio that the alternatives of the abort test reach, as a multiple of its null.
_MOST_HARM = 20.0


@dataclass(frozen=True)
class Look:
    """What both arms saw between two looks: requests, and those of them that went wrong or were slow."""

    canary_requests: int
    canary_events: int
    stable_requests: int
    stable_events: int

    def __post_init__(self) -> None:
        if not 0 <= self.canary_events <= self.canary_requests:
            raise ValueError(f"canary: {self.canary_events} events in {self.canary_requests} requests")
        if not 0 <= self.stable_events <= self.stable_requests:
            raise ValueError(f"stable: {self.stable_events} events in {self.stable_requests} requests")


def harm_evidence(looks: Iterable[Look], tolerated_ratio: float) -> float:
    """Evidence that the canary's event rate is more than ``tolerated_ratio`` times the stable revision's.

    Conditional on a look's events, how many fell on the canary is binomial with a share that depends on the
    ratio and on the look's own split of requests, so that a changing weight or an outage that both arms share
    is no evidence. A look without traffic on both arms says nothing.

    Returns:
        The e-value, at least 0; infinite where it exceeds a float.
    """
    counted = _comparable(looks)
    alternatives = _log_spaced(1.1 * tolerated_ratio, _MOST_HARM * tolerated_ratio)
    return _mixture([_split_log_ratio(counted, ratio, tolerated_ratio) for ratio in alternatives])


def no_harm_evidence(looks: Iterable[Look], ruled_out_ratio: float) -> float:
    """Evidence that the canary's event rate is less than ``ruled_out_ratio`` times the stable revision's.

    Returns:
        The e-value; see :func:`harm_evidence`.
    """
    counted = _comparable(looks)
    alternatives = _log_spaced(ruled_out_ratio / _MOST_HARM, ruled_out_ratio / 1.1)
    return _mixture([_split_log_ratio(counted, ratio, ruled_out_ratio) for ratio in alternatives])


def above_objective_evidence(requests: int, events: int, objective: float) -> float:
    """Evidence that the rate of events is above ``objective``, from one arm alone.

    Alternatives are spread by their odds, which have no upper end.

    Args:
        requests: requests seen.
        events: those of them that count against the objective.
        objective: a share between 0 and 1, both excluded.

    Returns:
        The e-value; see :func:`harm_evidence`.

    Raises:
        ValueError: if the objective is not between 0 and 1, or the counts contradict each other.
    """
    _check(requests, events, objective)
    odds = objective / (1.0 - objective)
    rates = [found / (1.0 + found) for found in _log_spaced(1.1 * odds, _MOST_HARM * odds)]
    return _objective_evidence(requests, events, objective, rates)


def below_objective_evidence(requests: int, events: int, objective: float) -> float:
    """Evidence that the rate of events is below ``objective``, from one arm alone.

    Args:
        requests: requests seen.
        events: those of them that count against the objective.
        objective: a share between 0 and 1, both excluded.

    Returns:
        The e-value; see :func:`harm_evidence`.

    Raises:
        ValueError: if the objective is not between 0 and 1, or the counts contradict each other.
    """
    _check(requests, events, objective)
    rates = _log_spaced(objective / _MOST_HARM, objective / 1.1)
    return _objective_evidence(requests, events, objective, rates)


def _check(requests: int, events: int, objective: float) -> None:
    if not 0.0 < objective < 1.0:
        raise ValueError(f"objective {objective} is not between 0 and 1")
    if not 0 <= events <= requests:
        raise ValueError(f"{events} events in {requests} requests")


def _objective_evidence(requests: int, events: int, objective: float, rates: Iterable[float]) -> float:
    good = requests - events
    return _mixture(
        [
            events * math.log(rate / objective) + good * math.log((1.0 - rate) / (1.0 - objective))
            for rate in rates
        ]
    )


def _comparable(looks: Iterable[Look]) -> list[Look]:
    """Looks that say something of the ratio: traffic on both arms, and an event on either."""
    return [
        look
        for look in looks
        if look.canary_requests and look.stable_requests and (look.canary_events or look.stable_events)
    ]


def _split_log_ratio(looks: Sequence[Look], ratio: float, null: float) -> float:
    total = 0.0
    for look in looks:
        share = look.canary_requests / (look.canary_requests + look.stable_requests)
        under, at_null = _canary_share(share, ratio), _canary_share(share, null)
        total += look.canary_events * math.log(under / at_null)
        total += look.stable_events * math.log((1.0 - under) / (1.0 - at_null))
    return total


def _canary_share(requests_share: float, ratio: float) -> float:
    """Share of events that falls on the canary when its rate is ``ratio`` times the other's."""
    return requests_share * ratio / (requests_share * ratio + 1.0 - requests_share)


def _log_spaced(least: float, most: float) -> list[float]:
    step = math.log(most / least) / (_POINTS - 1)
    return [least * math.exp(step * point) for point in range(_POINTS)]


def _mixture(log_ratios: Sequence[float]) -> float:
    """Mean of the likelihood ratios, computed where it neither overflows nor vanishes."""
    largest = max(log_ratios)
    scaled = sum(math.exp(value - largest) for value in log_ratios) / len(log_ratios)
    log_mean = largest + math.log(scaled)
    return math.exp(log_mean) if log_mean < 700.0 else math.inf
