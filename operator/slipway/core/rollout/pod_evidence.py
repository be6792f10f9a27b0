"""What a rollout's gates ask of, from the series that model servers count."""

from __future__ import annotations

from slipway.core.monitoring import series
from slipway.core.monitoring.series import Values
from slipway.core.observed import ArmCount, ServedCount
from slipway.core.traffic.envoy.bootstrap import LATENCY_BOUNDS_MILLISECONDS


def as_routers_count(counted: Values) -> ArmCount:
    """As routers count: 422 is an error too, since the model failed on rows that its contract allows."""
    bounds = {bound: f"{bound / 1000}" for bound in LATENCY_BOUNDS_MILLISECONDS}
    return ArmCount(
        requests=int(series.requests(counted)),
        errors=int(series.errors(counted)),
        slow={bound: int(series.slower(counted, seconds)) for bound, seconds in bounds.items()},
    )


def served(counted: Values) -> ServedCount:
    """What only pods see."""
    return ServedCount(
        requests=int(series.requests(counted)),
        violations=int(series.violations(counted)),
        predictions={
            output: {bin_: int(count) for bin_, count in bins.items()}
            for output, bins in series.predictions(counted).items()
        },
    )
