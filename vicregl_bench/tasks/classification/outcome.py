"""What K classifiers made of every picture: the rank of its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.evaluator import BaseMetric

from vicregl_bench.data import Labelled
from vicregl_bench.tasks.domain import HeadScore, Outcome
from vicregl_bench.tasks.interval import bayesian_weights, interval_of_mean, percentiles

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelRanks(Outcome):
    """Ranks (N, K) of the true classes of N pictures, 0 for the highest logit.

    Attributes:
        names: of the pictures.
        labels: (N,) true classes.
        ranks: (N, K); of equal logits the true class's counts as the lowest.
        classes: C.
        metric: the score, "top1" or "mean_per_class".
    """

    names: tuple[str, ...]
    labels: IntArray
    ranks: IntArray
    classes: int
    metric: str = "top1"

    def head(self, k: int) -> HeadScore:
        """Top-1, top-5 and mean per-class accuracy of head k; by class top-1."""
        right = self.ranks[:, k] == 0
        by_class = [
            float(100.0 * right[self.labels == label].mean()) if present else None
            for label, present in enumerate(np.bincount(self.labels, minlength=self.classes))
        ]
        present = [one for one in by_class if one is not None]
        scores = {
            "top1": float(100.0 * right.mean()),
            "top5": float(100.0 * (self.ranks[:, k] < 5).mean()),
            "mean_per_class": float(np.mean(present)),
        }
        return HeadScore(scores[self.metric], scores, by_class=tuple(by_class))

    def interval(self, heads: Sequence[int]) -> tuple[float, float]:
        """95 % interval of the mean score of some heads: Bayesian bootstrap (Rubin 1981)."""
        right = (self.ranks[:, list(heads)] == 0).mean(axis=1)
        if self.metric != "mean_per_class":
            return interval_of_mean(100.0 * right)
        weights = bayesian_weights(len(right))
        return percentiles(100.0 * self._means_per_class(weights, right))

    def _means_per_class(self, weights: FloatArray, right: FloatArray) -> FloatArray:
        """Mean over the classes there are of each one's weighted mean, for every row of weights."""
        order = np.argsort(self.labels, kind="stable")
        begins = np.unique(self.labels[order], return_index=True)[1]
        ordered = weights[:, order]
        whole = np.add.reduceat(ordered, begins, axis=1)
        ordered *= right[order]
        means: FloatArray = (np.add.reduceat(ordered, begins, axis=1) / whole).mean(axis=1)
        return means

    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """Plain arrays, for a file; of some heads alone where that is asked for."""
        chosen = slice(None) if heads is None else list(heads)
        return {
            "names": np.array(self.names, dtype=np.str_),
            "labels": self.labels.astype(np.int32),
            "ranks": self.ranks[:, chosen].astype(np.int32),
            "classes": np.array(self.classes, dtype=np.int32),
            "metric": np.array(self.metric, dtype=np.str_),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "LabelRanks":
        """What `to_arrays` gave, also before it named the metric: top-1 then.

        Raises:
            KeyError: an array is missing.
        """
        return cls(
            names=tuple(map(str, arrays["names"])),
            labels=arrays["labels"].astype(np.int64),
            ranks=arrays["ranks"].astype(np.int64),
            classes=int(arrays["classes"]),
            metric=str(arrays.get("metric", "top1")),
        )

    @classmethod
    def together(cls, outcomes: Sequence["LabelRanks | None"]) -> "LabelRanks | None":
        """Ranks of one head each as one, the last rank where there are none; None for none."""
        first = next((one for one in outcomes if one is not None), None)
        if first is None:
            return None
        last = np.full_like(first.ranks, first.classes - 1)
        ranks = np.concatenate([last if one is None else one.ranks for one in outcomes], axis=1)
        return replace(first, ranks=ranks)


class RankMetric(BaseMetric):  # type: ignore[misc]
    """mmengine's metric of (K,) ranks a picture; after a pass `outcome` has them all.

    Args:
        pictures: in the order of their indices.
        classes: C.
        metric: the score.
    """

    kept: tuple[Mapping[str, Any], ...] = ()

    def __init__(self, pictures: Sequence[Labelled], classes: int, metric: str = "top1") -> None:
        super().__init__(prefix="sweep")
        self.pictures, self.classes, self.metric = tuple(pictures), classes, metric
        self.outcome: LabelRanks | None = None

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Keep index and ranks of every picture of a batch."""
        self.results += [(one["index"], one["ranks"]) for one in data_samples]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Top-1 of every head, in percent, as `sweep/head<k>/top1`."""
        ranks = dict(results)
        missing = len(self.pictures) - len(ranks)
        if missing:
            raise RuntimeError(f"{missing} pictures were never evaluated")
        self.outcome = LabelRanks(
            names=tuple(picture.name for picture in self.pictures),
            labels=np.array([picture.label for picture in self.pictures], dtype=np.int64),
            ranks=np.stack([ranks[index] for index in range(len(self.pictures))]),
            classes=self.classes,
            metric=self.metric,
        )
        top1 = 100.0 * (self.outcome.ranks == 0).mean(axis=0)
        return {f"head{k}/top1": float(value) for k, value in enumerate(top1)}
