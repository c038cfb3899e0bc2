"""From picture files to vectors: a deterministic crop, the card's normalisation, a frozen trunk."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.checkpoints import Card
from vicregl_bench.features.loading import load_pictures
from vicregl_bench.features.views import mean_of_views


class Transform(Protocol):
    """What is done to every picture, without chance."""

    @property
    def description(self) -> str:
        """All that decides the result: transforms of equal description do the same."""

    def __call__(self, picture: Image.Image) -> Tensor:
        """Views of an RGB picture, of the same number and size for every one.

        Returns:
            (3, height, width) uint8 RGB, or (views, 3, height, width) of several.
        """


@dataclass(frozen=True)
class CentralCrop:
    """The picture resized (torchvision's, bilinear with antialiasing), and its centre, in pixels.

    Attributes:
        resize: (height, width), or the shorter side alone.
        crop: side of the square.
    """

    resize: int | tuple[int, int]
    crop: int

    @property
    def description(self) -> str:
        """Name and sizes."""
        return repr(self)

    def __call__(self, picture: Image.Image) -> Tensor:
        """(3, crop, crop) uint8 RGB."""
        resized = _resized(picture, self.resize)
        pixels: Tensor = functional.pil_to_tensor(functional.center_crop(resized, [self.crop] * 2))
        return pixels


@dataclass(frozen=True)
class FiveCrops:
    """The picture resized, its corners and its centre, and the flips of these five, in pixels.

    torchvision's `ten_crop`; the views that "Scaling" (seed 002) averages the features of in test.

    Attributes:
        resize: (height, width), or the shorter side alone; no shorter than `crop`.
        crop: side of the squares.
    """

    resize: int | tuple[int, int]
    crop: int

    @property
    def description(self) -> str:
        """Name and sizes."""
        return repr(self)

    def __call__(self, picture: Image.Image) -> Tensor:
        """(10, 3, crop, crop) uint8 RGB."""
        views = functional.ten_crop(_resized(picture, self.resize), [self.crop, self.crop])
        return torch.stack([functional.pil_to_tensor(view) for view in views])


def _resized(picture: Image.Image, resize: int | tuple[int, int]) -> Image.Image:
    size = [resize] if isinstance(resize, int) else list(resize)
    resized: Image.Image = functional.resize(picture, size)
    return resized


@dataclass(frozen=True, eq=False)
class Extractor:
    """Pooled vectors of crops, or the means of several views, and what decides them.

    Attributes:
        source: the weights that the trunk was built of.
        trunk: frozen.
        transform: of every picture.
        output_stride: that the trunk was built with; None is the architecture's own.
    """

    source: BackboneSource
    trunk: FrozenTrunk
    transform: Transform
    output_stride: int | None = None

    def identity(self) -> dict[str, Any]:
        """All that decides a picture's vector but the picture, as JSON values.

        The hash of the trunk's own tensors is among it, should it not be of the source's weights.
        """
        card, architecture = self.source.card, self.source.architecture
        return {
            "weights": self.source.weights_sha256,
            "trunk": self.trunk.hash_before,
            "arch": self.source.arch,
            "output_stride": self.output_stride or architecture.strides[-1],
            "pooling": card.pooling or ("cls" if architecture.family == "vit" else "avg"),
            "output_norm": card.output_norm,
            "mean": list(card.mean),
            "std": list(card.std),
            "channel_order": card.channel_order,
            "transform": self.transform.description,
            "precision": self.trunk.precision,
            "device": self.trunk.device.type,
        }

    def __call__(self, crops: Tensor) -> Tensor:
        """Vectors (B, D), float32, on the CPU, of crops uint8 RGB.

        Args:
            crops: (B, 3, H, W), or (B, V, 3, H, W): then the mean over V vectors, computed in parts
                of B views, for memory's sake.
        """
        if crops.ndim == 4:
            return self._vectors(crops)
        parts = torch.split(crops.flatten(0, 1), len(crops))
        return mean_of_views([self._vectors(part) for part in parts])

    def _vectors(self, crops: Tensor) -> Tensor:
        """Vectors (B, D) of crops (B, 3, H, W)."""
        images = normalised(crops, self.source.card, self.trunk.device)
        return self.trunk.pooled(images).float().cpu()

    def last_map(self, crops: Tensor) -> Tensor:
        """The trunk's last map (B, D, h, w), float32, on its device, of crops (B, 3, H, W)."""
        return self.trunk(normalised(crops, self.source.card, self.trunk.device))[-1].float()


def load_crops(
    paths: Sequence[Path], batches: Sequence[range], transform: Transform, *, workers: int
) -> Generator[Tensor, None, None]:
    """Crops uint8 of the pictures of every batch of indices: (B, 3, H, W) or (B, V, 3, H, W).

    Args:
        paths: of the pictures.
        batches: indices into them.
        transform: of every picture.
        workers: data loading processes; 0 loads in this one.

    Raises:
        DataError: a picture cannot be read.
    """
    return load_pictures(paths, batches, _ByPicture(transform), workers=workers)


@dataclass(frozen=True)
class _ByPicture:
    """A transform that does not look at the index."""

    transform: Transform

    def __call__(self, picture: Image.Image, index: int) -> Tensor:
        return self.transform(picture)


def normalised(crops: Tensor, card: Card, device: torch.device) -> Tensor:
    """Crops (B, 3, H, W) uint8 RGB as weights of a card want them, on a device."""
    images = crops.to(device).float()
    if card.channel_order != "rgb":
        images = images.flip(1)
    mean, std = (torch.tensor(each, device=device).view(3, 1, 1) for each in (card.mean, card.std))
    return (images - mean) / std
