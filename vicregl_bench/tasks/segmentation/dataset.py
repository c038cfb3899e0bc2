"""Pictures and masks for mmengine, with augmentation seeded by position (`tasks.positions`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.registry import TRANSFORMS

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import MaskValues, Pair, SegmentationData, read_mask
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.tasks.positions import PositionSampler, SeededByPosition
from vicregl_bench.tasks.segmentation.settings import DataSection, TestSection


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):  # type: ignore[misc]
    """Load a mask as labels: 0 to classes - 1, 255 for ignored.

    Takes the place of mmseg's `LoadAnnotations`, which knows neither labelIds nor a table of
    values. Palette masks give their indices, not their colours.

    Args:
        lookup: (256,) label of each value in the file, `MaskValues.lookup`.
    """

    def __init__(self, lookup: Sequence[int]) -> None:
        self.lookup = np.asarray(lookup, dtype=np.uint8)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map` (H, W), uint8.

        Raises DataError where the mask cannot be read or is neither palette nor greyscale.
        """
        results["gt_seg_map"] = read_mask(results["seg_map_path"], self.lookup)
        results["seg_fields"].append("gt_seg_map")
        return results


class SegmentationPairs(SeededByPosition, BaseSegDataset):  # type: ignore[misc]
    """mmseg data set over an explicit list of pictures and masks.

    Args:
        pairs: pictures and their masks.
        seed: of the augmentation; used when an item is asked for as (position, index).
        classes: names of the labels, for the metric.
        kwargs: of mmseg's `BaseSegDataset`.
    """

    def __init__(
        self, pairs: Sequence[Pair], seed: int = 0, classes: Sequence[str] = (), **kwargs: Any
    ) -> None:
        self.pairs, self.seed = tuple(pairs), seed
        super().__init__(
            img_suffix="", seg_map_suffix="", metainfo={"classes": tuple(classes)}, **kwargs
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a pair, as mmseg's transforms expect it."""
        return [
            {
                "img_path": str(pair.image),
                "seg_map_path": str(pair.mask),
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for pair in self.pairs
        ]


def _load_labels(masks: MaskValues) -> dict[str, Any]:
    return {"type": "LoadLabels", "lookup": tuple(masks.lookup.tolist())}


def train_pipeline(data: DataSection, masks: MaskValues) -> list[dict[str, Any]]:
    """Mmseg's training transforms, the same for all data sets, at the protocol's sizes."""
    return [
        {"type": "LoadImageFromFile"},
        _load_labels(masks),
        {
            "type": "RandomResize",
            "scale": data.resize,
            "ratio_range": data.ratio_range,
            "keep_ratio": True,
        },
        {"type": "RandomCrop", "crop_size": data.crop, "cat_max_ratio": data.cat_max_ratio},
        {"type": "RandomFlip", "prob": data.flip},
        {"type": "PhotoMetricDistortion"},
        {"type": "PackSegInputs"},
    ]


def test_pipeline(
    data: DataSection, masks: MaskValues, test: TestSection | None = None
) -> list[dict[str, Any]]:
    """Mmseg's test transforms: the picture is resized, the mask keeps its own size.

    With test-time augmentation a sample is a list of views, scales x (plain, flipped), as mmseg's
    `tta_pipeline` makes them; the mask is loaded last, so that it is neither resized nor flipped.
    Deviation: scales are times the protocol's test scale, mmseg's are times the picture's own size.
    """
    if test is None:
        return [
            {"type": "LoadImageFromFile"},
            {"type": "Resize", "scale": data.test_resize, "keep_ratio": True},
            _load_labels(masks),
            {"type": "PackSegInputs"},
        ]
    sizes = [
        tuple(max(1, round(side * scale)) for side in data.test_resize)
        for scale in test.scales or (1.0,)
    ]
    flips = (0.0, 1.0) if test.flip else (0.0,)
    return [
        {"type": "LoadImageFromFile"},
        {
            "type": "TestTimeAug",
            "transforms": [
                [{"type": "Resize", "scale": size, "keep_ratio": True} for size in sizes],
                [{"type": "RandomFlip", "prob": prob} for prob in flips],
                [_load_labels(masks)],
                [{"type": "PackSegInputs"}],
            ],
        },
    ]


def train_loader(
    dataset: SegmentationData,
    pairs: Sequence[Pair],
    data: DataSection,
    *,
    batch_size: int,
    seed: int,
    workers: int,
) -> dict[str, Any]:
    """Mmengine configuration of the training data loader over some pairs of a data set."""
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": {"type": leave_process_group},
        "sampler": {"type": PositionSampler, "seed": seed},
        "dataset": {
            "type": SegmentationPairs,
            "pairs": tuple(pairs),
            "seed": seed,
            "classes": dataset.classes,
            "pipeline": train_pipeline(data, dataset.masks),
            "ignore_index": data.ignore_index,
        },
    }


def test_loader(
    dataset: SegmentationData,
    pairs: Sequence[Pair],
    data: DataSection,
    *,
    workers: int,
    test: TestSection | None = None,
) -> dict[str, Any]:
    """Mmengine configuration of a test data loader: one picture, or its views, at a time."""
    return {
        "batch_size": 1,
        "num_workers": workers,
        "worker_init_fn": {"type": leave_process_group},
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {
            "type": SegmentationPairs,
            "pairs": tuple(pairs),
            "test_mode": True,
            "classes": dataset.classes,
            "pipeline": test_pipeline(data, dataset.masks, test),
            "ignore_index": data.ignore_index,
        },
    }


def preprocessor(data: DataSection, card: Card) -> dict[str, Any]:
    """Mmseg's data preprocessor: the card's channel order and mean, small crops padded with 255."""
    return {
        "type": "mmseg.SegDataPreProcessor",
        "mean": list(card.mean),
        "std": list(card.std),
        "bgr_to_rgb": card.channel_order == "rgb",  # mmcv reads BGR
        "size": data.crop,
        "pad_val": 0,
        "seg_pad_val": data.ignore_index,
    }


def stack_labels(data_samples: Sequence[Any]) -> torch.Tensor:
    """(B, H, W) labels of a batch of mmseg data samples."""
    return torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
