"""Two views of a picture whose cells correspond exactly: one crop, then each view's own changes.

Source: global-local self-distillation, section 4.7: "augmentations are always cropped and resized
in the same manner". The paper does not say what else differs between the views. Ours, from its
released training code, which is DINO's: each view is flipped by itself, jittered in colour, turned
grey, blurred and solarised, by the chances of `ViewsSection`.
"""

from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop, functional

from vicregl_bench.features.loading import load_pictures
from vicregl_bench.heads.streams import AUGMENTATION, stream_seed
from vicregl_bench.tasks.correspondence.settings import ViewsSection

# DINO's (utils.py): widths of the blur in pixels, and where solarisation begins.
BLUR = (0.1, 2.0)
SOLARISE_FROM = 128
RATIO = (3 / 4, 4 / 3)  # width over height of a crop: RandomResizedCrop's default

Views = tuple[Tensor, Tensor]
"""Pixels (..., 2, 3, side, side) uint8 RGB, and whether each view is flipped, (..., 2)."""


class PairsOfViews:
    """Draws the views of pictures; the same ones for the same numbers, whatever ran before.

    Args:
        settings: of the views.
        entropy: integers that the stream follows from, such as run seed and head seed.
    """

    def __init__(self, settings: ViewsSection, *entropy: int) -> None:
        self.settings, self.entropy = settings, entropy
        self._jitter = ColorJitter(*settings.jitter)

    def __call__(self, picture: Image.Image, position: int) -> Views:
        """All pairs of views of a picture.

        Args:
            picture: RGB.
            position: of the picture in its list.

        Returns:
            Pixels (pairs, 2, 3, side, side) uint8 RGB, and (pairs, 2) bool: flipped.
        """
        pixels, flipped = [], []
        for pair in range(self.settings.pairs):
            # torchvision's transforms draw from torch's generator: lend them a seeded one
            with torch.random.fork_rng(devices=[]):
                seed = stream_seed(*self.entropy, position, pair, AUGMENTATION)
                torch.default_generator.manual_seed(seed)
                crop = self._crop(picture)
                views = [self._view(crop, which) for which in (0, 1)]
            pixels.append(torch.stack([view for view, _ in views]))
            flipped.append(torch.tensor([flip for _, flip in views]))
        return torch.stack(pixels), torch.stack(flipped)

    def _crop(self, picture: Image.Image) -> Image.Image:
        side = self.settings.size
        place = RandomResizedCrop.get_params(picture, list(self.settings.scale), list(RATIO))
        crop: Image.Image = functional.resized_crop(
            picture, *place, [side, side], InterpolationMode.BICUBIC
        )
        return crop

    def _view(self, crop: Image.Image, which: int) -> tuple[Tensor, bool]:
        chances = self.settings
        view, flip = crop, _happens(chances.flip)
        if flip:
            view = functional.hflip(view)
        if _happens(chances.jitter_chance):
            view = self._jitter(view)
        if _happens(chances.grey):
            view = functional.rgb_to_grayscale(view, num_output_channels=3)
        if _happens(chances.blur[which]):
            radius = BLUR[0] + (BLUR[1] - BLUR[0]) * torch.rand(()).item()
            view = view.filter(ImageFilter.GaussianBlur(radius))
        if _happens(chances.solarise[which]):
            view = functional.solarize(view, SOLARISE_FROM)
        return functional.pil_to_tensor(view), flip


def load_views(
    paths: Sequence[Path], batches: Sequence[range], draw: PairsOfViews, *, workers: int
) -> Generator[Views, None, None]:
    """Views of the pictures of every batch of positions.

    Args:
        paths: of the pictures.
        batches: positions in them.
        draw: makes the views.
        workers: data loading processes; 0 loads in this one.

    Returns:
        Pixels (B, pairs, 2, 3, side, side) uint8 RGB, and (B, pairs, 2) bool: flipped.

    Raises:
        DataError: a picture cannot be read.
    """
    return load_pictures(paths, batches, draw, workers=workers)


def _happens(chance: float) -> bool:
    return bool(torch.rand(()).item() < chance)
