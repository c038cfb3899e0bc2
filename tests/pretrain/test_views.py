"""The geometry of crops, against torchvision and against one picture at a time."""

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from pretrain.views import RATIO, Crop, cell_centres, locations, sample_crop

CROPS = torch.tensor([[0, 0, 10, 10, 0], [3, 7, 31, 53, 1], [90, 2, 1, 1, 1], [5, 5, 9, 27, 0]])


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("track", [True, False])
def test_locations_are_the_cell_centres_of_each_crop(n: int, track: bool) -> None:
    found = locations(CROPS, n, track_flips=track)
    wanted = torch.stack(
        [cell_centres(i, j, h, w, n, bool(f) and track) for i, j, h, w, f in CROPS.tolist()]
    )
    assert found.dtype == torch.float64
    assert torch.equal(found, wanted)


def test_locations_of_a_mirrored_crop() -> None:
    crops = torch.tensor([[10, 20, 4, 8, 1]])
    rows, columns = locations(crops, 2)[0].unbind(-1)
    assert rows.tolist() == [[11.0, 11.0], [13.0, 13.0]]
    assert columns.tolist() == [[26.0, 22.0], [26.0, 22.0]]
    assert locations(crops, 2, track_flips=False)[0, 0, :, 1].tolist() == [22.0, 26.0]


def test_impossible_locations() -> None:
    with pytest.raises(ValueError, match=r"\(B, 5\)"):
        locations(CROPS[:, :4], 3)
    with pytest.raises(ValueError, match="0 x 0 map"):
        locations(CROPS, 0)
    with pytest.raises(ValueError, match="without extent"):
        locations(torch.tensor([[0, 0, 0, 4, 0]]), 3)


def draw(count: int, height: int, width: int, scale: tuple[float, float]) -> list[Crop]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return [sample_crop(height, width, scale) for _ in range(count)]


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(400, 500, (0.08, 1.0)), (300, 300, (0.08, 0.4))]
)
def test_crops_are_distributed_as_torchvisions(
    height: int, width: int, scale: tuple[float, float]
) -> None:
    count = 3000
    ours = torch.tensor(
        [[c.top, c.left, c.height, c.width] for c in draw(count, height, width, scale)]
    )
    picture = torch.empty(1, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        drawn = [RandomResizedCrop.get_params(picture, list(scale), list(RATIO)) for _ in ours]
    theirs = torch.tensor(drawn)
    for values in (
        lambda t: t[:, 0],
        lambda t: t[:, 1],
        lambda t: t[:, 2] * t[:, 3],
        lambda t: t[:, 3] / t[:, 2],
    ):
        x, y = (values(t).double().sort().values for t in (ours, theirs))
        places = torch.cat([x, y])
        distance = (
            torch.searchsorted(x, places, right=True) - torch.searchsorted(y, places, right=True)
        ).abs().max() / count
        # two samples of one distribution: Kolmogorov-Smirnov passes 1.95 sqrt(2 / n) once in 1000
        assert float(distance) < 1.95 * (2 / count) ** 0.5


def test_crops_lie_in_the_picture_and_in_their_bounds() -> None:
    height, width, scale = 400, 500, (0.2, 0.6)
    crops = draw(2000, height, width, scale)
    for c in crops:
        assert 0 <= c.top <= height - c.height
        assert 0 <= c.left <= width - c.width
        # sides are rounded to whole pixels, of 200 and more: half a pixel is 0.25 %
        assert 0.2 * 0.99 <= c.height * c.width / (height * width) <= 0.6 * 1.01
        assert RATIO[0] * 0.99 <= c.width / c.height <= RATIO[1] * 1.01
    area = sum(c.height * c.width for c in crops) / len(crops) / (height * width)
    assert abs(area - 0.4) < 0.012  # uniform: 0.4 +- 4.5 x 0.115 / sqrt(2000); all of them fit
    flips = sum(c.flip for c in crops) / len(crops)
    assert abs(flips - 0.5) < 0.05  # 4.5 x 0.5 / sqrt(2000)


def test_a_crop_that_never_fits_is_central() -> None:
    crop = draw(1, 10, 1000, (1.0, 1.0))[0]
    assert (crop.top, crop.left, crop.height, crop.width) == (0, 493, 10, 13)  # 13 = 10 x 4 / 3
    crop = draw(1, 1000, 10, (1.0, 1.0))[0]
    assert (crop.top, crop.left, crop.height, crop.width) == (493, 0, 13, 10)


def test_flip_is_a_probability() -> None:
    assert not any(sample_crop(9, 9, (0.5, 1.0), flip=0.0).flip for _ in range(50))
    assert all(sample_crop(9, 9, (0.5, 1.0), flip=1.0).flip for _ in range(50))


def test_impossible_crops() -> None:
    for scale in ((0.0, 1.0), (0.5, 0.4), (0.5, 1.1)):
        with pytest.raises(ValueError, match="crop scale"):
            sample_crop(9, 9, scale)
    with pytest.raises(ValueError, match="aspect ratio"):
        sample_crop(9, 9, (0.5, 1.0), ratio=(2.0, 1.0))
    with pytest.raises(ValueError, match="flip"):
        sample_crop(9, 9, (0.5, 1.0), flip=1.5)
    with pytest.raises(ValueError, match="0 x 9 pixels"):
        sample_crop(0, 9, (0.5, 1.0))
