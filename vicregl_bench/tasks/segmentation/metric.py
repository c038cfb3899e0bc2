"""mIoU of every head, from histograms kept per picture."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmseg.evaluation import IoUMetric

from vicregl_bench.records.predictions import picture_name
from vicregl_bench.tasks.domain import HeadScore, Outcome

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PictureAreas(Outcome):
    """Areas in pixels per picture, head and class, each (N, K, C); ground truth is (N, C)."""

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

    def interval(self, heads: Sequence[int]) -> tuple[float, float]:
        """As `bootstrap_interval`."""
        return bootstrap_interval(self, list(heads))

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
        """
        counts = (arrays[name].astype(np.int64) for name in ("intersect", "predicted", "labelled"))
        return cls(tuple(map(str, arrays["names"])), *counts)

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


def bootstrap_interval(
    areas: PictureAreas, heads: list[int], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean mIoU of some heads over reweighted pictures.

    The Bayesian bootstrap (Rubin 1981): weights are drawn from a flat Dirichlet distribution, the
    same for every head. No picture is ever left out, so that every resample has all the classes:
    drawn with replacement, pictures of rare classes would take the class from the mean with them.
    """
    count = len(areas.names)
    draws = np.random.default_rng(seed).dirichlet(np.ones(count), size=resamples)
    intersect, predicted = (
        np.tensordot(draws, area[:, heads], axes=1) for area in (areas.intersect, areas.predicted)
    )
    iou = iou_percent(intersect, predicted, draws @ areas.labelled)
    low, high = np.percentile(np.nanmean(iou, axis=2).mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


class SweepIoUMetric(IoUMetric):  # type: ignore[misc]
    """mmseg's IoUMetric for (K, H, W) predictions, without its rounding.

    After an evaluation, `outcome` holds the histograms that everything else is computed from.

    Args:
        keep: paths of pictures whose predictions are wanted.
        kwargs: of mmseg's metric.
    """

    def __init__(self, keep: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(prefix="sweep", **kwargs)
        self.keep = frozenset(keep)
        self.outcome: PictureAreas | None = None
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}

    @property
    def kept(self) -> tuple[Mapping[str, npt.NDArray[np.uint8]], ...]:
        """Of each head, name of a kept picture -> its label map (H, W)."""
        heads = max((len(labels) for labels in self._kept.values()), default=0)
        return tuple(
            {picture_name(path): labels[k] for path, labels in self._kept.items()}
            for k in range(heads)
        )

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Histogram every head's prediction of each picture against its mask."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            predictions = sample["pred_sem_seg"]["data"]
            if sample["img_path"] in self.keep:
                self._kept[sample["img_path"]] = predictions.cpu().numpy().astype(np.uint8)
            label = sample["gt_sem_seg"]["data"].squeeze(0).to(predictions.device).long()
            valid = label != self.ignore_index
            label = label[valid]
            # one histogram over pairs (label, prediction) gives all three areas
            tables = torch.stack(
                [
                    torch.bincount(label * classes + p[valid], minlength=classes * classes)
                    for p in predictions
                ]
            ).view(-1, classes, classes)
            self.results.append(
                (
                    sample["img_path"],
                    tables.diagonal(dim1=1, dim2=2).cpu().numpy(),
                    tables.sum(dim=1).cpu().numpy(),
                    tables[0].sum(dim=1).cpu().numpy(),
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """MIoU of every head, in percent, as `sweep/head<k>/mIoU`."""
        paths, intersect, predicted, labelled = zip(*results, strict=True)
        self.outcome = PictureAreas(
            names=tuple(path.replace("\\", "/").rsplit("/", 1)[-1] for path in paths),
            intersect=np.stack(intersect),
            predicted=np.stack(predicted),
            labelled=np.stack(labelled),
        )
        means = np.nanmean(self.outcome.iou(), axis=1)
        return {f"head{k}/mIoU": float(mean) for k, mean in enumerate(means)}
