"""Views of a picture: where their pixels come from, and what is drawn for them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from pretrain.augment import (
    NORMALISATION,
    PIPELINES,
    Distortion,
    Photometric,
    ViewMaker,
    Views,
    ViewSpec,
    blur_kernel,
    distort,
)
from pretrain.views import locations

PLAIN = (Photometric(), Photometric())
LARGE, SMALL = ViewSpec(24, (0.3, 1.0), 2), ViewSpec(12, (0.08, 0.3), 4)
DRAWS = 2000


def picture(size: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)


def assert_equal(one: Views, other: Views) -> None:
    assert torch.equal(one.large, other.large)
    assert torch.equal(one.crops, other.crops)
    assert one.small is not None and other.small is not None
    assert torch.equal(one.small, other.small)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(240, 180), (130, 250)])
def test_cells_show_the_pixels_at_their_locations(
    height: int, width: int, interpolation: Any
) -> None:
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    image = torch.stack([rows, columns, torch.zeros_like(rows)])
    maker = ViewMaker(
        ViewSpec(48, (0.08, 1.0), 2), ViewSpec(24, (0.05, 0.3), 3), PLAIN, interpolation
    )
    mirrored = 0
    for seed in range(20):
        views = maker(image, seed)
        assert views.small is not None
        for part, crops in ((views.large, views.crops[:2]), (views.small, views.crops[2:])):
            n = 4
            cells = torch.nn.functional.avg_pool2d(part.double(), part.shape[-1] // n)
            shown = cells[:, :2].permute(0, 2, 3, 1) + 0.5  # pixel k covers k to k + 1
            # whole grey levels, and antialiasing that is one-sided at the border of a crop
            assert float((shown - locations(crops, n)).abs().max()) < 1.0
        mirrored += int(views.crops[:, 4].sum())
    assert 20 < mirrored < 80  # of 100: both kinds were looked at


def test_views_are_a_function_of_the_seed_and_leave_torchs_state() -> None:
    maker, image = ViewMaker(LARGE, SMALL), picture()
    torch.rand(3)
    state = torch.get_rng_state()
    one = maker(image, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert_equal(one, maker(image.clone(), 5))
    assert_equal(one, ViewMaker(LARGE, SMALL)(image, 5))
    assert not torch.equal(one.large, maker(image, 6).large)
    # torch reads the lower 32 bits of a seed alone
    assert not torch.equal(one.large, maker(image, 5 + 2**32).large)


def test_crops_are_the_same_under_any_pipeline() -> None:
    for name in PIPELINES:
        crops = ViewMaker(LARGE, SMALL, name)(picture(), 3).crops
        assert torch.equal(crops, ViewMaker(LARGE, SMALL, PLAIN)(picture(), 3).crops)


def test_shapes_with_and_without_small_views() -> None:
    views = ViewMaker(LARGE, SMALL)(picture(), 0)
    assert views.small is not None
    assert views.large.shape == (2, 3, 24, 24) and views.small.shape == (4, 3, 12, 12)
    assert views.large.dtype == views.small.dtype == torch.uint8
    assert views.crops.shape == (6, 5) and views.crops.dtype == torch.int64
    areas = views.crops[:, 2] * views.crops[:, 3] / 40**2
    # sides are whole pixels, of 11 and more: half a pixel on both is up to 10 %
    assert all(0.3 * 0.9 <= a <= 1.0 for a in areas[:2])
    assert all(0.08 * 0.9 <= a <= 0.3 * 1.1 for a in areas[2:])
    without = ViewMaker(LARGE)(picture(), 0)
    assert without.small is None and without.crops.shape == (2, 5)


def test_small_views_take_the_pipelines_in_turn() -> None:
    pipelines = (Photometric(), Photometric(solarise=1.0))
    image = torch.full((3, 40, 40), 200, dtype=torch.uint8)
    views = ViewMaker(LARGE, SMALL, pipelines)(image, 0)
    assert views.small is not None
    assert views.large[:, 0, 0, 0].tolist() == [200, 55]
    assert views.small[:, 0, 0, 0].tolist() == [200, 55, 200, 55]


def shares(photometric: Photometric) -> dict[str, float]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = [photometric.draw() for _ in range(DRAWS)]
    return {
        "jitter": sum(bool(d.jitter) for d in drawn) / DRAWS,
        "grey": sum(d.grey for d in drawn) / DRAWS,
        "blur": sum(d.sigma is not None for d in drawn) / DRAWS,
        "solarise": sum(d.solarise for d in drawn) / DRAWS,
    }


@pytest.mark.parametrize(
    ("name", "view", "blur", "solarise"),
    [
        ("symmetric", 0, 0.5, 0.1),
        ("symmetric", 1, 0.5, 0.1),
        ("asymmetric", 0, 1.0, 0.0),
        ("asymmetric", 1, 0.1, 0.2),
        ("scaling", 0, 1.0, 0.0),
        ("scaling", 1, 0.1, 0.2),
    ],
)
def test_operations_come_with_the_papers_probabilities(
    name: str, view: int, blur: float, solarise: float
) -> None:
    wanted = {"jitter": 0.8, "grey": 0.2, "blur": blur, "solarise": solarise}
    for operation, share in shares(PIPELINES[name][view]).items():
        p = wanted[operation]
        # 4.5 standard deviations of a share; none at 0 and 1
        assert abs(share - p) <= 4.5 * (p * (1 - p) / DRAWS) ** 0.5, operation


def test_shares_of_views_seen_in_their_pixels() -> None:
    """Of views: grey, solarised; the first view of "asymmetric" never is."""
    image = torch.tensor([200, 150, 140], dtype=torch.uint8)[:, None, None].expand(3, 9, 9)
    first, second = (replace(p, jitter=0.0) for p in PIPELINES["asymmetric"])
    maker = ViewMaker(ViewSpec(4, (0.5, 1.0), 2), None, (first, second))
    corners = torch.stack([maker(image, seed).large[:, :, 0, 0].int() for seed in range(800)])
    grey = (corners[:, :, 0] == corners[:, :, 2]).double().mean(0)
    solarised = (corners[:, :, 1] < 128).double().mean(0)
    bound = 4.5 * 0.4 / 800**0.5  # 4.5 standard deviations of a share of 0.2
    assert abs(float(grey[0]) - 0.2) < bound and abs(float(grey[1]) - 0.2) < bound
    assert float(solarised[0]) == 0.0
    assert abs(float(solarised[1]) - 0.2) < bound


@pytest.mark.parametrize(
    ("name", "wanted"), [("symmetric", (0.4, 0.4, 0.2, 0.1)), ("scaling", (0.8, 0.8, 0.8, 0.2))]
)
def test_jitter_factors_and_their_order(name: str, wanted: tuple[float, ...]) -> None:
    photometric = replace(PIPELINES[name][0], jitter=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = [photometric.draw().jitter for _ in range(DRAWS)]
    for k, operation in enumerate(("brightness", "contrast", "saturation", "hue")):
        factors = torch.tensor([dict(steps)[operation] for steps in drawn])
        centre = 0.0 if operation == "hue" else 1.0
        # uniform: the extremes come within 1 % of the range, the mean within 4.5 x s / sqrt(n)
        assert float(factors.max()) == pytest.approx(centre + wanted[k], abs=0.02 * wanted[k])
        assert float(factors.min()) == pytest.approx(centre - wanted[k], abs=0.02 * wanted[k])
        assert abs(float(factors.mean()) - centre) < 4.5 * wanted[k] / 3**0.5 / DRAWS**0.5
        first = sum(steps[0][0] == operation for steps in drawn) / DRAWS
        assert abs(first - 0.25) < 4.5 * (0.25 * 0.75 / DRAWS) ** 0.5
    orders = {tuple(operation for operation, _ in steps) for steps in drawn}
    assert len(orders) == 24


def test_sigma_is_uniform_between_its_bounds() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = [PIPELINES["asymmetric"][0].draw().sigma for _ in range(DRAWS)]
    sigmas = torch.tensor([s for s in drawn if s is not None])
    assert 0.1 <= float(sigmas.min()) < 0.12 and 1.98 < float(sigmas.max()) <= 2.0
    assert abs(float(sigmas.mean()) - 1.05) < 4.5 * 1.9 / 12**0.5 / DRAWS**0.5


Step = Callable[[Tensor], Tensor]
OPERATIONS: list[tuple[Distortion, Step]] = [
    *(
        (Distortion((("brightness", f),)), lambda x, f=f: tvf.adjust_brightness(x, f))
        for f in (0.2, 1.4)
    ),
    *(
        (Distortion((("contrast", f),)), lambda x, f=f: tvf.adjust_contrast(x, f))
        for f in (0.2, 1.4)
    ),
    *(
        (Distortion((("saturation", f),)), lambda x, f=f: tvf.adjust_saturation(x, f))
        for f in (0.2, 1.8)
    ),
    *(
        (Distortion((("hue", f),)), lambda x, f=f: tvf.adjust_hue(x, f))
        for f in (-0.5, -0.2, -0.03, 0.1, 0.37, 0.5)
    ),
    (Distortion(grey=True), lambda x: tvf.rgb_to_grayscale(x, 3)),
    *(
        (Distortion(sigma=s), lambda x, s=s: tvf.gaussian_blur(x, [7, 7], [s, s]))
        for s in (0.1, 0.9, 2.0)
    ),
    (
        Distortion(grey=True, sigma=1.0),
        lambda x: tvf.gaussian_blur(tvf.rgb_to_grayscale(x, 3), [7, 7], [1.0, 1.0]),
    ),
    (Distortion(solarise=True), lambda x: tvf.solarize(x, 128)),
]


@pytest.mark.parametrize(("distortion", "reference"), OPERATIONS)
def test_operations_are_torchvisions(distortion: Distortion, reference: Step) -> None:
    image = picture(64)
    image[:, :8] = image[:1, :8]  # grey, black and white too: their hue is undefined
    image[:, :2], image[:, 2:4] = 0, 255
    image[1, 8:12] = image[2, 8:12]  # hues on the border of two sixths
    image[1, 12:16] = image[0, 12:16]
    difference = (distort(image, distortion, 7).int() - reference(image).int()).abs()
    assert int(difference.max()) <= 1
    # a value next to a whole level falls to either side: hue, blur and the mean of contrast
    assert float((difference > 0).double().mean()) < 1e-3
    if not distortion.sigma and (
        not distortion.jitter or distortion.jitter[0][0] in ("brightness", "saturation")
    ):
        assert int(difference.max()) == 0


def test_operations_come_in_the_drawn_order() -> None:
    image = picture(16)
    steps = (("saturation", 1.8), ("brightness", 1.4), ("contrast", 0.6))
    wanted = tvf.adjust_contrast(tvf.adjust_brightness(tvf.adjust_saturation(image, 1.8), 1.4), 0.6)
    found = distort(image, Distortion(steps), 3)  # type: ignore[arg-type]
    assert int((found.int() - wanted.int()).abs().max()) <= 1
    assert int((distort(image, Distortion(steps[::-1]), 3).int() - wanted.int()).abs().max()) > 1  # type: ignore[arg-type]


def test_blur_kernels_keep_their_proportion() -> None:
    assert [blur_kernel(s) for s in (1, 24, 40, 72, 96, 224, 512)] == [3, 3, 5, 7, 9, 23, 23]
    assert blur_kernel(112, 45) == 23
    image = picture(64)
    blurred = [
        ViewMaker(ViewSpec(24, (1.0, 1.0), 2), None, (p, p), flip=0.0, scale_blur=scaled)(image, 0)
        for p in [Photometric(blur=1.0, blur_sigma=(2.0, 2.0))]
        for scaled in (True, False)
    ]
    plain = tvf.resize(image, [24, 24], antialias=True)
    for views, kernel in zip(blurred, (3, 23), strict=True):
        wanted = tvf.gaussian_blur(plain, [kernel, kernel], [2.0, 2.0])
        assert int((views.large[0].int() - wanted.int()).abs().max()) <= 1


def test_normalisations_differ_in_reds_deviation() -> None:
    assert NORMALISATION["paper"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert NORMALISATION["released"] == ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"large": ViewSpec(24, (0.3, 1.0), 3)}, "3 large views: the criterion needs 2"),
        ({"pipeline": "mine"}, "pipeline 'mine': known are symmetric, asymmetric, scaling"),
        ({"interpolation": "nearest"}, "interpolation 'nearest'"),
        ({"flip": -0.1}, "flip -0.1"),
        ({"small": ViewSpec(11, (0.1, 0.3), 2), "scale_blur": False}, "kernel 23 .* 11 pixels"),
    ],
)
def test_impossible_makers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewMaker(**{"large": LARGE, **options})


def test_impossible_specs_distributions_and_pictures() -> None:
    with pytest.raises(ValueError, match="0 pixels"):
        ViewSpec(0, (0.1, 1.0), 2)
    with pytest.raises(ValueError, match="0 views"):
        ViewSpec(24, (0.1, 1.0), 0)
    for scale in ((0.0, 1.0), (0.6, 0.5), (0.1, 1.01)):
        with pytest.raises(ValueError, match="crop scale"):
            ViewSpec(24, scale, 2)
    for options in ({"hue": 0.6}, {"contrast": -1.0}, {"grey": 1.1}, {"blur_kernel": 4}):
        with pytest.raises(ValueError):
            Photometric(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma"):
        Photometric(blur_sigma=(0.0, 1.0))
    with pytest.raises(ValueError, match="uint8 picture"):
        ViewMaker(LARGE)(picture().float(), 0)
    with pytest.raises(ValueError, match="uint8 picture"):
        ViewMaker(LARGE)(picture()[:1], 0)
    with pytest.raises(ValueError, match="seed -1"):
        ViewMaker(LARGE)(picture(), -1)
