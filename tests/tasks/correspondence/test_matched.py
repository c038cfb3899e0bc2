"""Matched pairs of views: known scores, and what is kept of a picture."""

import numpy as np
import torch

from vicregl_bench.tasks.correspondence.matched import MatchedViews
from vicregl_bench.tasks.correspondence.matching import match_cells

# one row of three cells, each of its own direction
CELLS = torch.eye(3).view(3, 1, 3)


def matched() -> MatchedViews:
    """Two pictures of two pairs; all cells are seen where they were but for the third pair's."""
    turned = CELLS.flip(2)
    first = torch.stack([CELLS, CELLS, CELLS, CELLS])
    second = torch.stack([CELLS, turned, turned, CELLS])
    mirrored = torch.tensor([[False, True], [False, False]])
    pixels = torch.arange(8, dtype=torch.uint8).view(2, 2, 2, 1, 1, 1).expand(2, 2, 2, 3, 4, 4)
    return MatchedViews(pixels, mirrored, match_cells(first, second, mirrored.flatten()), (1, 3))


def test_scores_are_means_over_a_pictures_pairs() -> None:
    found = matched()
    torch.testing.assert_close(
        found.right(), torch.tensor([[1.0, 1.0], [1 / 3, 1.0]], dtype=torch.float64)
    )
    # the outer two cells of the third pair are found two cells off: 2/3 of a side
    far = 2 * (2 / 3) / 3
    torch.testing.assert_close(
        found.scores(),
        torch.tensor([[1.0, 0.0, 1.0], [2 / 3, far / 2, torch.nan]], dtype=torch.float64),
        equal_nan=True,
        rtol=0,
        atol=1e-6,  # distances are of float32
    )


def test_the_first_pair_of_a_picture_is_kept() -> None:
    kept = matched().kept(1)
    assert kept["views"].shape == (2, 4, 4, 3) and kept["views"][:, 0, 0, 0].tolist() == [4, 5]
    assert kept["grid"].tolist() == [1, 3]
    assert kept["matches"].tolist() == [[0, 2, 0, 1], [1, 1, 1, 1], [2, 0, 2, 1]]
    np.testing.assert_allclose(kept["scores"], [100 / 3, 100 * 4 / 9], rtol=1e-6)


def test_of_a_mirrored_pair_the_truth_is_the_mirror_image() -> None:
    found = matched()
    swapped = MatchedViews(
        found.pixels, torch.tensor([[True, False]] * 2), found.matches, found.grid
    )
    assert swapped.kept(0)["matches"][:, 2].tolist() == [2, 1, 0]
