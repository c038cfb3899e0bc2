"""Several views of a picture: torchvision's ten crops, their features averaged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from tests.reporter import Silent
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.data import Labelled
from vicregl_bench.features.cache import FeatureCache
from vicregl_bench.features.extractor import CentralCrop, Extractor, FiveCrops

SOURCE = read_backbone("random:resnet18x0.25")


@pytest.fixture(scope="module")
def trunk() -> FrozenTrunk:
    return FrozenTrunk(SOURCE.build())


@pytest.fixture()
def pictures(tmp_path: Path) -> list[Labelled]:
    generator = np.random.default_rng(0)
    made = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
        made.append(Labelled(str(number), path, number % 2))
    return made


@pytest.mark.parametrize("resize", [60, (64, 56)])
def test_features_are_those_of_a_hand_loop(
    trunk: FrozenTrunk,
    pictures: list[Labelled],
    tmp_path: Path,
    resize: int | tuple[int, int],
) -> None:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SOURCE.card.mean, SOURCE.card.std))
    expected = []
    for one in pictures:
        with Image.open(one.image) as picture:
            resized = functional.resize(picture, [resize] if isinstance(resize, int) else resize)
        views = functional.ten_crop(resized, 48)
        pixels = torch.stack([functional.pil_to_tensor(view) for view in views]).float()
        expected.append(trunk.pooled((pixels - mean) / std).mean(dim=0))
    extractor = Extractor(SOURCE, trunk, FiveCrops(resize, 48))
    for batch_size in (1, 3):  # both a batch of one and one that does not divide the views
        features = FeatureCache(tmp_path / str(batch_size)).extract(
            extractor, pictures, reporter=Silent(), batch_size=batch_size
        )
        # stored in half precision: 11 bits
        torch.testing.assert_close(features[0:5], torch.stack(expected), rtol=1e-3, atol=1e-5)


def test_views_are_forwarded_in_parts(trunk: FrozenTrunk, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = FrozenTrunk.pooled

    def seen(self: FrozenTrunk, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FrozenTrunk, "pooled", seen)
    crops = torch.randint(0, 256, (4, 10, 3, 32, 32), dtype=torch.uint8)
    extractor = Extractor(SOURCE, trunk, FiveCrops(40, 32))
    together = extractor(crops)
    assert sizes == [4] * 10 and together.shape == (4, 128)
    single = torch.stack([extractor(views).mean(dim=0) for views in crops])
    torch.testing.assert_close(together, single, rtol=1e-5, atol=1e-5)


def test_a_constant_picture_has_the_same_features(trunk: FrozenTrunk) -> None:
    picture = Image.new("RGB", (80, 60), (200, 30, 90))
    many, one = (
        Extractor(SOURCE, trunk, transform)(transform(picture)[None])
        for transform in (FiveCrops((56, 56), 48), CentralCrop((56, 56), 48))
    )
    torch.testing.assert_close(many, one, rtol=1e-5, atol=1e-6)


def test_views_are_part_of_the_identity(trunk: FrozenTrunk) -> None:
    identities = [
        Extractor(SOURCE, trunk, transform).identity()["transform"]
        for transform in (CentralCrop(56, 48), FiveCrops(56, 48), FiveCrops(56, 40))
    ]
    assert len(set(identities)) == 3
