"""mIoU of every head, from areas kept per picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vicregl_bench.tasks.interval import FloatArray, IntArray, mean_of_classes
from vicregl_bench.tasks.outcome import HeadScore, Outcome, check_shapes


@dataclass(frozen=True)
class PictureAreas(Outcome):
    """Areas in pixels per picture, head and class, each (N, K, C); ground truth is (N, C)."""

    truth_arrays: ClassVar[tuple[str, ...]] = ("labelled",)

    names: tuple[str, ...]
    intersect: IntArray
    predicted: IntArray
    labelled: IntArray

    def head(self, k: int) -> HeadScore:
        """mIoU, pixel accuracy and IoU by class of head k."""
        iou = self.iou()[k]
        miou = float(np.nanmean(iou))
        return HeadScore(
            score=miou,
            scores={"miou": miou, "pixel_accuracy": float(self.pixel_accuracy()[k])},
            by_class=tuple(None if np.isnan(value) else float(value) for value in iou),
        )

    @property
    def heads(self) -> int:
        """K."""
        return self.intersect.shape[1]

    @property
    def metrics(self) -> tuple[str, ...]:
        """MIoU, and pixel accuracy (by class: share of the class's own pixels)."""
        return ("miou", "pixel_accuracy")

    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores (R, 1 + C) of weighted areas."""
        chosen = list(heads)
        labelled = weights @ self.labelled
        intersect = np.tensordot(weights, self.intersect[:, chosen], axes=1)
        if self._metric(metric) == "pixel_accuracy":
            with np.errstate(invalid="ignore"):
                by_class = 100.0 * intersect.mean(axis=1) / labelled
            whole = 100.0 * intersect.sum(axis=2).mean(axis=1) / labelled.sum(axis=1)
        else:
            predicted = np.tensordot(weights, self.predicted[:, chosen], axes=1)
            iou = iou_percent(intersect, predicted, labelled)
            by_class = iou.mean(axis=1)
            whole = np.mean([mean_of_classes(iou[:, k]) for k in range(len(chosen))], axis=0)
        return np.column_stack([whole, by_class])

    def class_pictures(self) -> IntArray:
        """(C,) pictures with a pixel of each class."""
        pictures: IntArray = (self.labelled > 0).sum(axis=0)
        return pictures

    def reordered(self, order: Sequence[int]) -> "PictureAreas":
        """The same pictures in another order."""
        at = list(order)
        return PictureAreas(
            names=tuple(self.names[i] for i in at),
            intersect=self.intersect[at],
            predicted=self.predicted[at],
            labelled=self.labelled[at],
        )

    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """The same as plain arrays, for a file; of some heads alone where that is asked for."""
        chosen = slice(None) if heads is None else list(heads)
        return {
            "names": np.array(self.names, dtype=np.str_),
            "intersect": self.intersect[:, chosen].astype(np.int32),
            "predicted": self.predicted[:, chosen].astype(np.int32),
            "labelled": self.labelled.astype(np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "PictureAreas":
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they do not fit together.
        """
        names = tuple(map(str, arrays["names"]))
        intersect, predicted, labelled = (
            arrays[name].astype(np.int64) for name in ("intersect", "predicted", "labelled")
        )
        shape = (len(names), *intersect.shape[1:2], *labelled.shape[1:])
        check_shapes(
            {
                "intersect": (intersect.shape, shape),
                "predicted": (predicted.shape, shape),
                "labelled": (labelled.shape, (len(names), *shape[2:])),
            }
        )
        return cls(names, intersect, predicted, labelled)

    @classmethod
    def together(cls, outcomes: Sequence["PictureAreas | None"]) -> "PictureAreas | None":
        """Areas of one head each as one, zeros where there are none; None where none has any."""
        first = next((one for one in outcomes if one is not None), None)
        if first is None:
            return None
        assert all(one.names == first.names for one in outcomes if one is not None)
        empty = np.zeros_like(first.intersect)
        return cls(
            names=first.names,
            intersect=np.concatenate(
                [empty if a is None else a.intersect for a in outcomes], axis=1
            ),
            predicted=np.concatenate(
                [empty if a is None else a.predicted for a in outcomes], axis=1
            ),
            labelled=first.labelled,
        )

    def iou(self) -> FloatArray:
        """(K, C) IoU in percent over the data set's pixels; NaN where a class never occurs."""
        return iou_percent(self.intersect.sum(0), self.predicted.sum(0), self.labelled.sum(0))

    def pixel_accuracy(self) -> FloatArray:
        """(K,) share of labelled pixels predicted right, in percent."""
        accuracy: FloatArray = 100.0 * self.intersect.sum((0, 2)) / self.labelled.sum()
        return accuracy


def iou_percent(
    intersect: npt.NDArray[Any], predicted: npt.NDArray[Any], labelled: npt.NDArray[Any]
) -> FloatArray:
    """IoU in percent from areas (..., K, C), (..., K, C) and (..., C); NaN where the union is 0."""
    union = predicted + labelled[..., None, :] - intersect
    with np.errstate(invalid="ignore", divide="ignore"):
        iou: FloatArray = 100.0 * intersect / union
    return iou
