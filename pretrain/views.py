"""Crops of a picture, and where the cells of a feature map lie in it.

Source: VICRegL, section 3.1 and appendix C: the absolute position of every feature vector in the
seed image, with horizontal flips taken into account.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RATIO = (3 / 4, 4 / 3)  # width over height of a crop: RandomResizedCrop's default
TRIES = 10  # rectangles drawn before the central crop is taken: the same


@dataclass(frozen=True)
class Crop:
    """A rectangle of the source picture, in source pixels, and whether its view is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def check_scale(scale: tuple[float, float]) -> None:
    """Raise ValueError unless `scale` bounds shares of a picture's area, 0 < low <= high <= 1."""
    if not 0.0 < scale[0] <= scale[1] <= 1.0:
        raise ValueError(
            f"crop scale {scale}: shares of the area, 0 < low <= high <= 1, are needed"
        )


def sample_crop(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = RATIO,
    flip: float = 0.5,
) -> Crop:
    """Draw a random resized crop from torch's global generator, which the caller seeds.

    The distribution of torchvision's `RandomResizedCrop.get_params`, which is several times slower:
    area uniform in `scale`, aspect ratio log-uniform in `ratio`, drawn until the rectangle fits,
    ten times at most; then the largest central crop of a permitted ratio. The place is uniform.

    Args:
        height: height of the picture, in pixels.
        width: width of the picture, in pixels.
        scale: least and largest share of the picture's area.
        ratio: least and largest width over height.
        flip: probability of a horizontal flip.

    Raises:
        ValueError: an empty picture, or bounds or a probability that are none.
    """
    if height < 1 or width < 1:
        raise ValueError(f"no crop of a picture of {height} x {width} pixels")
    check_scale(scale)
    if not 0.0 < ratio[0] <= ratio[1]:
        raise ValueError(f"aspect ratio {ratio}: 0 < low <= high is needed")
    if not 0.0 <= flip <= 1.0:
        raise ValueError(f"flip {flip}: a probability is needed")
    *tries, down, right, mirror = torch.rand(2 * TRIES + 3, dtype=torch.float64).tolist()
    flipped = mirror < flip
    for share, shape in zip(tries[::2], tries[1::2], strict=True):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * share)
        aspect = ratio[0] * (ratio[1] / ratio[0]) ** shape
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
            return Crop(top, left, h, w, flipped)
    h = min(height, max(1, round(width / ratio[0])))
    w = min(width, max(1, round(height * ratio[1])))
    return Crop((height - h) // 2, (width - w) // 2, h, w, flipped)


def cell_centres(i: int, j: int, h: int, w: int, n: int, flip: bool = False) -> Tensor:
    """Centres of the cells of an n x n map over a crop, in source pixels.

    Args:
        i: top row of the crop.
        j: left column of the crop.
        h: height of the crop, in source pixels.
        w: width of the crop, in source pixels.
        n: side of the map.
        flip: whether the view was mirrored after cropping: cell (r, 0) then shows the right edge.

    Returns:
        (n, n, 2) float64 (row, column) of every cell's centre, in the map's order.

    Raises:
        ValueError: a crop or map without extent.
    """
    if h <= 0 or w <= 0 or n <= 0:
        raise ValueError(f"no cells in a {n} x {n} map over a crop of {h} x {w} pixels")
    steps = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    rows, columns = i + h * steps, j + w * steps
    if flip:
        columns = columns.flip(0)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def locations(crops: Tensor, n: int, *, track_flips: bool = True) -> Tensor:
    """`cell_centres` of a batch of crops.

    Args:
        crops: (B, 5) of i, j, h, w and flip (0 or 1), in source pixels.
        n: side of the map.
        track_flips: whether a mirrored view's columns are mirrored too (appendix C); False is the
            released code's default, which leaves them as if there were no flip.

    Returns:
        (B, n, n, 2) float64 (row, column) of every cell's centre, on the device of `crops`.

    Raises:
        ValueError: crops of another shape, or a crop or map without extent.
    """
    if crops.ndim != 2 or crops.shape[1] != 5:
        raise ValueError(f"crops (B, 5) of i, j, h, w, flip are needed, not {tuple(crops.shape)}")
    if n <= 0 or bool((crops[:, 2:4] <= 0).any()):
        raise ValueError(f"no cells in a {n} x {n} map, or a crop without extent")
    i, j, h, w, flip = crops.to(torch.float64)[:, :, None].unbind(1)  # (B, 1) each
    steps = (torch.arange(n, dtype=torch.float64, device=crops.device) + 0.5) / n
    rows, columns = i + h * steps, j + w * steps
    if track_flips:
        columns = torch.where(flip != 0, columns.flip(1), columns)
    shape = (len(crops), n, n)
    return torch.stack((rows[:, :, None].expand(shape), columns[:, None].expand(shape)), dim=-1)
