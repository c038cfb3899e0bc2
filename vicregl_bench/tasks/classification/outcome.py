"""What K classifiers made of every picture: the rank of its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from vicregl_bench.tasks.interval import FloatArray, IntArray, class_means, mean_of_classes
from vicregl_bench.tasks.outcome import HeadScore, Outcome, check_shapes


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
    truth_arrays: ClassVar[tuple[str, ...]] = ("labels", "classes")

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

    @property
    def heads(self) -> int:
        """K."""
        return self.ranks.shape[1]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The outcome's own first; by class top-1, or top-5 for top-5."""
        return tuple(dict.fromkeys((self.metric, "top1", "top5", "mean_per_class")))

    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores (R, 1 + C) with the pictures weighted."""
        asked = self._metric(metric)
        right = self.ranks[:, list(heads)] < (5 if asked == "top5" else 1)
        values = 100.0 * right.mean(axis=1)
        by_class = class_means(values, self.labels, self.classes, weights)
        if asked == "mean_per_class":
            whole = mean_of_classes(by_class)
        else:
            whole = (weights @ values) / weights.sum(axis=1)
        return np.column_stack([whole, by_class])

    def class_pictures(self) -> IntArray:
        """(C,) pictures of each class."""
        return np.bincount(self.labels, minlength=self.classes)

    def reordered(self, order: Sequence[int]) -> "LabelRanks":
        """The same pictures in another order."""
        at = list(order)
        names = tuple(self.names[i] for i in at)
        return replace(self, names=names, labels=self.labels[at], ranks=self.ranks[at])

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
            ValueError: they do not fit together.
        """
        names = tuple(map(str, arrays["names"]))
        labels, ranks = (arrays[name].astype(np.int64) for name in ("labels", "ranks"))
        classes, count = int(arrays["classes"]), len(names)
        check_shapes(
            {
                "labels": (labels.shape, (count,)),
                "ranks": (ranks.shape, (count, *ranks.shape[1:2])),
            }
        )
        if count and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"a label is outside 0 ... {classes - 1}")
        return cls(
            names=names,
            labels=labels,
            ranks=ranks,
            classes=classes,
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
