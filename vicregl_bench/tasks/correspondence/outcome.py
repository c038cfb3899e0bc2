"""What matching gave in every picture, for every draw of the views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from vicregl_bench.tasks.interval import FloatArray, IntArray, class_means
from vicregl_bench.tasks.outcome import HeadScore, Outcome, check_shapes


@dataclass(frozen=True, eq=False)
class MatchShares(Outcome):
    """Matches in N pictures under K draws of their views; NaN where there is none.

    Attributes:
        names: of the pictures.
        labels: (N,) class of each picture; without use where there are no classes.
        right: (N, K) share of the cells matched right.
        error: (N, K) mean distance to the true cells, in sides of a view.
        mirrored: (N, K) share matched right in pairs of which one view is flipped; NaN of none.
        cells: of a map; a match at random is right in one of so many.
        classes: C, 0 of pictures without.
    """

    names: tuple[str, ...]
    labels: IntArray
    right: FloatArray
    error: FloatArray
    mirrored: FloatArray
    cells: int
    classes: int
    truth_arrays: ClassVar[tuple[str, ...]] = ("labels", "cells", "classes")

    def head(self, k: int) -> HeadScore:
        """Accuracy, distance error and chance in percent; by class the accuracy."""
        right = self.right[:, k]
        mirrored = self.mirrored[:, k]
        mirrored = mirrored[~np.isnan(mirrored)]
        accuracy = float(100.0 * right.mean())
        return HeadScore(
            score=accuracy,
            scores={
                "match_accuracy": accuracy,
                "mirrored_accuracy": float(100.0 * mirrored.mean()) if len(mirrored) else None,
                "match_chance": 100.0 / self.cells,
                "distance_error": float(100.0 * self.error[:, k].mean()),
            },
            by_class=tuple(
                float(100.0 * right[self.labels == label].mean())
                if (self.labels == label).any()
                else None
                for label in range(self.classes)
            ),
        )

    @property
    def heads(self) -> int:
        """K draws of the views."""
        return self.right.shape[1]

    @property
    def metrics(self) -> tuple[str, ...]:
        """All but chance, which depends on no picture."""
        return ("match_accuracy", "mirrored_accuracy", "distance_error")

    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores (R, 1 + C) with the pictures weighted; those without a mirrored pair left out."""
        asked = self._metric(metric)
        arrays = {"match_accuracy": self.right, "mirrored_accuracy": self.mirrored}
        each = [
            self._means(values, weights)
            for values in 100.0 * arrays.get(asked, self.error)[:, list(heads)].T
        ]
        means: FloatArray = np.mean(each, axis=0)
        return means

    def _means(self, values: FloatArray, weights: FloatArray) -> FloatArray:
        there = ~np.isnan(values)
        if not there.all():
            values, weights = values[there], weights[:, there]
        with np.errstate(invalid="ignore"):
            whole = (weights @ values) / weights.sum(axis=1)
        by_class = class_means(values, self.labels[there], self.classes, weights)
        return np.column_stack([whole, by_class])

    def class_pictures(self) -> IntArray:
        """(C,) pictures of each class."""
        return np.bincount(self.labels, minlength=self.classes)[: self.classes]

    def reordered(self, order: Sequence[int]) -> "MatchShares":
        """The same pictures in another order."""
        at = list(order)
        return replace(
            self,
            names=tuple(self.names[i] for i in at),
            labels=self.labels[at],
            right=self.right[at],
            error=self.error[at],
            mirrored=self.mirrored[at],
        )

    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """Plain arrays, for a file; of some draws alone where that is asked for."""
        chosen = slice(None) if heads is None else list(heads)
        return {
            "names": np.array(self.names, dtype=np.str_),
            "labels": self.labels.astype(np.int32),
            "right": self.right[:, chosen],
            "error": self.error[:, chosen],
            "mirrored": self.mirrored[:, chosen],
            "cells": np.array(self.cells, dtype=np.int32),
            "classes": np.array(self.classes, dtype=np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "MatchShares":
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they do not fit together.
        """
        names = tuple(map(str, arrays["names"]))
        labels = arrays["labels"].astype(np.int64)
        right, error, mirrored = (
            arrays[name].astype(np.float64) for name in ("right", "error", "mirrored")
        )
        shape = (len(names), *right.shape[1:2])
        check_shapes(
            {
                "labels": (labels.shape, shape[:1]),
                "right": (right.shape, shape),
                "error": (error.shape, shape),
                "mirrored": (mirrored.shape, shape),
            }
        )
        return cls(
            names=names,
            labels=labels,
            right=right,
            error=error,
            mirrored=mirrored,
            cells=int(arrays["cells"]),
            classes=int(arrays["classes"]),
        )

    @classmethod
    def together(cls, outcomes: Sequence["MatchShares | None"]) -> "MatchShares | None":
        """Shares of one draw each as one, NaN where there are none; None for none."""
        first = next((one for one in outcomes if one is not None), None)
        if first is None:
            return None

        def joined(name: str) -> FloatArray:
            none = np.full_like(first.right, np.nan)
            parts = [none if one is None else getattr(one, name) for one in outcomes]
            return np.concatenate(parts, axis=1)

        return cls(
            names=first.names,
            labels=first.labels,
            right=joined("right"),
            error=joined("error"),
            mirrored=joined("mirrored"),
            cells=first.cells,
            classes=first.classes,
        )
