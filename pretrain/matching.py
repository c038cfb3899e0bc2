"""Matching the cells of two feature maps, by location and by feature.

Source: VICRegL, section 3.1, equations (2) and (3), and the top-gamma filter of section 3.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LARGE_VIEWS = 2
"""The first two views are large, the others small (section 3.2, multi-crop)."""


def ordered_pairs(views: int) -> list[tuple[int, int]]:
    """Ordered pairs of views, from each large view to every other view (Eq. 5)."""
    return [(i, j) for i in range(LARGE_VIEWS) for j in range(views) if j != i]


@dataclass(frozen=True)
class Matches:
    """Pairs of cells, batched: the cell kept in one map and its partner in the other.

    `kept` and `partner` are (B, gamma) indices; `kept` is in raster order (ascending) and has no
    repetition, while several cells may share a partner.
    """

    kept: Tensor
    partner: Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared l2 distances (B, P, Q) between the rows of (B, P, C) and of (B, Q, C)."""
    cross = torch.bmm(a, b.transpose(1, 2))
    norms_a, norms_b = a.square().sum(-1)[:, :, None], b.square().sum(-1)[:, None, :]
    return (norms_a + norms_b).sub_(cross, alpha=2.0).clamp_min_(0.0)


def location_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B, P, Q) between cell centres (B, n, n, 2) and (B, m, m, 2)."""
    first, second = a.flatten(1, 2), b.flatten(1, 2)
    return (first[:, :, None] - second[:, None]).square().sum(-1)


def take_cells(x: Tensor, index: Tensor) -> Tensor:
    """The cells (B, M, C) of a map (B, P, C) at indices (B, M)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def nearest(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and index (B, P) of the nearest of Q cells, from distances (B, P, Q)."""
    smallest = distances.min(dim=-1)
    return smallest.values, smallest.indices


def keep_best(distance: Tensor, partner: Tensor, gamma: int | None) -> Matches:
    """Keep the gamma pairs of each picture with the smallest distance.

    Args:
        distance: (B, P) of every cell to its partner.
        partner: (B, P).
        gamma: how many to keep; None keeps all.

    Raises:
        ValueError: gamma is not in 1..P.
    """
    cells = distance.shape[1]
    if gamma is None or gamma == cells:
        every = torch.arange(cells, device=partner.device).expand_as(partner)
        return Matches(every, partner)
    if not 1 <= gamma <= cells:
        raise ValueError(f"gamma is {gamma}, but the map has {cells} cells: use 1..{cells}")
    kept = distance.topk(gamma, dim=1, largest=False).indices.sort(dim=1).values
    return Matches(kept, partner.gather(1, kept))


def match_both_ways(
    distances: Tensor, gamma: int | None, gamma_back: int | None
) -> tuple[Matches, Matches]:
    """Match map a to map b and back, from one matrix of distances (B, P, Q).

    Returns the matches of a's cells (gamma of them) and of b's cells (gamma_back of them).
    """
    there = keep_best(*nearest(distances), gamma)
    back = keep_best(*nearest(distances.transpose(1, 2)), gamma_back)
    return there, back
