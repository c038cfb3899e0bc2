"""From picture files to vectors: a deterministic crop, the card's normalisation, a frozen trunk."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.errors import DataError


class Transform(Protocol):
    """What is done to every picture, without chance."""

    @property
    def description(self) -> str:
        """All that decides the result: transforms of equal description do the same."""

    def __call__(self, picture: Image.Image) -> Tensor:
        """(3, height, width) uint8 RGB of an RGB picture, of the same size for every one."""


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
        size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
        centre = functional.center_crop(functional.resize(picture, size), [self.crop, self.crop])
        pixels: Tensor = functional.pil_to_tensor(centre)
        return pixels


@dataclass(frozen=True, eq=False)
class Extractor:
    """Pooled vectors of crops, and what decides them.

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
        """Vectors (B, D), float32, on the CPU, of crops (B, 3, H, W) uint8 RGB."""
        card, device = self.source.card, self.trunk.device
        images = crops.to(device).float()
        if card.channel_order != "rgb":
            images = images.flip(1)
        mean, std = (
            torch.tensor(each, device=device).view(3, 1, 1) for each in (card.mean, card.std)
        )
        return self.trunk.pooled((images - mean) / std).float().cpu()


def load_crops(
    paths: Sequence[Path], batches: Sequence[range], transform: Transform, *, workers: int
) -> Generator[Tensor, None, None]:
    """Crops (B, 3, H, W) uint8 of the pictures of every batch of indices.

    Args:
        paths: of the pictures.
        batches: indices into them.
        transform: of every picture.
        workers: data loading processes; 0 loads in this one.

    Raises:
        DataError: a picture cannot be read.
    """
    loader: DataLoader[Tensor | DataError] = DataLoader(
        _Crops(paths, transform),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        worker_init_fn=leave_process_group if workers else None,
        collate_fn=_together,
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Crops(Dataset[Tensor | DataError]):
    """Crops; an error is handed over, since torch would bury it in a worker's traceback."""

    def __init__(self, paths: Sequence[Path], transform: Transform) -> None:
        self.paths, self.transform = tuple(paths), transform

    def __getitem__(self, index: int) -> Tensor | DataError:
        path = self.paths[index]
        try:
            with Image.open(path) as picture:
                rgb = picture.convert("RGB")
        # what Pillow raises on damage
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return DataError(f"cannot read the picture {path}: {error}")
        return self.transform(rgb)


def _together(crops: Sequence[Tensor | DataError]) -> Tensor | DataError:
    """A batch, or the first error in it."""
    sound: list[Tensor] = []
    for crop in crops:
        if isinstance(crop, DataError):
            return crop
        sound.append(crop)
    return torch.stack(sound)
