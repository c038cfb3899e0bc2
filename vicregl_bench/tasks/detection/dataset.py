"""Pictures and boxes for mmengine, with augmentation seeded by position (`tasks.positions`).

Sizes and batches are those of detectron2's `DatasetMapper` under MoCo's detection configs: the
shorter side drawn, the longer one bounded, a flip, pictures of one orientation a batch. Deviations
from detectron2, all of them mmdetection's ways:

- Pictures are resized by OpenCV's bilinear interpolation, not Pillow's.
- Ends of VOC's boxes are last pixels (see `data.Annotations`), and are flipped as if they were
  edges.
- Square pictures go with those that are wider than high; there with the others.

Importing this imports mmdet and `mmcv.ops`: where mmcv has no compiled extension, what stands in
for it must be installed before.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from mmcv.transforms import LoadImageFromFile, RandomChoice
from mmdet.datasets import BaseDetDataset
from mmdet.datasets.transforms import (
    LoadAnnotations,
    PackDetInputs,
    RandomFlip,
    Resize,
    ResizeShortestEdge,
)
from mmengine.dataset import DefaultSampler
from torch.utils.data import Sampler

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import Annotations, DetectionData, Picture
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.errors import ConfigError, DataError
from vicregl_bench.tasks.detection.settings import DetectionDataSection
from vicregl_bench.tasks.positions import PositionSampler, SeededByPosition

Config = dict[str, Any]

_LEAST_EXTENT = 1e-3
"""Pixels. COCO gives hundredths, and a float32 below 2048 resolves 1.2e-4: more stays more."""


class DetectionPictures(SeededByPosition, BaseDetDataset):  # type: ignore[misc]
    """mmdet data set over an explicit list of pictures.

    Crowds get mmdet's `ignore_flag`, so `PackDetInputs` puts them in `ignored_instances`. VOC's
    difficult objects do not (mmdet's `XMLDataset` flags them): they are trained on, as in
    detectron2, and how they are scored is the metric's. The rest of the rules holds in training
    alone; a test gets every picture and box:

    - Boxes no part of which lies in the picture, or that have no width or height, are left out.
    - Pictures without an object to train on are left out. So does detectron2
      (FILTER_EMPTY_ANNOTATIONS, crowds do not count); mmdet's `filter_empty_gt` keeps those with
      crowds alone.
    - With masks, an object without polygons is ignored, as `LoadAnnotations(poly2mask=False)`
      has it.
    - No picture is left out for its size, as in detectron2 (mmdet's configs: sides below 32).

    Args:
        dataset: where the annotations are read.
        pictures: of the data set.
        seed: of the augmentation; used when an item is asked for as (position, index).
        masks: whether masks are trained: instances have a `mask`, COCO's polygons or run-length
            code.
        kwargs: of mmdet's `BaseDetDataset`.

    Attributes:
        landscape: of each picture, whether it is at least as wide as high.

    Raises:
        DataError: an annotation cannot be used, or nothing is left to train on.
        ConfigError: masks of a data set that has none.
    """

    landscape: tuple[bool, ...]

    def __init__(
        self,
        dataset: DetectionData,
        pictures: Sequence[Picture],
        seed: int = 0,
        *,
        masks: bool = False,
        **kwargs: Any,
    ) -> None:
        self.dataset, self.pictures, self.seed, self.masks = dataset, tuple(pictures), seed, masks
        super().__init__(metainfo={"classes": dataset.classes}, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a picture, as mmdet's transforms expect it."""
        entries = [self._entry(picture) for picture in self.pictures]
        if not self.test_mode:
            entries = [
                entry
                for entry in entries
                if any(not instance["ignore_flag"] for instance in entry["instances"])
            ]
            if not entries:
                raise DataError(
                    f"no object to train on in {len(self.pictures):,} pictures of "
                    f"{self.dataset.name} below {self.dataset.root}"
                )
        self.landscape = tuple(entry["width"] >= entry["height"] for entry in entries)
        return entries

    def _entry(self, picture: Picture) -> dict[str, Any]:
        found = self.dataset.annotations(picture)
        if self.masks and found.segmentations is None:
            raise ConfigError(f"{self.dataset.name} has no masks to train")
        kept = range(len(found.labels)) if self.test_mode else np.flatnonzero(_extended(found))
        return {
            "img_path": str(picture.image),
            "img_id": picture.id,
            "height": found.height,
            "width": found.width,
            "instances": [self._instance(found, int(number)) for number in kept],
        }

    def _instance(self, found: Annotations, number: int) -> dict[str, Any]:
        instance: dict[str, Any] = {
            "bbox": found.boxes[number].tolist(),
            "bbox_label": int(found.labels[number]),
            "ignore_flag": int(found.crowd[number]),
        }
        if self.masks and found.segmentations is not None:
            mask = instance["mask"] = found.segmentations[number]
            if not (isinstance(mask, list) and mask):
                instance["ignore_flag"] = 1
        return instance


def _extended(found: Annotations) -> npt.NDArray[np.bool_]:
    """(N,) whether what lies of a box in its picture has both width and height."""
    ends = np.array([found.width, found.height] * 2, dtype=np.float64)
    inside = found.boxes.clip(0.0, ends)
    extended: npt.NDArray[np.bool_] = (inside[:, 2:] - inside[:, :2] >= _LEAST_EXTENT).all(axis=1)
    return extended


class OrientationSampler(Sampler[tuple[int, int]]):
    """The stream of `PositionSampler`, every batch of wide pictures or of high ones alone.

    Pictures wait until a batch of their kind is full, as in mmdet's `AspectRatioBatchSampler` and
    detectron2's ASPECT_RATIO_GROUPING; less is padding then. It is a sampler of pictures, not of
    batches, because mmengine begins a resumed run by skipping pictures. What waits at that moment
    follows from the whole stream before, which is therefore gone through again (indices alone).

    Args:
        dataset: the pictures.
        batch_size: in which the loader takes them.
        seed: of the order.
    """

    def __init__(self, dataset: DetectionPictures, batch_size: int, seed: int = 0) -> None:
        self.landscape, self.batch_size, self.start = dataset.landscape, batch_size, 0
        self.stream = PositionSampler(dataset, seed)

    def skip(self, num_samples: int) -> None:
        """Begin after this many pictures (mmengine calls it on resume)."""
        self.start = num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return islice(self._grouped(), self.start, None)

    def _grouped(self) -> Iterator[tuple[int, int]]:
        waiting: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for position, index in self.stream:
            batch = waiting[self.landscape[index]]
            batch.append((position, index))
            if len(batch) == self.batch_size:
                yield from batch
                batch.clear()

    def __len__(self) -> int:
        return len(self.stream)


def _shortest_edge(side: int, longest: int) -> Config:
    """Resize the shorter side to `side`, or the longer one to `longest` where it would be longer.

    By mmdet's copy of detectron2's `ResizeShortestEdge`, whose sizes differ from `Resize` with
    `keep_ratio` by a pixel here and there.
    """
    return {"type": ResizeShortestEdge, "scale": side, "max_size": longest, "resize_type": Resize}


def train_pipeline(data: DetectionDataSection, *, masks: bool = False) -> list[Config]:
    """Training transforms: a shorter side drawn, a flip."""
    return [
        {"type": LoadImageFromFile},
        {"type": LoadAnnotations, "with_bbox": True, "with_mask": masks, "poly2mask": False},
        {
            "type": RandomChoice,
            "transforms": [[_shortest_edge(side, data.longest)] for side in data.short_sides],
        },
        {"type": RandomFlip, "prob": data.flip},
        {"type": PackDetInputs},
    ]


def test_pipeline(data: DetectionDataSection) -> list[Config]:
    """Test transforms; samples have what it takes to bring boxes back, and no annotations."""
    return [
        {"type": LoadImageFromFile},
        _shortest_edge(data.test_short_side, data.longest),
        {"type": PackDetInputs},
    ]


def _pictures_of(dataset: DetectionData) -> Callable[..., DetectionPictures]:
    """What builds a data set, instead of its class and an argument that mmengine copies deeply.

    COCO's reader holds 3 GB once it was used.
    """

    def build(**kwargs: Any) -> DetectionPictures:
        return DetectionPictures(dataset, **kwargs)

    return build


def train_loader(
    dataset: DetectionData,
    pictures: Sequence[Picture],
    data: DetectionDataSection,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    masks: bool = False,
) -> Config:
    """Mmengine configuration of the training data loader over some pictures of a data set."""
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": {"type": leave_process_group},
        "sampler": {"type": OrientationSampler, "batch_size": batch_size, "seed": seed},
        "dataset": {
            "type": _pictures_of(dataset),
            "pictures": tuple(pictures),
            "seed": seed,
            "masks": masks,
            "pipeline": train_pipeline(data, masks=masks),
        },
    }


def test_loader(
    dataset: DetectionData,
    pictures: Sequence[Picture],
    data: DetectionDataSection,
    *,
    workers: int,
) -> Config:
    """Mmengine configuration of a test data loader: one picture at a time, in the order given."""
    return {
        "batch_size": 1,
        "num_workers": workers,
        "worker_init_fn": {"type": leave_process_group},
        "sampler": {"type": DefaultSampler, "shuffle": False},
        "dataset": {
            "type": _pictures_of(dataset),
            "pictures": tuple(pictures),
            "test_mode": True,
            "pipeline": test_pipeline(data),
        },
    }


def preprocessor(card: Card, *, masks: bool = False, divisor: int = 1) -> Config:
    """Mmdet's data preprocessor: the card's channel order, mean and deviation.

    Args:
        card: of the backbone.
        masks: whether samples have masks, to be padded with their pictures.
        divisor: of the sides of a batch, which is padded with the mean.
    """
    return {
        "type": "mmdet.DetDataPreprocessor",
        "mean": list(card.mean),
        "std": list(card.std),
        "bgr_to_rgb": card.channel_order == "rgb",  # mmcv reads BGR
        "pad_mask": masks,
        "pad_size_divisor": divisor,
    }
