"""Intervals over pictures, by the Bayesian bootstrap (Rubin 1981)."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def bayesian_weights(pictures: int) -> FloatArray:
    """Weights (1000, N) of N pictures, a row a draw, always the same."""
    return np.random.default_rng(0).exponential(size=(1000, pictures))


def percentiles(scores: FloatArray) -> tuple[float, float]:
    """The 95 % interval of the scores of the draws."""
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def interval_of_mean(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the mean of values (N,)."""
    weights = bayesian_weights(len(values))
    return percentiles((weights @ values) / weights.sum(axis=1))
