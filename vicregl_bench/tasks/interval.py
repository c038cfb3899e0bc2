"""Intervals over pictures, by the Bayesian bootstrap (Rubin 1981).

Pictures are weighted instead of drawn: no weight is 0, so that every draw has every class, and rare
ones do not drop out of a mean.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS = 1000
_AT_ONCE = 2**19  # weights: 4 MiB


def bayesian_weights(pictures: int) -> Iterator[FloatArray]:
    """The weights of N pictures in 1000 draws, always the same, in blocks of rows (R, N).

    Exponential and not scaled: in proportion they are draws of the flat Dirichlet distribution.
    """
    generator = np.random.default_rng(0)
    rows = max(1, _AT_ONCE // max(1, pictures))
    for done in range(0, DRAWS, rows):
        yield generator.exponential(size=(min(rows, DRAWS - done), pictures))


def percentiles(scores: FloatArray) -> tuple[float, float]:
    """The 95 % interval of the scores of the draws; those without one (NaN) are left out."""
    low, high = np.nanpercentile(scores, [2.5, 97.5])
    return float(low), float(high)


def mean_of_classes(by_class: FloatArray) -> FloatArray:
    """(R,) means of scores (R, C) over the classes that have one; NaN where none has."""
    there = ~np.isnan(by_class)
    with np.errstate(invalid="ignore"):
        means: FloatArray = np.where(there, by_class, 0.0).sum(axis=1) / there.sum(axis=1)
    return means


def class_means(
    values: FloatArray, labels: IntArray, classes: int, weights: FloatArray
) -> FloatArray:
    """Weighted means of values (N,) by the class of each picture.

    Args:
        values: one a picture.
        labels: (N,) classes.
        classes: C.
        weights: (R, N).

    Returns:
        (R, C), NaN where no picture is of a class.
    """
    means = np.full((len(weights), classes), np.nan)
    if not classes or not len(labels):
        return means
    order = np.argsort(labels, kind="stable")
    present, begins = np.unique(labels[order], return_index=True)
    ordered = weights[:, order]
    whole = np.add.reduceat(ordered, begins, axis=1)
    ordered *= values[order]
    means[:, present] = np.add.reduceat(ordered, begins, axis=1) / whole
    return means
