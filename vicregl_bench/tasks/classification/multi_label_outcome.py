"""What K classifiers made of every picture and class: average precision of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vicregl_bench.tasks.interval import FloatArray, IntArray, mean_of_classes
from vicregl_bench.tasks.outcome import HeadScore, Outcome, check_shapes


@dataclass(frozen=True, eq=False)
class MultiLabelScores(Outcome):
    """Scores (N, K, C) of N pictures by K heads.

    Attributes:
        names: of the pictures.
        labels: (N, C) int8, 1 with the class, -1 without, 0 left out.
        scores: (N, K, C) float32, the higher the surer; NaN of a class that has no classifier.
        costs: (K, C) the C of each classifier, NaN where there is none.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float32]
    costs: FloatArray
    truth_arrays: ClassVar[tuple[str, ...]] = ("labels",)

    def head(self, k: int) -> HeadScore:
        """VOC2007's 11-point mAP of head k and its AP by class; the area's mAP beside it.

        A class without a classifier or a picture has none, and is left out of the means.
        """
        every = np.ones((1, len(self.names)))
        points, areas = self._precisions(k, every)
        return HeadScore(
            score=float(np.nanmean(points)),
            scores={
                "map": float(np.nanmean(points)),
                "map_area": float(np.nanmean(areas)),
            },
            by_class=tuple(None if np.isnan(one) else float(one) for one in points[0]),
        )

    @property
    def heads(self) -> int:
        """K."""
        return self.scores.shape[1]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means of the 11-point AP, and of the area."""
        return ("map", "map_area")

    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores (R, 1 + C) with the pictures weighted."""
        kind = self.metrics.index(self._metric(metric))
        each = [self._precisions(k, weights)[kind] for k in heads]
        whole = np.mean([mean_of_classes(one) for one in each], axis=0)
        return np.column_stack([whole, np.mean(each, axis=0)])

    def class_pictures(self) -> IntArray:
        """(C,) pictures with each class."""
        pictures: IntArray = (self.labels == 1).sum(axis=0)
        return pictures

    def reordered(self, order: Sequence[int]) -> "MultiLabelScores":
        """The same pictures in another order."""
        at = list(order)
        names = tuple(self.names[i] for i in at)
        return replace(self, names=names, labels=self.labels[at], scores=self.scores[at])

    def _precisions(self, k: int, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`average_precisions` (R, C) of every class; NaN where there is none."""
        found = np.full((2, len(weights), self.labels.shape[1]), np.nan)
        for label in range(self.labels.shape[1]):
            own, scores = self.labels[:, label], self.scores[:, k, label]
            if (own == 1).any() and not np.isnan(scores).any():
                counts = own != 0
                found[:, :, label] = average_precisions(
                    own[counts] == 1, scores[counts], weights[:, counts]
                )
        return found[0], found[1]

    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """Plain arrays, for a file; of some heads alone where that is asked for."""
        chosen = slice(None) if heads is None else list(heads)
        return {
            "names": np.array(self.names, dtype=np.str_),
            "labels": self.labels,
            "scores": self.scores[:, chosen],
            "costs": self.costs[chosen],
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "MultiLabelScores":
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they do not fit together.
        """
        names = tuple(map(str, arrays["names"]))
        labels, scores, costs = (arrays[name] for name in ("labels", "scores", "costs"))
        classes = labels.shape[1:2]
        check_shapes(
            {
                "labels": (labels.shape, (len(names), *classes)),
                "scores": (scores.shape, (len(names), *scores.shape[1:2], *classes)),
                "costs": (costs.shape, (*scores.shape[1:2], *classes)),
            }
        )
        return cls(names, labels, scores, costs)

    @classmethod
    def together(cls, outcomes: Sequence["MultiLabelScores | None"]) -> "MultiLabelScores | None":
        """Scores of one head each as one, NaN where there are none; None for none."""
        first = next((one for one in outcomes if one is not None), None)
        if first is None:
            return None
        none = replace(
            first,
            scores=np.full_like(first.scores, np.nan),
            costs=np.full_like(first.costs, np.nan),
        )
        each = [none if one is None else one for one in outcomes]
        return replace(
            first,
            scores=np.concatenate([one.scores for one in each], axis=1),
            costs=np.concatenate([one.costs for one in each]),
        )


def average_precisions(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[Any], weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Average precision of one class in percent, with the pictures weighted in R ways.

    Precision is the highest at any recall no smaller, as VOC has it. Of equal scores the picture
    that comes first ranks higher. Pictures without the class lower the precision of those that come
    after, so that the highest precisions are at pictures with it.

    Args:
        positive: (N,) whether a picture has the class; at least one does.
        scores: (N,).
        weights: (R, N) of the pictures, above 0.

    Returns:
        (R,) its mean at the recalls 0, 0.1, ..., 1 (VOC2007's devkit), and (R,) the area under it
        (VOC's since 2010, and what VISSL computes for VOC07). Deviation from mmdet and detectron2,
        whose 0.3, 0.6 and 0.7 are rounded up: a recall of exactly that much counts as reached.
    """
    order = np.argsort(-scores, kind="stable")
    there = positive[order]
    weights = weights[:, order]
    recall = np.cumsum(weights[:, there], axis=1)
    precision = recall / np.cumsum(weights, axis=1)[:, there]
    whole = recall[:, -1:].copy()
    # whole numbers where the weights are: a recall of 3/10 is neither more nor less
    reached = np.stack([(10 * recall < k * whole).sum(axis=1) for k in range(11)], axis=1)
    recall /= whole
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    points = np.take_along_axis(highest, reached, axis=1).mean(axis=1)
    areas = (np.diff(recall, axis=1, prepend=0.0) * highest).sum(axis=1)
    return 100.0 * points, 100.0 * areas
