"""Features of made-up weights and a made-up picture: a change of what computes them is noticed."""

import numpy as np
import pytest
import torch
from PIL import Image

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.features.extractor import CentralCrop, Extractor, FiveCrops, Transform

PIXELS: dict[Transform, list[int]] = {
    CentralCrop((80, 72), 64): [95, 148, 200, 226, 219, 211, 206, 211, 216, 234, 232, 90],
    CentralCrop(72, 64): [159, 206, 219, 232, 221, 220, 206, 212, 209, 212, 217, 207],
    FiveCrops(72, 64): [222, 160, 129, 88, 123, 218, 217, 225, 240, 224, 206, 226],
}
"""A line of each crop's green, every fourth pixel; across an edge."""
VECTORS = {
    "resnet18x0.25": [48.998, 82.227, 22.895, 322.352, 5.828, 59.068, 164.571, 0.593],
    "convnext_atto": [-14.874, -35.418, -71.349, -81.97, -62.954, -6.063, -33.584, -17.774],
    "vit_tiny_patch16": [-101.991, -110.149, 163.063, -11.418, 83.336, 28.44, -3.948, 55.797],
    "swin_tiny_patch4_window7": [17.835, 8.909, -5.484, -17.175, 10.552, -28.741, -51.308, -40.091],
}
"""Eight elements of each vector, brought to length 1 and times 1000."""
# Without oneDNN, or in float64, they move by 1e-6 of the largest; pixels times 255/256 by 4e-4.
TOLERANCE = 2e-4
SAID = (
    "{} is now {}. If that is meant, raise FEATURE_VERSION in vicregl_bench/features/cache.py, "
    "and put it here"
)


def picture() -> Image.Image:
    """90 x 70: waves, edges and noise."""
    y, x = np.mgrid[:70, :90]
    waves = np.stack([127 + 100 * np.sin((x * a + y * b) / 9) for a, b in ((1, 0), (1, 2), (0, 3))])
    waves[:, 20:40, 30:60] = 220
    noise = np.random.default_rng(0).integers(-25, 26, waves.shape)
    return Image.fromarray((waves + noise).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def extractor(arch: str) -> Extractor:
    """Of weights that follow from numpy's generator and the names of the parameters alone."""
    source = read_backbone(f"random:{arch}")
    backbone = source.build()
    state = backbone.state_dict()
    generator = np.random.default_rng(0)
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        drawn = torch.from_numpy(generator.normal(size=tuple(tensor.shape)))
        if name.endswith("running_var"):
            drawn = 1 + 0.1 * drawn.abs()
        elif tensor.ndim < 2:
            drawn = name.endswith("weight") + 0.1 * drawn
        else:
            drawn /= (tensor.numel() / tensor.shape[0]) ** 0.5
        state[name] = drawn.to(tensor.dtype)
    backbone.load_state_dict(state)
    return Extractor(source, FrozenTrunk(backbone), CentralCrop(64, 64))


def crop(transform: Transform) -> list[int]:
    """Of the last view."""
    pixels = transform(picture()).reshape(-1, 3, 64, 64)
    return pixels[-1, 1, 20, :48:4].tolist()


def vector(arch: str) -> list[float]:
    """Of a crop that no library resized."""
    pixels = torch.from_numpy(np.asarray(picture())[:64, 6:70].copy()).permute(2, 0, 1)
    views = torch.stack([pixels, pixels.flip(2)])[None]
    found = extractor(arch)(views if arch.startswith("resnet") else views[:, 0])[0]
    found = 1000 * found / found.norm()
    return found[:: len(found) // 8][:8].tolist()


@pytest.mark.parametrize("transform", PIXELS)
def test_crops_are_what_they_were(transform: Transform) -> None:
    found = crop(transform)
    # another decoder may round otherwise: one level
    assert np.abs(np.subtract(found, PIXELS[transform])).max() <= 1, SAID.format(transform, found)


@pytest.mark.parametrize("arch", VECTORS)
def test_vectors_are_what_they_were(arch: str) -> None:
    found = vector(arch)
    off = np.abs(np.subtract(found, VECTORS[arch])).max() / np.abs(VECTORS[arch]).max()
    assert off < TOLERANCE, SAID.format(arch, np.round(found, 3).tolist())
