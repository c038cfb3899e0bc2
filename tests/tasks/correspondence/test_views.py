"""Views of pictures whose pixels tell where they are from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import RandomResizedCrop, functional

from vicregl_bench.errors import DataError
from vicregl_bench.heads.streams import AUGMENTATION, seeded
from vicregl_bench.tasks.correspondence.settings import ViewsSection
from vicregl_bench.tasks.correspondence.views import PairsOfViews, load_views

PLAIN: dict[str, Any] = {
    "size": 32,
    "pairs": 1,
    "scale": (1.0, 1.0),
    "flip": 0.0,
    "jitter": (0.4, 0.4, 0.2, 0.1),
    "jitter_chance": 0.0,
    "grey": 0.0,
    "blur": (0.0, 0.0),
    "solarise": (0.0, 0.0),
}


def settings(**changes: Any) -> ViewsSection:
    return ViewsSection(**(PLAIN | changes))


@pytest.fixture
def picture() -> Image.Image:
    """64x64, rising in red to the right and in green to the bottom."""
    y, x = np.mgrid[:64, :64]
    return Image.fromarray(np.stack([4 * x, 4 * y, np.full_like(x, 9)], axis=2).astype(np.uint8))


def test_views_without_changes_are_the_resized_picture(picture: Image.Image) -> None:
    pixels, flipped = PairsOfViews(settings(), 0)(picture, 0)
    assert pixels.shape == (1, 2, 3, 32, 32) and pixels.dtype == torch.uint8
    expected = functional.pil_to_tensor(picture.resize((32, 32), Image.Resampling.BICUBIC))
    assert (pixels[0] == expected).all()
    assert flipped.tolist() == [[False, False]]


def test_both_views_are_of_one_crop(picture: Image.Image) -> None:
    """Red and green of the corners are those of the crop that the stream draws."""
    pixels, _ = PairsOfViews(settings(scale=(0.2, 0.5), pairs=3), 5, 1)(picture, 7)
    assert (pixels[:, 0] == pixels[:, 1]).all()
    for pair in range(3):
        with seeded(torch.device("cpu"), 5, 1, 7, pair, AUGMENTATION):
            top, left, height, width = RandomResizedCrop.get_params(
                picture, [0.2, 0.5], [3 / 4, 4 / 3]
            )
        red, green = pixels[pair, 0, 0].float(), pixels[pair, 0, 1].float()
        assert red[:, 0].mean() == pytest.approx(4 * left, abs=6)
        assert red[:, -1].mean() == pytest.approx(4 * (left + width), abs=6)
        assert green[0].mean() == pytest.approx(4 * top, abs=6)
        assert green[-1].mean() == pytest.approx(4 * (top + height), abs=6)
    assert len({pixels[pair].sum().item() for pair in range(3)}) == 3


def test_flips_are_of_each_view_and_told(picture: Image.Image) -> None:
    pixels, flipped = PairsOfViews(settings(flip=0.5, pairs=40), 0)(picture, 0)
    kinds = {tuple(one) for one in flipped.tolist()}
    assert kinds == {(a, b) for a in (False, True) for b in (False, True)}
    plain = functional.pil_to_tensor(picture.resize((32, 32), Image.Resampling.BICUBIC))
    for pair in range(40):
        for which in (0, 1):
            expected = plain.flip(2) if flipped[pair, which] else plain
            assert (pixels[pair, which] == expected).all()


def test_grey_and_solarised(picture: Image.Image) -> None:
    pixels, _ = PairsOfViews(settings(grey=1.0), 0)(picture, 0)
    assert (pixels[0, :, 0] == pixels[0, :, 1]).all() and pixels[0, 0, 0].float().std() > 0
    pixels, _ = PairsOfViews(settings(size=64, solarise=(0.0, 1.0)), 0)(picture, 0)
    assert (pixels[0, 0] == functional.pil_to_tensor(picture)).all()
    assert (pixels[0, 1] == functional.pil_to_tensor(ImageOps.solarize(picture, 128))).all()


def test_blur_is_of_its_view(picture: Image.Image) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    pixels, _ = PairsOfViews(settings(size=64, blur=(1.0, 0.0)), 0)(noise, 0)
    assert pixels[0, 0].float().std() < 0.8 * pixels[0, 1].float().std()


def test_the_same_numbers_give_the_same_views(picture: Image.Image) -> None:
    options = settings(scale=(0.2, 1.0), flip=0.5, jitter_chance=1.0)
    torch.manual_seed(1)
    once = PairsOfViews(options, 0, 0)(picture, 3)[0]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert (PairsOfViews(options, 0, 0)(picture, 3)[0] == once).all()
    torch.manual_seed(1)
    assert (torch.get_rng_state() == state).all()  # drawn from no one else's stream
    for other in (
        PairsOfViews(options, 1, 0)(picture, 3),
        PairsOfViews(options, 0, 1)(picture, 3),
        PairsOfViews(options, 0, 0)(picture, 4),
    ):
        assert (other[0] != once).any()
    both = PairsOfViews(settings(**(options.model_dump() | {"pairs": 2})), 0, 0)(picture, 3)[0]
    assert (both[0] == once[0]).all()  # more pairs leave the first what it was


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_in_batches(picture: Image.Image, tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path in paths:
        picture.save(path)
    draw = PairsOfViews(settings(scale=(0.2, 1.0), flip=0.5, pairs=2), 0)
    batches = list(load_views(paths, [range(0, 2), range(2, 3)], draw, workers=workers))
    assert [tuple(pixels.shape[:3]) for pixels, _ in batches] == [(2, 2, 2), (1, 2, 2)]
    pixels, flipped = draw(picture, 2)
    assert (batches[1][0][0] == pixels).all() and (batches[1][1][0] == flipped).all()
    paths[1].write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read the picture .*1\.png"):
        list(load_views(paths, [range(0, 3)], draw, workers=workers))
