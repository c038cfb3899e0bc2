"""mmseg's metric of every head, keeping histograms per picture."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmseg.evaluation import IoUMetric

from vicregl_bench.records.predictions import picture_name
from vicregl_bench.tasks.segmentation.outcome import PictureAreas


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
