"""Matched pairs of views of some pictures: what they score, and what is kept of a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicregl_bench.records.matches import BEST
from vicregl_bench.tasks.correspondence.matching import CellMatches, true_cells


@dataclass(frozen=True, eq=False)
class MatchedViews:
    """Views of B pictures, P pairs of each, and the matches of their cells.

    Attributes:
        pixels: (B, P, 2, 3, side, side) uint8 RGB.
        mirrored: (B, P) whether exactly one view of the pair is flipped.
        matches: of the B * P pairs, those of a picture one after the other.
        grid: rows and columns of the maps.
    """

    pixels: Tensor
    mirrored: Tensor
    matches: CellMatches
    grid: tuple[int, int]

    def right(self) -> Tensor:
        """(B, P) share of the cells matched right, float64, on the CPU."""
        return self.matches.right.double().mean(dim=1).cpu().view(self.mirrored.shape)

    def error(self) -> Tensor:
        """(B, P) mean distance to the true cells in sides of a view, float64, on the CPU."""
        return self.matches.error.double().mean(dim=1).cpu().view(self.mirrored.shape)

    def scores(self) -> Tensor:
        """(B, 3) means over a picture's pairs: share right, distance, and share right of mirrored.

        The last is NaN where no pair is mirrored.
        """
        right = self.right()
        mirrored = torch.where(self.mirrored, right, torch.nan).nanmean(dim=1)
        return torch.stack([right.mean(dim=1), self.error().mean(dim=1), mirrored], dim=1)

    def kept(self, place: int) -> dict[str, Any]:
        """The first pair of one of the pictures, as arrays.

        Returns:
            `views` (2, side, side, 3) uint8; `matches`, at most `records.matches.BEST`, the most
            similar first: (n, 4) of cell of the second view, cell found in the first, true cell,
            and cosine; `grid`; `scores`, share right and distance in percent.
        """
        pair = place * self.mirrored.shape[1]
        similarity = self.matches.similarity[pair].double().cpu()
        order = similarity.argsort(descending=True, stable=True)[:BEST]
        truth = true_cells(*self.grid, self.mirrored[place, :1])[0]
        columns = (order, self.matches.found[pair].cpu()[order], truth[order], similarity[order])
        return {
            "views": self.pixels[place, 0].permute(0, 2, 3, 1).numpy(),
            "matches": torch.stack([one.double() for one in columns], dim=1).numpy(),
            "grid": np.array(self.grid),
            "scores": np.array(
                [100.0 * float(one[place, 0]) for one in (self.right(), self.error())]
            ),
        }
