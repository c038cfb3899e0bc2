"""The difference of two outcomes on the same pictures, and how sure it is.

Both are scored under the same 1,000 weightings of the pictures (Bayesian bootstrap, Rubin 1981),
and the interval is that of the difference: what makes a picture hard for both drops out of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

from vicregl_bench.tasks.interval import FloatArray, bayesian_weights, percentiles
from vicregl_bench.tasks.outcome import Outcome

LEVEL = 0.05
MIN_PICTURES = 6
"""Fewer pictures tell no difference: were all of n changed one way, a test that turns signs at
random would still give 2^(1 - n), above 5 % for n < 6."""


@dataclass(frozen=True)
class Paired:
    """B - A, in percent points, over the pictures alone.

    Attributes:
        a: score of A.
        b: score of B.
        difference: B - A.
        low: lower end of the 95 % interval.
        high: upper end.
        above: share of the draws in which B - A is above 0; equal ones count half.
        error: standard error.
        p: two-sided, of Student's t with n - 1 degrees of freedom, but no less than 2^(1 - n).
        pictures: n, those that the class is in; all, for the score of all.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    above: float
    error: float
    p: float
    pictures: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside of the interval, of `MIN_PICTURES` or more."""
        return self.pictures >= MIN_PICTURES and (self.low > 0 or self.high < 0)

    @property
    def significant(self) -> bool:
        """Whether 0 is outside of the interval and p no more than `LEVEL`.

        The bootstrap's interval alone is narrow where pictures are few: with no effect it excludes
        0 in 15 % of classes of 6 pictures and 8 % of 15, Student's t does so in 5 %.
        """
        return self.excludes_zero and self.p <= LEVEL


def pair(
    a: tuple[Outcome, Sequence[int]],
    b: tuple[Outcome, Sequence[int]],
    metric: str | None = None,
) -> tuple[Paired, tuple[Paired | None, ...]]:
    """Compare two outcomes of the same pictures in the same order.

    Args:
        a: the outcome, and which of its heads count; their mean is compared.
        b: likewise.
        metric: of the outcomes' `metrics`; None: the first of them.

    Returns:
        The difference of the scores, and of each class's; None where one of the two has none.

    Raises:
        ValueError: no such metric, or other pictures or classes.
    """
    (left, left_heads), (right, right_heads) = a, b
    if left.names != right.names:
        raise ValueError("outcomes of other pictures")
    count = len(left.names)
    once = np.ones((1, count))
    points = [
        outcome.weighted(heads, once, metric)[0]
        for outcome, heads in ((left, left_heads), (right, right_heads))
    ]
    if points[0].shape != points[1].shape:
        raise ValueError(f"outcomes of {len(points[0]) - 1} and {len(points[1]) - 1} classes")
    draws = np.concatenate(
        [
            right.weighted(right_heads, weights, metric)
            - left.weighted(left_heads, weights, metric)
            for weights in bayesian_weights(count)
        ]
    )
    numbers = [count, *left.class_pictures().tolist()]
    every = [
        None if np.isnan(one - other) else _paired(float(one), float(other), column, number)
        for one, other, column, number in zip(*points, draws.T, numbers, strict=True)
    ]
    whole, *classes = every
    if whole is None:
        raise ValueError("an outcome without a score")
    return whole, tuple(classes)


def _paired(a: float, b: float, draws: FloatArray, pictures: int) -> Paired:
    low, high = percentiles(draws)
    difference = b - a
    error = 0.0
    if pictures > 1:
        # the weights' variance is 1 / (n + 1) of the pictures', the mean's 1 / (n - 1)
        error = float(np.nanstd(draws)) * math.sqrt((pictures + 1) / (pictures - 1))
    least = min(1.0, 2.0 ** (1 - pictures))
    if error > 0:
        p = max(least, 2.0 * float(stdtr(pictures - 1, -abs(difference) / error)))
    else:
        p = least if difference else 1.0
    return Paired(
        a=a,
        b=b,
        difference=difference,
        low=low,
        high=high,
        above=float(np.mean(draws > 0) + np.mean(draws == 0) / 2),
        error=error,
        p=p,
        pictures=pictures,
    )


def seed_variance(a: Sequence[float], b: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Variance that the choice of seeds gives to the difference of two means over seeds.

    Args:
        a: score of each seed of A.
        b: likewise.

    Returns:
        Parts, each a variance and its degrees of freedom: one for each of A and B. Where one of
        the two has a single seed, the other's spread stands for both, in one part. None where both
        have.
    """
    several = [scores for scores in (a, b) if len(scores) > 1]
    if len(several) == 1:
        scores = several[0]
        share = 1.0 / len(a) + 1.0 / len(b)
        return ((float(np.var(scores, ddof=1)) * share, len(scores) - 1.0),)
    return tuple(
        (float(np.var(scores, ddof=1)) / len(scores), len(scores) - 1.0) for scores in several
    )


def with_seeds(whole: Paired, seeds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """95 % interval of the difference over pictures and seeds.

    The variance over pictures and those of the seeds add up: the bootstrap keeps the seeds, and the
    spread over seeds is on the same pictures. The interval is Student's, its degrees of freedom
    by Welch and Satterthwaite, so that a spread known from three seeds counts as no better known.
    """
    parts = [(whole.error**2, max(1.0, whole.pictures - 1.0)), *seeds]
    total = sum(variance for variance, _ in parts)
    if not total:
        return whole.difference, whole.difference
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * math.sqrt(total)
    return whole.difference - half, whole.difference + half


def holm(p: Sequence[float], level: float = LEVEL) -> tuple[bool, ...]:
    """Which of several tests survive Holm's correction (1979): at `level`, not one false."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    survives = [False] * len(p)
    for rank, i in enumerate(order):
        if p[i] > level / (len(p) - rank):
            break
        survives[i] = True
    return tuple(survives)
