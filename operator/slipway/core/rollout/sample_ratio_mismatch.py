"""Whether routers split requests as their weights say, from counts alone."""

from __future__ import annotations

import math

from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import ObservedTraffic

#: Chance that an honest split is doubted at one look: of rollouts with a thousand looks, once in a thousand.
FALSE_ALARM = 1e-6
#: A share within this of the weight is as good as it: routers take up a weight some moments apart.
TOLERANCE = 0.002


def sample_ratio_mismatch(weight: int, canary: int, stable: int) -> str | None:
    """What is wrong with a split, or None where chance may have made it so.

    The statistic is G = 2n·KL(seen ‖ weight), which for many requests is chi-square with one degree of
    freedom. It is compared with 2·ln(2/α) rather than with that distribution's quantile: by Chernoff's bound
    an honest split then exceeds it with a probability of at most α however few the requests are, where the
    chi-square test of Pearson is wrong by orders of magnitude at 1 % of a few hundred.

    Args:
        weight: percent of requests for the canary.
        canary: requests that the split meant for it; copies are none.
        stable: requests that it meant for the stable revision.
    """
    total = canary + stable
    if total == 0:
        return None
    seen, share = canary / total, weight / 100
    nearest = min(max(seen, share - TOLERANCE), share + TOLERANCE)
    if seen == nearest:
        return None
    found, bound = 2 * total * _divergence(seen, nearest), 2 * math.log(2 / FALSE_ALARM)
    if found < bound:
        return None
    return (
        f"{canary} of {total} requests went to the canary, {seen:.1%} where its weight is {weight}%: "
        f"G = {found:.1f} ≥ {bound:.1f}"
    )


def split_mismatch(spec: ModelDeploymentSpec, traffic: ObservedTraffic) -> str | None:
    """What is wrong with the split since the last look, or None where nothing is, or nothing can be said."""
    if traffic.canary is None or traffic.stable is None or len(traffic.weights) != 1:
        return None
    if spec.traffic.sessionAffinity is not None:
        # Weights are shares of clients then, of which some ask more than others.
        return None
    (weight,) = traffic.weights
    return sample_ratio_mismatch(weight, traffic.canary.meant, traffic.stable.meant)


def _divergence(seen: float, expected: float) -> float:
    """Kullback and Leibler's, of two shares, in nats."""
    return sum(
        part * math.log(part / whole) for part, whole in ((seen, expected), (1 - seen, 1 - expected)) if part
    )
