"""Bilinear resizing as a matrix product.

Bilinear interpolation is separable: resizing a map L of shape (h, w) to (H, W) is A L B' with
A of shape (H, h) and B of shape (W, w). Written so, its transpose is at hand without autograd, and
two resizings in a row are one pair of matrices.
"""

import itertools
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=256)
def _matrix(in_size: int, out_size: int) -> Tensor:
    basis = torch.eye(in_size, dtype=torch.float64)[:, None, :]
    resized = F.interpolate(basis, size=out_size, mode="linear")
    return resized[:, 0].T.contiguous()


def resize_matrix(
    *sizes: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Matrix of a chain of linear resizings along one axis (align_corners=False).

    Args:
        sizes: lengths of the axis, from the map's to the last one's, at least two of them.
        dtype: of the result; the weights themselves are computed in float64.
        device: of the result.

    Returns:
        (sizes[-1], sizes[0]) matrix A, so that `A @ x` resizes x through all the sizes.
    """
    matrix = torch.eye(sizes[0], dtype=torch.float64)
    for in_size, out_size in itertools.pairwise(sizes):
        matrix = _matrix(in_size, out_size) @ matrix
    return matrix.to(device=device, dtype=dtype)
