"""Where the cells of a feature map lie in the picture.

Source: VICRegL, section 3.1 and appendix C: the absolute position of every feature vector in the
seed image, with horizontal flips taken into account.
"""

import torch
from torch import Tensor


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
