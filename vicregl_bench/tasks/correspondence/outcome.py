"""What matching gave in every picture, for every draw of the views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vicregl_bench.tasks.domain import HeadScore, Outcome
from vicregl_bench.tasks.interval import interval_of_mean

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


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

    def interval(self, heads: Sequence[int]) -> tuple[float, float]:
        """95 % interval of the mean accuracy of some draws: Bayesian bootstrap (Rubin 1981)."""
        return interval_of_mean(100.0 * self.right[:, list(heads)].mean(axis=1))

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
        """
        return cls(
            names=tuple(map(str, arrays["names"])),
            labels=arrays["labels"].astype(np.int64),
            right=arrays["right"].astype(np.float64),
            error=arrays["error"].astype(np.float64),
            mirrored=arrays["mirrored"].astype(np.float64),
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
