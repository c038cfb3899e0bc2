"""From a decoded picture to the views of one training step: crop, resize, flip, distort.

Source: VICReg, appendix B.1 (symmetric pipeline), which symmetrises BYOL's (asymmetric pipeline,
also that of VICRegL's released code). Operations come in B.1's order: crop and resize, flip, colour
jitter, grey, blur, solarisation. Normalisation is left to the device, for a batch at once.

Deviations:
- Pictures are uint8 tensors, not PIL pictures: torchvision's tensor operations, antialiased.
- The blur's kernel shrinks with views below 224 pixels, see `blur_kernel`.
- The operations are written here, for speed; `distort` says how far they are torchvision's.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from numpy.random import SeedSequence
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from pretrain.matching import LARGE_VIEWS
from pretrain.views import Crop, check_scale, sample_crop

Jitter = Literal["brightness", "contrast", "saturation", "hue"]
Interpolation = Literal["bilinear", "bicubic"]
JITTERS: tuple[Jitter, ...] = get_args(Jitter)
KERNEL, KERNEL_VIEW = 23, 224  # VICReg, appendix B.1: the kernel and the view's side it is for


@dataclass(frozen=True)
class Distortion:
    """What was drawn for one view."""

    jitter: tuple[tuple[Jitter, float], ...] = ()  # operations in order, with their factors
    grey: bool = False
    sigma: float | None = None  # of the blur, in pixels of the view; None: no blur
    solarise: bool = False


@dataclass(frozen=True)
class Photometric:
    """A distribution of distortions; the default leaves a picture as it is.

    Raises:
        ValueError: a strength below 0 (hue: above 0.5), a probability outside [0, 1], an even
            kernel, or a sigma not above 0.
    """

    brightness: float = 0.0  # factor in 1 +- this, not below 0; likewise the next two
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # shift in +- this, in turns of the colour wheel
    jitter: float = 0.0  # probability of the four above, together
    grey: float = 0.0  # probability
    blur: float = 0.0  # probability
    blur_kernel: int = KERNEL  # side for views of 224 pixels
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view: BYOL, appendix B
    solarise: float = 0.0  # probability; inverts what is at or above 128

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(f"colour jitter below 0, or hue above half a turn: {self}")
        if not all(0 <= p <= 1 for p in (self.jitter, self.grey, self.blur, self.solarise)):
            raise ValueError(f"jitter, grey, blur and solarise are probabilities: {self}")
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise ValueError(f"blur kernel {self.blur_kernel}: an odd side is needed")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur sigma {self.blur_sigma}: 0 < low <= high is needed")

    def draw(self) -> Distortion:
        """Draw from torch's global generator, always as many numbers, whatever the options."""
        coins = torch.rand(5 + 2 * len(JITTERS)).tolist()
        jitter, grey, blur, sigma, solarise = coins[:5]
        values, keys = coins[5 : 5 + len(JITTERS)], coins[5 + len(JITTERS) :]
        steps: list[tuple[Jitter, float]] = []
        if jitter < self.jitter:
            for k in sorted(range(len(JITTERS)), key=lambda k: keys[k]):
                name = JITTERS[k]
                strength: float = getattr(self, name)
                if strength:
                    centre = 0.0 if name == "hue" else 1.0
                    low = -strength if name == "hue" else max(0.0, 1.0 - strength)
                    steps.append((name, low + (centre + strength - low) * values[k]))
        low, high = self.blur_sigma
        return Distortion(
            tuple(steps),
            grey < self.grey,
            low + (high - low) * sigma if blur < self.blur else None,
            solarise < self.solarise,
        )


SYMMETRIC = Photometric(
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    jitter=0.8,
    grey=0.2,
    blur=0.5,
    solarise=0.1,
)
ASYMMETRIC = (
    replace(SYMMETRIC, blur=1.0, solarise=0.0),
    replace(SYMMETRIC, blur=0.1, solarise=0.2),
)
# seed "Scaling", section 3.1: stronger jitter, asymmetric blur and solarisation
SCALING = (
    replace(ASYMMETRIC[0], brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    replace(ASYMMETRIC[1], brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
)
PIPELINES: dict[str, tuple[Photometric, Photometric]] = {
    "symmetric": (SYMMETRIC, SYMMETRIC),
    "asymmetric": ASYMMETRIC,
    "scaling": SCALING,
}
Colour = tuple[float, float, float]
# mean and standard deviation of red, green and blue in [0, 1]
NORMALISATION: dict[str, tuple[Colour, Colour]] = {
    "paper": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # VICReg, appendix B.1
    "released": ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),  # VICRegL's code
}


def blur_kernel(size: int, kernel: int = KERNEL) -> int:
    """Side of the blur's kernel for views of `size` pixels: odd, at least 3.

    `kernel` is for 224 pixels, about a tenth of a view's side as SimCLR has it (appendix A);
    smaller views keep the proportion, larger ones the kernel. A deviation: the papers give 23 at
    224 and nothing else. Sigma stays in pixels of the view: at 96 (kernel 9) the widest is cut at
    2 sigma.
    """
    if size >= KERNEL_VIEW:
        return kernel
    return max(3, 2 * int(kernel * size / KERNEL_VIEW / 2) + 1)


def _luma(x: Tensor) -> Tensor:
    """(H, W) whole grey levels of (3, H, W), by torchvision's weights."""
    red, green, blue = x.unbind(0)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _blend(x: Tensor, other: Tensor, ratio: float) -> Tensor:
    """`ratio` of x and the rest of another picture, in whole grey levels."""
    return x.mul(ratio).add_(other, alpha=1.0 - ratio).clamp_(0.0, 255.0).floor_()


def _rotate_hue(x: Tensor, shift: float) -> Tensor:
    """Turn the hue of (3, H, W) by `shift` turns of the HSV colour wheel.

    Torchvision's `adjust_hue` without its branches: with every channel scaled to 0 at the pixel's
    least and 1 at its largest, the hue in sixths of a turn from red is 1 + g + b - r, to the side
    of g where g > b; back, a channel falls from the largest to the least between one and two sixths
    from its own hue, red at 0, green at 2 and blue at -2.
    """
    red, green, blue = x.unbind(0)
    high = torch.maximum(red, green).maximum(blue)
    low = torch.minimum(red, green).minimum(blue)
    chroma = high - low
    distance = (green + blue).sub_(red).add_(chroma).sub_(low).div_(chroma.clamp(min=1.0))
    hue = distance.copysign_(green - blue)
    # offsets in [-3, 3): |hue + offset| is then in [0, 6], and 3 at the channel's own hue
    offsets = torch.tensor([(6.0 * shift - own) % 6.0 - 3.0 for own in (0, 2, -2)])
    fall = (hue + offsets[:, None, None]).abs_().sub_(3.0).abs_().sub_(1.0).clamp_(0.0, 1.0)
    # torchvision takes [0, 1] to whole levels by the factor 255.999
    return torch.addcmul(high, fall, chroma, value=-1.0).mul_(255.999 / 255.0).floor_()


def _gaussian_blur(x: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blur (C, S, S) with a truncated Gaussian, reflecting at the border.

    Blurring a row, border and all, is a linear map of its S pixels: up to 224 pixels two products
    with an S x S matrix cost less than convolutions.
    """
    size = x.shape[-1]
    offsets = torch.arange(kernel) - kernel // 2
    weights = torch.softmax(-0.5 * (offsets / sigma).square(), dim=0)
    sources = (torch.arange(size)[:, None] + offsets).abs_()  # (S, kernel), reflected at 0
    sources = size - 1 - (size - 1 - sources).abs_()
    matrix = torch.zeros(size, size).scatter_add_(1, sources, weights.expand(size, kernel))
    return (matrix @ (x @ matrix.T)).round_()


def distort(image: Tensor, distortion: Distortion, kernel: int) -> Tensor:
    """Apply what was drawn to one view.

    Whole grey levels are kept after every operation, in float32: the values are those of
    torchvision's operations on uint8, with one conversion. After contrast, hue or blur, fewer than
    one value in a thousand is off, by one level.

    Args:
        image: (3, S, S) uint8.
        distortion: what was drawn.
        kernel: side of the blur's kernel, odd, at most 2 S - 1.

    Returns:
        (3, S, S) uint8.
    """
    x = image.to(torch.float32)
    for name, factor in distortion.jitter:
        if name == "brightness":
            x = x.mul(factor).clamp_(0.0, 255.0).floor_()
        elif name == "contrast":
            x = _blend(x, _luma(x).mean(), factor)
        elif name == "saturation":
            x = _blend(x, _luma(x), factor)
        else:
            x = _rotate_hue(x, factor)
    if distortion.grey:
        x = _luma(x)[None]
    if distortion.sigma is not None:
        x = _gaussian_blur(x, kernel, distortion.sigma)
    if distortion.solarise:
        x = torch.minimum(x, 255.0 - x)  # inverts exactly what is at or above 128
    return x.to(torch.uint8).expand(3, -1, -1)


@dataclass(frozen=True)
class ViewSpec:
    """One kind of views.

    Raises:
        ValueError: a size or count below 1, or a scale outside 0 < low <= high <= 1.
    """

    size: int  # side, in pixels
    scale: tuple[float, float]  # share of the picture's area
    count: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"views of {self.size} pixels: at least 1 is needed")
        if self.count < 1:
            raise ValueError(f"{self.count} views: at least 1 is needed")
        check_scale(self.scale)


@dataclass(frozen=True)
class Views:
    """The views of one picture."""

    large: Tensor  # (L, 3, S, S) uint8
    small: Tensor | None  # (N, 3, S', S') uint8
    crops: Tensor  # (L + N, 5) int64: i, j, h, w, flip of the large views, then of the small ones


class ViewMaker:
    """Makes the views of a picture.

    View k, counted over the large and then the small ones, takes pipeline k % 2. No paper says how
    small views are distorted; taking turns gives them the mixture that the large ones have. Under
    "symmetric" there is nothing to choose.

    Args:
        large: the two large views.
        small: the small views of multi-crop, if any.
        pipeline: a name in `PIPELINES`, or the two pipelines.
        interpolation: "bilinear" or "bicubic", antialiased.
        flip: probability of a horizontal flip.
        scale_blur: whether the blur's kernel shrinks with the view (`blur_kernel`); False takes it
            as given at any size.

    Raises:
        ValueError: other than two large views, an unknown pipeline or interpolation, a flip that is
            no probability, or a blur wider than a view.
    """

    def __init__(
        self,
        large: ViewSpec,
        small: ViewSpec | None = None,
        pipeline: str | tuple[Photometric, Photometric] = "symmetric",
        interpolation: Interpolation = "bilinear",
        *,
        flip: float = 0.5,
        scale_blur: bool = True,
    ) -> None:
        if large.count != LARGE_VIEWS:
            raise ValueError(f"{large.count} large views: the criterion needs {LARGE_VIEWS}")
        if isinstance(pipeline, str) and pipeline not in PIPELINES:
            raise ValueError(f"pipeline {pipeline!r}: known are {', '.join(PIPELINES)}")
        if interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation {interpolation!r}: bilinear or bicubic is needed")
        if not 0.0 <= flip <= 1.0:
            raise ValueError(f"flip {flip}: a probability is needed")
        self.large, self.small, self.flip = large, small, flip
        self.pipeline = PIPELINES[pipeline] if isinstance(pipeline, str) else pipeline
        self.interpolation = InterpolationMode(interpolation)
        self.scale_blur = scale_blur
        for size in [large.size] if small is None else [large.size, small.size]:
            for photometric in self.pipeline:
                kernel = self._kernel(photometric, size)
                if photometric.blur and kernel // 2 >= size:
                    raise ValueError(f"a blur of kernel {kernel} is too wide for {size} pixels")

    def __call__(self, image: Tensor, seed: int) -> Views:
        """Make the views of one picture.

        Args:
            image: (3, H, W) uint8, on the CPU.
            seed: 0 or more, of any size; the views are a function of it and the picture, and the
                crops of it and the picture's size, under any pipeline. Torch's own random state is
                left as it was.

        Raises:
            ValueError: another kind of picture, or a negative seed.
        """
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(
                f"a (3, H, W) uint8 picture is needed, not {image.dtype} {image.shape}"
            )
        if seed < 0:
            raise ValueError(f"seed {seed}: 0 or more is needed")
        specs = [self.large] * self.large.count
        if self.small is not None:
            specs += [self.small] * self.small.count
        height, width = image.shape[1:]
        with torch.random.fork_rng(devices=[]):
            # the CPU's generator alone; it reads 32 bits of a seed, so all are hashed into them
            torch.default_generator.manual_seed(int(SeedSequence(seed).generate_state(1)[0]))
            crops = [sample_crop(height, width, spec.scale, flip=self.flip) for spec in specs]
            distortions = [self.pipeline[k % 2].draw() for k in range(len(specs))]
        views = [
            self._render(image, crop, spec.size, distortion, self.pipeline[k % 2])
            for k, (crop, spec, distortion) in enumerate(
                zip(crops, specs, distortions, strict=True)
            )
        ]
        return Views(
            torch.stack(views[: self.large.count]),
            None if self.small is None else torch.stack(views[self.large.count :]),
            torch.tensor([[c.top, c.left, c.height, c.width, int(c.flip)] for c in crops]),
        )

    def _kernel(self, photometric: Photometric, size: int) -> int:
        kernel = photometric.blur_kernel
        return blur_kernel(size, kernel) if self.scale_blur else kernel

    def _render(
        self, image: Tensor, crop: Crop, size: int, distortion: Distortion, pipeline: Photometric
    ) -> Tensor:
        """(3, S, S) uint8 view of one crop."""
        region = image[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        view = tvf.resize(region, [size, size], interpolation=self.interpolation, antialias=True)
        if crop.flip:
            view = view.flip(-1)
        return distort(view, distortion, self._kernel(pipeline, size))
