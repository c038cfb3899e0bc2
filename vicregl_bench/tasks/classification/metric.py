"""mmengine's metric of classifiers: ranks of the true classes, collected over a pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from vicregl_bench.data import Labelled
from vicregl_bench.tasks.classification.outcome import LabelRanks


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
