"""Pictures and labels for mmengine, with augmentation seeded by position (`tasks.positions`)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision import transforms

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import Labelled
from vicregl_bench.data.reading import read_rgb
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.features.extractor import CentralCrop, FiveCrops, Transform
from vicregl_bench.heads.streams import AUGMENTATION, stream_seed
from vicregl_bench.tasks.classification.settings import ClassificationDataSection, ViewsSection
from vicregl_bench.tasks.domain import Config
from vicregl_bench.tasks.positions import PositionSampler


class LabelledPictures(Dataset[dict[str, Any]]):
    """Crops of pictures, (3, side, side) uint8 RGB or several views, with label and index.

    Args:
        pictures: with their labels.
        transform: from a PIL picture to a tensor.
        seed: of the augmentation; used when an item is asked for as (position, index).
    """

    def __init__(self, pictures: Sequence[Labelled], transform: Any, seed: int = 0) -> None:
        self.pictures, self.transform, self.seed = tuple(pictures), transform, seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        if not isinstance(item, tuple):
            return self._sample(item)
        position, index = item
        # torchvision's transforms draw from torch's generator: lend them a seeded one
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed(self.seed, position, AUGMENTATION))
            return self._sample(index)

    def _sample(self, index: int) -> dict[str, Any]:
        picture = self.pictures[index]
        crop: Tensor = self.transform(read_rgb(picture.image))
        return {"inputs": crop, "data_samples": {"label": picture.label, "index": index}}


def train_transform(data: ClassificationDataSection) -> Any:
    """A random part of the picture at the protocol's side, flipped or not (torchvision's)."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(data.crop, scale=data.scale),
            transforms.RandomHorizontalFlip(data.flip),
            transforms.PILToTensor(),
        ]
    )


def test_transform(data: ViewsSection) -> Transform:
    """The picture resized, and its centre or the views that the settings name."""
    if data.views is None:
        return CentralCrop(data.resize, data.crop)
    return FiveCrops(data.resize, data.crop)


def views_together(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of B pictures whose `inputs` (V, 3, side, side) become (B * V, 3, side, side)."""
    batch: dict[str, Any] = default_collate(list(samples))
    return {**batch, "inputs": batch["inputs"].flatten(0, 1)}


def train_loader(
    pictures: Sequence[Labelled],
    data: ClassificationDataSection,
    *,
    batch_size: int,
    seed: int,
    workers: int,
) -> Config:
    """Mmengine's configuration of an endless loader of training batches."""
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": {"type": leave_process_group},
        "collate_fn": {"type": "default_collate"},
        "sampler": {"type": PositionSampler, "seed": seed},
        "dataset": {
            "type": LabelledPictures,
            "pictures": tuple(pictures),
            "transform": train_transform(data),
            "seed": seed,
        },
    }


def test_loader(
    pictures: Sequence[Labelled], data: ClassificationDataSection, *, batch_size: int, workers: int
) -> Config:
    """Mmengine's configuration of a loader of central crops, or of views."""
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "worker_init_fn": {"type": leave_process_group},
        "collate_fn": {"type": "default_collate" if data.views is None else views_together},
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {
            "type": LabelledPictures,
            "pictures": tuple(pictures),
            "transform": test_transform(data),
        },
    }


def preprocessor(card: Card) -> Config:
    """Mmengine's data preprocessor with the card's mean, deviation and channel order."""
    return {
        "type": "mmengine.ImgDataPreprocessor",
        "mean": list(card.mean),
        "std": list(card.std),
        "rgb_to_bgr": card.channel_order != "rgb",  # Pillow reads RGB
    }
