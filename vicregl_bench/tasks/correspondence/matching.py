"""Cells of one map matched to the most similar cells of another, and held against the truth."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CellMatches:
    """What the cells of B second views were matched to in the first views.

    Attributes:
        found: (B, K) index of the cell, row by row.
        similarity: (B, K) its cosine.
        right: (B, K) whether it is the true one.
        error: (B, K) distance between the two cells' centres, in sides of a view.
    """

    found: Tensor
    similarity: Tensor
    right: Tensor
    error: Tensor


def true_cells(rows: int, columns: int, mirrored: Tensor) -> Tensor:
    """Index of the cell of the first view that shows what each cell of the second shows.

    Both views are of one crop, so cells correspond one to one: the same cell, or its mirror image
    where one of the views is flipped and the other is not.

    Args:
        rows: of the map.
        columns: of the map.
        mirrored: (B,) whether exactly one view of the pair is flipped.

    Returns:
        (B, rows * columns) indices, row by row.
    """
    same = torch.arange(rows * columns, device=mirrored.device)
    other = same.view(rows, columns).flip(1).flatten()
    return torch.where(mirrored[:, None], other, same)


def match_cells(first: Tensor, second: Tensor, mirrored: Tensor) -> CellMatches:
    """Match every cell of second views to the most similar one of the first, by cosine.

    The direction is that of figure 5 of global-local self-distillation (from the right to the left
    view), the similarity that of equation 4 and appendix D. Of equally similar cells the first one
    is taken, so that constant features find one cell right of K, as chance does. The paper leaves
    the unit of the distance error open; ours is the view's side.

    Args:
        first: (B, C, rows, columns) features of the first views.
        second: of the same shape.
        mirrored: (B,) whether exactly one view of the pair is flipped.

    Raises:
        ValueError: maps of two shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"maps of {tuple(first.shape)} and {tuple(second.shape)} do not match")
    rows, columns = first.shape[-2:]
    targets, queries = (functional.normalize(one.flatten(2), dim=1) for one in (first, second))
    similarity, found = (queries.transpose(1, 2) @ targets).max(dim=2)
    truth = true_cells(rows, columns, mirrored)
    down = (found // columns - truth // columns) / rows
    across = (found % columns - truth % columns) / columns
    return CellMatches(found, similarity, found == truth, torch.hypot(down, across))
