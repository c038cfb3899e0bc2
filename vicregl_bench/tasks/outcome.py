"""What heads did on every picture: all that scores, intervals and comparisons need.

Nothing here, nor in the outcomes of segmentation, classification and correspondence, imports torch:
`vicregl-bench compare` reads outcomes back and starts at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from vicregl_bench.tasks.interval import FloatArray, IntArray, bayesian_weights, percentiles


@dataclass(frozen=True)
class HeadScore:
    """One head on a list of pictures, in percent; None for a class that never occurs.

    Attributes:
        score: of the domain's metric.
        scores: every metric, the domain's own too.
        by_class: the domain's metric, in the order of the data set's classes.
    """

    score: float
    scores: Mapping[str, float | None]
    by_class: Sequence[float | None]


class Outcome(ABC):
    """What K heads did on every picture of a list, as far as scores need it.

    Attributes:
        names: of the pictures.
        truth_arrays: names of the arrays in `to_arrays` that say what is in the pictures; two
            outcomes are of the same pictures where these are equal.
    """

    names: tuple[str, ...]
    truth_arrays: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def heads(self) -> int:
        """K."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics of `records.metrics` that `weighted` knows, the outcome's own first."""

    @abstractmethod
    def head(self, k: int) -> HeadScore:
        """The scores of head k."""

    @abstractmethod
    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores with the pictures weighted in R ways, in percent: means over some heads.

        With every weight 1 they are those of `head`.

        Args:
            heads: which.
            weights: (R, N) of the pictures.
            metric: of `metrics`; None: the first of them.

        Returns:
            (R, 1 + C): over all pictures, then by class, NaN where a class has none.
        """

    @abstractmethod
    def class_pictures(self) -> IntArray:
        """(C,) number of pictures that each class is in."""

    @abstractmethod
    def reordered(self, order: Sequence[int]) -> Self:
        """The same pictures in another order."""

    def resamples(self) -> Iterable[FloatArray]:
        """Weights (R, N) of the pictures that `interval` goes by, block after block."""
        return bayesian_weights(len(self.names))

    def draws(
        self,
        heads: Sequence[int],
        weights: Iterable[FloatArray] | None = None,
        metric: str | None = None,
    ) -> FloatArray:
        """`weighted` (D, 1 + C) over many draws: blocks of weights, or None: `resamples`."""
        blocks = self.resamples() if weights is None else weights
        return np.concatenate([self.weighted(heads, block, metric) for block in blocks])

    def interval(self, heads: Sequence[int]) -> tuple[float, float]:
        """95 % bootstrap interval over pictures of the mean of some heads' scores."""
        return percentiles(self.draws(heads)[:, 0])

    @abstractmethod
    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """Plain arrays, for a file; of some heads alone where that is asked for."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they do not fit together.
        """

    @classmethod
    @abstractmethod
    def together(cls, outcomes: Sequence[Self | None]) -> Self | None:
        """Outcomes of one head each as one; nothing scored where there is none.

        None where all are.
        """

    def _metric(self, metric: str | None) -> str:
        """The metric meant.

        Raises:
            ValueError: it is none of `metrics`.
        """
        if metric is None:
            return self.metrics[0]
        if metric not in self.metrics:
            raise ValueError(f"{metric} is none of {', '.join(self.metrics)}")
        return metric


def check_shapes(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Compare shapes of arrays with those expected.

    Args:
        shapes: name -> shape found, and expected.

    Raises:
        ValueError: two differ.
    """
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise ValueError(f"{name} is of shape {found}, not {expected}")
