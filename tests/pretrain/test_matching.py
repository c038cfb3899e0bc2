"""Matching against plain loops, on maps of unequal size."""

import pytest
import torch
from torch import Tensor

from pretrain.matching import (
    keep_best,
    location_distances,
    match_both_ways,
    nearest,
    ordered_pairs,
    squared_distances,
    take_cells,
)

B = 5
SIZES = [(9, 4), (4, 9), (6, 6), (1, 3), (3, 1)]  # P, Q


def distances(p: int, q: int, seed: int = 0) -> Tensor:
    """Distinct ones: ties would be settled by the order of a reduction."""
    generator = torch.Generator().manual_seed(seed)
    count = B * p * q
    return torch.randperm(count, generator=generator).reshape(B, p, q).double() / count


def plain(matrix: list[list[float]], gamma: int | None) -> list[tuple[int, int]]:
    """(kept, partner) of one picture, in raster order."""
    found = []
    for p, row in enumerate(matrix):
        q = min(range(len(row)), key=lambda q: row[q])
        found.append((row[q], p, q))
    best = sorted(found)[: len(found) if gamma is None else gamma]
    return sorted((p, q) for _, p, q in best)


def pairs_of(matches: object, picture: int) -> list[tuple[int, int]]:
    kept, partner = matches.kept[picture], matches.partner[picture]  # type: ignore[attr-defined]
    return list(zip(kept.tolist(), partner.tolist(), strict=True))


@pytest.mark.parametrize(("p", "q"), SIZES)
def test_nearest_is_the_smallest_of_every_row(p: int, q: int) -> None:
    matrix = distances(p, q)
    values, indices = nearest(matrix)
    assert values.shape == indices.shape == (B, p)
    for n in range(B):
        for cell, row in enumerate(matrix[n].tolist()):
            assert float(values[n, cell]) == min(row)
            assert int(indices[n, cell]) == row.index(min(row))


@pytest.mark.parametrize(("p", "q"), SIZES)
def test_both_ways_equal_the_loop(p: int, q: int) -> None:
    matrix = distances(p, q)
    for gamma in (None, *range(1, p + 1)):
        for gamma_back in (None, *range(1, q + 1)):
            there, back = match_both_ways(matrix, gamma, gamma_back)
            for n in range(B):
                assert pairs_of(there, n) == plain(matrix[n].tolist(), gamma)
                assert pairs_of(back, n) == plain(matrix[n].T.tolist(), gamma_back)


def test_back_is_there_of_the_transposed_distances() -> None:
    matrix = distances(9, 4)
    _, back = match_both_ways(matrix, 5, 3)
    there, _ = match_both_ways(matrix.transpose(1, 2), 3, 5)
    assert torch.equal(back.kept, there.kept)
    assert torch.equal(back.partner, there.partner)


def test_kept_is_in_raster_order_not_in_that_of_distance() -> None:
    distance = torch.tensor([[0.5, 0.9, 0.1, 0.7, 0.3], [0.2, 0.1, 0.8, 0.9, 0.0]])
    partner = torch.tensor([[7, 6, 5, 5, 3], [0, 0, 1, 1, 2]])
    matches = keep_best(distance, partner, 3)
    assert matches.kept.tolist() == [[0, 2, 4], [0, 1, 4]]
    assert matches.partner.tolist() == [[7, 5, 3], [0, 0, 2]]


@pytest.mark.parametrize("gamma", [None, 5])
def test_all_cells_are_kept_in_order(gamma: int | None) -> None:
    partner = torch.tensor([[3, 1, 1, 0, 2]]).expand(2, 5)
    matches = keep_best(torch.rand(2, 5), partner, gamma)
    assert matches.kept.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert torch.equal(matches.partner, partner)


@pytest.mark.parametrize("gamma", [0, -1, 6])
def test_an_impossible_gamma(gamma: int) -> None:
    message = rf"gamma is {gamma}, but the map has 5 cells: use 1\.\.5"
    with pytest.raises(ValueError, match=message):
        keep_best(torch.rand(2, 5), torch.zeros(2, 5, dtype=torch.long), gamma)


def test_gamma_is_held_against_the_map_whose_cells_are_kept() -> None:
    matrix = distances(9, 4)
    assert match_both_ways(matrix, 9, 4)[1].kept.shape == (B, 4)
    with pytest.raises(ValueError, match="gamma is 5, but the map has 4 cells"):
        match_both_ways(matrix, 9, 5)
    with pytest.raises(ValueError, match="gamma is 5, but the map has 4 cells"):
        match_both_ways(matrix.transpose(1, 2), 5, 9)


@pytest.mark.parametrize(("n", "m"), [(3, 2), (2, 3), (1, 4), (3, 3)])
def test_location_distances_equal_the_loop(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a = 200 * torch.rand(B, n, n, 2, generator=generator, dtype=torch.float64)
    b = 200 * torch.rand(B, m, m, 2, generator=generator, dtype=torch.float64)
    found = location_distances(a, b)
    assert found.shape == (B, n * n, m * m)
    for k in range(B):
        for p in range(n * n):
            for q in range(m * m):
                (r, c), (s, d) = a[k, p // n, p % n].tolist(), b[k, q // m, q % m].tolist()
                assert float(found[k, p, q]) == pytest.approx((r - s) ** 2 + (c - d) ** 2)


def test_location_distances_of_whole_pixels_are_exact() -> None:
    a = torch.tensor([[[[0.0, 0.0], [0.0, 3.0]], [[4.0, 0.0], [4.0, 3.0]]]])
    b = torch.tensor([[[[0.0, 3.0]]]])
    assert location_distances(a, b).tolist() == [[[9.0], [0.0], [25.0], [16.0]]]


@pytest.mark.parametrize(("p", "q"), SIZES)
def test_squared_distances_equal_differences(p: int, q: int) -> None:
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(B, p, 7, generator=generator, dtype=torch.float64)
    b = torch.randn(B, q, 7, generator=generator, dtype=torch.float64)
    before = a.clone(), b.clone()
    expected = (a[:, :, None] - b[:, None]).square().sum(-1)
    # float64: the expanded square loses a few last digits of the norms, about 10
    torch.testing.assert_close(squared_distances(a, b), expected, rtol=0, atol=1e-13)
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])


def test_a_cell_is_at_distance_0_of_itself_and_never_below() -> None:
    a = 100 + torch.randn(B, 6, 33, generator=torch.Generator().manual_seed(3))
    assert float(squared_distances(a, a).min()) >= 0.0


def test_take_cells_gathers_rows_with_repetition() -> None:
    x = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    index = torch.tensor([[3, 0, 3, 3, 1], [1, 2, 1, 0, 0]])
    taken = take_cells(x, index)
    assert taken.shape == (2, 5, 3)
    for n in range(2):
        for k in range(5):
            assert taken[n, k].tolist() == x[n, index[n, k]].tolist()


def test_ordered_pairs_start_at_a_large_view() -> None:
    assert ordered_pairs(2) == [(0, 1), (1, 0)]
    assert ordered_pairs(4) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
