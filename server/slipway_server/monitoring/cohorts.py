"""How many cohorts of callers rows and labels are counted by, so that none of them decides alone.

Plain Python: the first of several processes needs it, too.
"""

from __future__ import annotations

from slipway.names import BY_COHORT
from slipway_server.access.callers import COHORTS
from slipway_server.monitoring.reference import Reference
from slipway_server.settings import Serving

#: Series of a model that the operator keeps, and those among them that are none of these.
_MOST_SERIES, _OTHERS = 8192, 512
#: With more classes labels are counted as right or wrong alone.
MOST_CLASSES = 10
#: Buckets of the age of data.
_AGES = 16


def count_cohorts(serving: Serving, reference: Reference) -> int:
    """A power of two; 0 where nobody tells callers apart, or where there is no room for a few of them.

    It is the same in all pods that serve a version: it depends on the spec and on the profile.
    """
    if serving.access is None:
        return 0
    of_one = sum(metric in BY_COHORT for metric, _ in reference.series)
    if serving.feedbackMaxAgeDays:
        classes = max((len(each.bins.categories) for each in reference.predictions), default=0)
        of_one += 2 * (1 + (classes + 1) ** 2 if classes <= MOST_CLASSES else 2)
    for attribute in serving.sensitiveAttributes:
        of_one += (2 + (8 if serving.feedbackMaxAgeDays else 0)) * (len(attribute.groups) + 1)
    if serving.freshness is not None:
        of_one += _AGES
    room = _MOST_SERIES - _OTHERS - len(reference.series)
    return next((count for count in (COHORTS, COHORTS // 2) if count * of_one <= room), 0)
