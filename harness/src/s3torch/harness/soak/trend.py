"""Whether something grows: a robust trend with its confidence, held against a limit. Pure.

The trend is the Theil-Sen estimator, the median of the slopes of all pairs of samples, which a few outliers do not
move. Its confidence interval is that of Sen (1968): ranks of the slopes by the variance of Kendall's statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from s3torch.harness.soak.watching import Sample

__all__ = ["MEASURES", "Growth", "Measure", "judge_growth", "trend_of"]

MIB = 1024**2
_CONFIDENCE = 0.99
_WARM_UP = 0.25
_LEAST_SAMPLES = 8
_MOST_SAMPLES = 400  # the pairs of more would take minutes


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is watched."""

    name: str
    """The field of `Sample`."""
    unit: int
    """What one of its unit is, for display."""
    suffix: str
    """The unit's name."""
    limit: float
    """Growth a minute that is allowed."""
    least: float
    """Growth in all, below which nothing is said."""


MEASURES = (
    Measure("memory", MIB, " MiB", limit=1.0 * MIB, least=8 * MIB),
    Measure("threads", 1, "", limit=0.0, least=2),
    Measure("descriptors", 1, "", limit=0.0, least=3),
    Measure("children", 1, "", limit=0.0, least=2),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """The trend of one measure, judged."""

    measure: Measure
    """What is watched."""
    first: float
    """Median of the first third after the warm-up."""
    last: float
    """Median of the last third."""
    slope: float
    """Growth a minute."""
    low: float
    """Lower end of the slope's confidence interval."""
    high: float
    """Upper end."""
    samples: int
    """Samples after the warm-up."""
    grows: bool | None
    """Whether it grows beyond the limit; None where there are too few samples to say."""


def judge_growth(samples: Sequence[Sample], measure: Measure) -> Growth:
    """Judge the trend of one measure.

    It grows if the trend is above the limit with 99 % confidence, and the last third lies above the first by more than
    chance has moved it within either.

    Args:
        samples: In order of time; the first quarter is taken for warm-up.
        measure: Which.
    """
    warm = list(samples[int(len(samples) * _WARM_UP) :])
    warm = warm[:: math.ceil(len(warm) / _MOST_SAMPLES)] if warm else warm
    points = [(each.seconds / 60, float(getattr(each, measure.name))) for each in warm]
    values = [value for _, value in points]
    if len(points) < 2:
        only = values[0] if values else 0.0
        return Growth(measure, only, only, 0.0, 0.0, 0.0, len(points), None)
    slope, low, high = trend_of(points)
    third = max(1, len(values) // 3)
    first, last = values[:third], values[-third:]
    grows = None
    if len(points) >= _LEAST_SAMPLES:
        total = slope * (points[-1][0] - points[0][0])
        grows = low > measure.limit and total >= measure.least and min(last) > max(first)
    return Growth(measure, median(first), median(last), slope, low, high, len(points), grows)


def trend_of(points: Sequence[tuple[float, float]], confidence: float = _CONFIDENCE) -> tuple[float, float, float]:
    """Return the Theil-Sen slope and the ends of its confidence interval.

    Args:
        points: At least two, of different x.
        confidence: Of the interval, as a part of one.
    """
    slopes = sorted(
        (y2 - y1) / (x2 - x1) for number, (x1, y1) in enumerate(points) for x2, y2 in points[number + 1 :] if x2 != x1
    )
    if not slopes:
        raise ValueError("a trend needs two points of different x")
    count = len(points)
    # Sen (1968): the variance of Kendall's statistic without ties.
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lowest = max(0, math.floor((len(slopes) - spread) / 2))
    highest = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return median(slopes), slopes[lowest], slopes[highest]
