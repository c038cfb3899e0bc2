"""Matches of cells on maps whose right answers are known by hand."""

import math

import pytest
import torch
from torch import Tensor

from vicregl_bench.tasks.correspondence.matching import match_cells, true_cells

SAME, MIRRORED = torch.tensor([False]), torch.tensor([True])


def coordinates(rows: int, columns: int) -> Tensor:
    """(1, 4, rows, columns) features that are the cell's place, of one length."""
    y = (torch.arange(rows) / rows)[:, None].expand(rows, columns)
    x = (torch.arange(columns) / columns)[None].expand(rows, columns)
    return torch.stack([y.cos(), y.sin(), x.cos(), x.sin()])[None]


def test_true_cells_by_hand() -> None:
    assert true_cells(2, 3, torch.tensor([False, True])).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [2, 1, 0, 5, 4, 3],
    ]


@pytest.mark.parametrize("mirrored", [SAME, MIRRORED])
def test_features_that_are_coordinates_match_all(mirrored: Tensor) -> None:
    first = coordinates(7, 5)
    second = first.flip(3) if mirrored else first
    matches = match_cells(first, second, mirrored)
    assert matches.right.all() and (matches.error == 0).all()
    assert matches.similarity == pytest.approx(torch.ones(1, 35))
    wrong = match_cells(first, second, ~mirrored)  # all but the middle column
    assert wrong.right.sum() == 7


def test_similarity_is_the_cosine_not_the_product() -> None:
    first = torch.tensor([[1.0, 0.0], [10.0, 10.0]]).T.view(1, 2, 1, 2)
    second = torch.tensor([[5.0, 0.1], [1.0, 1.0]]).T.view(1, 2, 1, 2)
    matches = match_cells(first, second, SAME)
    assert matches.found.tolist() == [[0, 1]]
    cosine = 5.0 / math.hypot(5.0, 0.1)
    assert matches.similarity[0].tolist() == pytest.approx([cosine, 1.0])


def test_second_views_look_in_first_ones() -> None:
    a, b = torch.eye(2)
    first = torch.stack([a, b], dim=1).view(1, 2, 1, 2)
    second = torch.stack([a, a], dim=1).view(1, 2, 1, 2)
    matches = match_cells(first, second, SAME)
    assert matches.found.tolist() == [[0, 0]]
    assert matches.error.tolist() == [[0.0, 0.5]]  # one of two columns


def test_errors_are_distances_in_sides() -> None:
    first = torch.zeros(1, 2, 4, 2)
    first[0, 0, 3, 1] = 1.0  # cell 7
    second = torch.zeros(1, 2, 4, 2)
    second[0, 0, 0, 0] = 1.0  # is found three of four rows and one of two columns away
    matches = match_cells(first, second, SAME)
    assert matches.found[0, 0] == 7
    assert matches.error[0, 0] == pytest.approx(math.hypot(0.75, 0.5))
    assert match_cells(first, second, MIRRORED).error[0, 0] == pytest.approx(0.75)


@pytest.mark.parametrize("mirrored", [SAME, MIRRORED])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_features_are_right_by_chance(mirrored: Tensor, value: float) -> None:
    maps = torch.full((1, 4, 3, 5), value)
    matches = match_cells(maps, maps, mirrored)
    assert matches.right.sum() == 1  # of 15
    assert matches.error.mean() > 0.3


def test_pairs_of_a_batch_are_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, 8, 4, 4, generator=generator)
    second = first.clone()
    second[1] = second[1].flip(2)
    matches = match_cells(first, second, torch.tensor([False, True, False]))
    assert matches.right.all()


def test_maps_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 7, 5\) and \(1, 4, 5, 7\)"):
        match_cells(coordinates(7, 5), coordinates(5, 7), SAME)
