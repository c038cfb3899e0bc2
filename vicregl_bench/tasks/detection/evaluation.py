"""AP of every head after a pass over pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmengine.evaluator import BaseMetric
from pycocotools import mask as rle_ops  # type: ignore[import-untyped]

from vicregl_bench.data import DetectionData, Picture
from vicregl_bench.data.detection import Segmentation
from vicregl_bench.errors import DataError
from vicregl_bench.tasks.detection.metric import (
    Convention,
    Detections,
    GroundTruth,
    Polygons,
    Rle,
    encoded_masks,
)
from vicregl_bench.tasks.detection.outcome import DetectionOutcome

# how AP is measured on each data set, and whether x2 and y2 are last pixels
_CONVENTIONS: dict[str, tuple[Convention, bool]] = {
    "voc_boxes": ("voc", True),
    "coco": ("coco", False),
}


class SweepDetectionMetric(BaseMetric):  # type: ignore[misc]
    """Detections of one head or of K, against the data set's own annotations.

    A sample has `img_id` and either `pred_heads`, a list over heads, or `pred_instances` of one
    head; each has mmdet's `bboxes` (n, 4) in pixels of the original picture, `scores`, `labels` and
    with `masks` also `masks`, (n, H, W) or run-length codes. After an evaluation, `outcome` holds
    all detections, rounded to float32; one that is not finite (of a head that diverged) is left
    out.

    Args:
        dataset: whose annotations are the truth; its name decides between VOC-style and COCO's AP.
        pictures: all that are evaluated; the outcome has their order.
        masks: score masks too.

    Raises:
        ValueError: masks of a data set that has none.
    """

    def __init__(
        self, dataset: DetectionData, pictures: Sequence[Picture], *, masks: bool = False
    ) -> None:
        super().__init__(prefix="sweep")
        self.convention, self.inclusive = _CONVENTIONS[dataset.name]
        if masks and self.convention == "voc":
            raise ValueError(f"{dataset.name} has no masks")
        self.dataset, self.pictures, self.masks = dataset, tuple(pictures), masks
        self.outcome: DetectionOutcome | None = None

    @property
    def kept(self) -> tuple[Mapping[str, Any], ...]:
        """Nothing: the outcome has the detections of all pictures."""
        return ()

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Take in every head's detections of each picture."""
        for sample in data_samples:
            heads = sample["pred_heads"] if "pred_heads" in sample else [sample["pred_instances"]]
            found = tuple(as_detections(head, masks=self.masks) for head in heads)
            self.results.append((sample["img_id"], found))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """AP of every head, in percent, as `sweep/head<k>/ap`.

        Raises:
            RuntimeError: a picture was not evaluated, or by other heads than the rest.
            DataError: an annotation cannot be used, or no object counts.
        """
        found: dict[int | str, tuple[Detections, ...]] = dict(results)
        absent = [picture.name for picture in self.pictures if picture.id not in found]
        if absent:
            raise RuntimeError(
                f"{len(absent)} of {len(self.pictures)} pictures were not evaluated, the first is "
                f"{absent[0]}"
            )
        by_picture = [found[picture.id] for picture in self.pictures]
        if len({len(heads) for heads in by_picture}) != 1:
            raise RuntimeError("pictures were evaluated by different numbers of heads, or none")
        self.outcome = DetectionOutcome(
            names=tuple(picture.name for picture in self.pictures),
            truth=tuple(
                ground_truth(self.dataset, picture, masks=self.masks) for picture in self.pictures
            ),
            found=tuple(zip(*by_picture, strict=True)),
            classes=len(self.dataset.classes),
            convention=self.convention,
            inclusive=self.inclusive,
        )
        return {f"head{k}/ap": self.outcome.head(k).score for k in range(len(self.outcome.found))}


def as_detections(instances: Any, *, masks: bool = False) -> Detections:
    """What mmdet found in a picture.

    Args:
        instances: mmdet's InstanceData, or a mapping of the same: `bboxes`, `scores`, `labels`, and
            `masks` where they are wanted; tensors or arrays.
        masks: take masks too.

    Returns:
        Detections whose numbers are float32's; what is not finite is left out.
    """
    boxes = _in_float32(instances["bboxes"]).reshape(-1, 4)
    scores = _in_float32(instances["scores"])
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return Detections(
        boxes=boxes[finite],
        scores=scores[finite],
        labels=torch.as_tensor(instances["labels"]).cpu().numpy().astype(np.int64)[finite],
        masks=[_as_rle(instances["masks"][i]) for i in np.flatnonzero(finite)] if masks else None,
    )


def ground_truth(dataset: DetectionData, picture: Picture, *, masks: bool = False) -> GroundTruth:
    """What is in a picture, as AP needs it.

    Args:
        dataset: the picture's.
        picture: one of it.
        masks: with masks, which COCO has; as run-length codes.

    Raises:
        DataError: the annotation cannot be used, or has no masks.
    """
    there = dataset.annotations(picture)
    outlines: list[Rle | Polygons] | None = None
    if masks:
        outlines = [_outline(one) for one in there.segmentations or ()]
        if len(outlines) != len(there.boxes) or not all(outlines):
            raise DataError(
                f"{picture.annotation}: an object of {picture.name} has no mask; run the data check"
            )
    truth = GroundTruth(
        boxes=there.boxes,
        labels=there.labels,
        ignore=there.ignored,
        masks=outlines,
        areas=there.areas,
        size=(there.height, there.width),
    )
    return truth if outlines is None else replace(truth, masks=encoded_masks(truth))


def _in_float32(values: Any) -> npt.NDArray[np.float64]:
    """Numbers of float32, as float64; infinite where they are too large."""
    array: npt.NDArray[np.float64] = torch.as_tensor(values).detach().cpu().float().numpy()
    return array.astype(np.float64)


def _as_rle(mask: Any) -> Rle:
    """A run-length code as it is, or that of a mask (H, W)."""
    if isinstance(mask, dict):
        return mask
    encoded: Rle = rle_ops.encode(
        np.asfortranarray(torch.as_tensor(mask).cpu().numpy().astype(np.uint8))
    )
    return encoded


def _outline(segmentation: Segmentation) -> Rle | Polygons:
    return dict(segmentation) if isinstance(segmentation, dict) else segmentation
