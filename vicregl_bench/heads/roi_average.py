"""The average of RoIAlign's bins as one separable linear functional of the map.

RoIAlign (He et al. 2017) samples a region on a regular grid by bilinear interpolation and averages
within bins; the mean over all bins averages over the whole grid. A grid is the product of rows and
columns, and so is every rule for its borders: the weight of a map's pixel (i, j) is that of row i
times that of column j. A region's vector then is one row of a matrix product with the map, and
nothing of size bins x channels is made.
"""

import torch
from torch import Tensor


def roi_average_weights(
    boxes: Tensor,
    map_size: tuple[int, int],
    *,
    stride: float,
    output_size: int = 7,
    sampling_ratio: int = 0,
) -> tuple[Tensor, Tensor]:
    """Weights of a map's rows and columns in the mean of each region's RoIAlign.

    `einsum("ri,rj,dij->rd", rows, columns, features)` equals the mean of the bins of torchvision's
    `roi_align` with `spatial_scale=1 / stride` and `aligned=True`: samples up to one pixel outside
    the map take the value at its border, those farther out are zero, and so is a region without
    extent.

    Args:
        boxes: (R, 4) x1, y1, x2, y2 in pixels of the picture.
        map_size: (h, w).
        stride: of the map.
        output_size: bins a side.
        sampling_ratio: samples a bin and side; 0 for as many as the bin has pixels of the map,
            rounded up.

    Returns:
        (R, h) and (R, w), in the boxes' dtype.
    """
    edges = boxes * (1 / stride) - 0.5
    rows = _side_weights(edges[:, 1], edges[:, 3], map_size[0], output_size, sampling_ratio)
    columns = _side_weights(edges[:, 0], edges[:, 2], map_size[1], output_size, sampling_ratio)
    return rows, columns


def roi_average_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Weights (R, h * w) of all pixels, from (R, h) and (R, w)."""
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def _side_weights(low: Tensor, high: Tensor, length: int, bins: int, sampling_ratio: int) -> Tensor:
    """(R, length) weights of one side's samples between `low` and `high` (R,)."""
    extent = high - low
    if sampling_ratio > 0:
        samples = torch.full_like(extent, bins * sampling_ratio)
    else:
        samples = bins * torch.ceil(extent / bins).clamp_(min=0)
    share = 1 / samples.clamp(min=1)
    most = int(samples.max()) if len(samples) else 0
    index = torch.arange(most, dtype=low.dtype, device=low.device)
    position = low[:, None] + (index + 0.5) * (extent * share)[:, None]
    counts = (index < samples[:, None]) & (position >= -1) & (position <= length)
    position.clamp_(0, length - 1)
    below = position.floor().clamp_(max=max(length - 2, 0))
    beyond = (position - below) * share[:, None] * counts
    before = share[:, None] * counts - beyond
    first = below.long()
    second = (first + 1).clamp_(max=length - 1)
    weights = low.new_zeros(len(low), length)
    return weights.scatter_add_(1, first, before).scatter_add_(1, second, beyond)
