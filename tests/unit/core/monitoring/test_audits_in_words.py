"""What audits say, whole, and the figures that they leave in status."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slipway.core.monitoring.fairness import FairnessLimits
from slipway.core.monitoring.subgroups import Judged
from tests.unit.core.monitoring.test_robustness import attacked, rows
from tests.unit.core.monitoring.test_robustness import judged as withstood
from tests.unit.core.monitoring.test_subgroups import GOOD, RATIO, tally
from tests.unit.core.monitoring.test_subgroups import judged as by_groups


def figures(found: Judged) -> list[str]:
    """Each in a line: metric, of what, value, interval and limit."""
    return [
        f"{one.metric} [{one.of}] {one.value:.4g} {one.interval.low:.4g}–{one.interval.high:.4g} {one.limit}"
        for one in found.figures
    ]


#: Of rows that stand no more as many as of those that stand since.
SWAPPED = (rows(95, 5) + rows(0, 5) + rows(5, 0), rows(95, 5) + rows(5, 0) + rows(0, 5))
LOST = (tally(300, 50, 50, 600, 0, 100), tally(330, 45, 55, 570, 0, 20))
SOME = (tally(300, 50, 50, 600, 10, 30), tally(330, 45, 55, 570, 10, 20))
CASES: list[tuple[Callable[[], Judged], str, list[str]]] = [
    (
        lambda: withstood(rows(170, 30), rows(170, 30), minimum_accuracy=0.7, max_loss=0.1),
        "Pass: 85% (78.5% to 89.8%) of 200 rows stand within 0.25 deviations, at least 70%; 0% (-1.11% to "
        "1.11%) of the rows stood within 0.25 deviations with the stable version and stand no more, 10% "
        "at most",
        [
            "CertifiedAccuracy [within 0.25] 0.85 0.7849–0.898 0.7",
            "CertifiedAccuracyLoss [within 0.25] 0 -0.0111–0.0111 0.1",
            "MedianCertifiedRadius [] 0.989 0.989–0.989 None",
            "CertifiedAccuracy [stable version, within 0.25] 0.85 0.7849–0.898 None",
            "MedianCertifiedRadius [stable version] 0.989 0.989–0.989 None",
        ],
    ),
    (
        lambda: withstood([700] * 200, rows(200, 0), max_loss=0.05),
        "Fail: 100% (97.3% to 100%) of the rows stood within 0.25 deviations with the stable version and "
        "stand no more, more than 5%",
        [
            "CertifiedAccuracyLoss [within 0.25] 1 0.9733–1 0.05",
            "CertifiedAccuracy [within 0.25] 0 0–0.01885 None",
            "MedianCertifiedRadius [] 0.1974 0.1974–0.1974 None",
            "CertifiedAccuracy [stable version, within 0.25] 1 0.9812–1 None",
            "MedianCertifiedRadius [stable version] 0.989 0.989–0.989 None",
        ],
    ),
    (
        lambda: withstood(rows(100, 100), minimum_accuracy=0.7),
        "Fail: 50% (43.1% to 56.9%) of 200 rows stand within 0.25 deviations, below 70%",
        [
            "CertifiedAccuracy [within 0.25] 0.5 0.4314–0.5686 0.7",
            "MedianCertifiedRadius [] 0.989 0–0.989 None",
        ],
    ),
    (
        lambda: withstood(rows(136, 64), minimum_accuracy=0.7),
        "Inconclusive: 68% (61.2% to 74.1%) of 200 rows stand within 0.25 deviations, not clearly below 70%",
        [
            "CertifiedAccuracy [within 0.25] 0.68 0.6125–0.7407 0.7",
            "MedianCertifiedRadius [] 0.989 0.989–0.989 None",
        ],
    ),
    (
        lambda: withstood(*SWAPPED, max_loss=0.02),
        "Inconclusive: 0% (-5.8% to 5.8%) of the rows stood within 0.25 deviations with the stable "
        "version and stand no more: 2% is not ruled out; about 1,000 rows like these would tell",
        [
            "CertifiedAccuracyLoss [within 0.25] 0 -0.05804–0.05804 0.02",
            "CertifiedAccuracy [within 0.25] 0.9091 0.8407–0.9499 None",
            "MedianCertifiedRadius [] 0.989 0.989–0.989 None",
            "CertifiedAccuracy [stable version, within 0.25] 0.9091 0.8407–0.9499 None",
            "MedianCertifiedRadius [stable version] 0.989 0.989–0.989 None",
        ],
    ),
    (
        lambda: withstood(rows(99, 0), minimum_accuracy=0.1),
        "Inconclusive: 99 rows were moved of the 100 needed",
        [],
    ),
    (
        lambda: withstood(rows(200, 0), minimum_accuracy=0.1, radius=1.3),
        "Inconclusive: 1,000 samples with noise 0.5 prove radii up to 1.23, and the audit asks for 1.3: "
        "give it more samples, more noise, or a smaller radius",
        [],
    ),
    (
        lambda: withstood(rows(10, 190), max_loss=0.01),
        "Pass: the first version has no stable one to be compared with",
        ["CertifiedAccuracy [within 0.25] 0.05 0.02738–0.08958 None", "MedianCertifiedRadius [] 0 0–0 None"],
    ),
    (
        lambda: attacked(
            [400] * 150 + [100] * 50, [400] * 160 + [100] * 40, minimum_accuracy=0.6, max_loss=0.01
        ),
        "Fail: 5% (1.35% to 8.55%) of the rows stood within 0.25 deviations with the stable version and "
        "stand no more, more than 1%; 75% (67.6% to 81.2%) of 200 rows stand within 0.25 deviations, at "
        "least 60%",
        [
            "RobustAccuracyLoss [within 0.25] 0.05 0.01354–0.08547 0.01",
            "RobustAccuracy [within 0.25] 0.75 0.6758–0.8119 0.6",
            "MedianDistance [] 0.4 0.4–0.4 None",
            "RobustAccuracy [stable version, within 0.25] 0.8 0.7296–0.8557 None",
            "MedianDistance [stable version] 0.4 0.4–0.4 None",
        ],
    ),
    (
        lambda: by_groups(*GOOD, fairness=FairnessLimits((RATIO,)), minimum_accuracy=0.85, max_loss=0.02),
        "Pass: sex: DisparateImpactRatio 0.933 (0.801 to 1.09), within 0.8: female 35% of 1,000, male "
        "37.5% of 1,000; accuracy 90% (88.1% to 91.6%) of 2,000 rows, at least 85%; 0% of all rows "
        "(-0.129% to 0.129%) are lost to the stable version, 2% at most",
        [
            "DisparateImpactRatio [sex: female to male] 0.9333 0.8012–1.087 0.8",
            "Accuracy [] 0.9 0.8814–0.916 0.85",
            "AccuracyLoss [] 0 -0.001287–0.001287 0.02",
            "Accuracy [sex: female] 0.9 0.8729–0.9219 None",
            "Accuracy [sex: male] 0.9 0.8729–0.9219 None",
        ],
    ),
    (
        lambda: by_groups(*GOOD, minimum_accuracy=0.99),
        "Fail: accuracy 90% (88.6% to 91.2%) of 2,000 rows, below 99%",
        [
            "Accuracy [] 0.9 0.8861–0.9124 0.99",
            "Accuracy [sex: female] 0.9 0.8798–0.9171 None",
            "Accuracy [sex: male] 0.9 0.8798–0.9171 None",
        ],
    ),
    (
        lambda: by_groups(*GOOD, minimum_accuracy=0.905),
        "Inconclusive: accuracy 90% (88.6% to 91.2%) of 2,000 rows, not clearly below 90.5%",
        [
            "Accuracy [] 0.9 0.8861–0.9124 0.905",
            "Accuracy [sex: female] 0.9 0.8798–0.9171 None",
            "Accuracy [sex: male] 0.9 0.8798–0.9171 None",
        ],
    ),
    (
        lambda: by_groups(*GOOD, baseline=None, max_loss=0.02),
        "Pass: the first version has no stable one to be compared with",
        [
            "Accuracy [] 0.9 0.8861–0.9124 None",
            "Accuracy [sex: female] 0.9 0.8798–0.9171 None",
            "Accuracy [sex: male] 0.9 0.8798–0.9171 None",
        ],
    ),
    (
        lambda: by_groups(*GOOD),
        "Inconclusive: the audit holds the model to nothing",
        [
            "Accuracy [] 0.9 0.8861–0.9124 None",
            "Accuracy [sex: female] 0.9 0.8798–0.9171 None",
            "Accuracy [sex: male] 0.9 0.8798–0.9171 None",
        ],
    ),
    (
        lambda: by_groups(*LOST, max_loss=0.02),
        "Fail: 6% of all rows (4.72% to 7.27%) are lost to the stable version, more than 2%; sex: female "
        "loses 10% (7.7% to 12.3%), more than 2%",
        [
            "AccuracyLoss [] 0.06 0.04718–0.0727 0.02",
            "AccuracyLoss [sex: female] 0.1 0.07701–0.1226 0.02",
            "Accuracy [] 0.9 0.8828–0.9149 None",
            "Accuracy [sex: female] 0.9 0.875–0.9205 None",
            "Accuracy [sex: male] 0.9 0.875–0.9205 None",
        ],
    ),
    (
        lambda: by_groups(*SOME, max_loss=0.02),
        "Inconclusive: 1.5% of all rows (0.494% to 2.5%) are lost to the stable version: 2% is not ruled "
        "out; about 8,200 rows like these would tell",
        [
            "AccuracyLoss [] 0.015 0.004941–0.02503 0.02",
            "Accuracy [] 0.9 0.8828–0.9149 None",
            "Accuracy [sex: female] 0.9 0.875–0.9205 None",
            "Accuracy [sex: male] 0.9 0.875–0.9205 None",
        ],
    ),
    (
        lambda: by_groups(tally(100, 20, 250, 630), GOOD[1], fairness=FairnessLimits((RATIO,))),
        "Fail: sex: DisparateImpactRatio 0.32 (0.267 to 0.386), beyond 0.8: female 12% of 1,000, male "
        "37.5% of 1,000",
        [
            "DisparateImpactRatio [sex: female to male] 0.32 0.2666–0.3863 0.8",
            "Accuracy [] 0.815 0.7974–0.8314 None",
            "Accuracy [sex: female] 0.73 0.7016–0.7566 None",
            "Accuracy [sex: male] 0.9 0.8798–0.9171 None",
        ],
    ),
    (
        lambda: by_groups(tally(0, 0, 30, 30), GOOD[1], fairness=FairnessLimits((RATIO,))),
        "Inconclusive: sex: DisparateImpactRatio needs two groups with 100 rows each, male among them; "
        "sex: 1 group of fewer than 100 rows is not shown",
        ["Accuracy [] 0.8774 0.8562–0.8958 None", "Accuracy [sex: male] 0.9 0.8798–0.9171 None"],
    ),
    (
        lambda: by_groups(tally(10, 0, 0, 10), tally(10, 0, 0, 10), minimum_accuracy=0.5),
        "Inconclusive: accuracy has 40 rows of the 300 needed",
        [],
    ),
]


@pytest.mark.parametrize(("asked", "words", "shown"), CASES)
def test_an_audit_says_its_figures_in_full(asked: Callable[[], Judged], words: str, shown: list[str]) -> None:
    found = asked()
    assert f"{found.verdict}: {found.message}" == words
    assert figures(found) == shown
