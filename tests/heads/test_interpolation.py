import pytest
import torch
import torch.nn.functional as F

from vicregl_bench.heads.interpolation import resize_matrix


@pytest.mark.parametrize("sizes", [(8, 32), (7, 50), (32, 20), (5, 5), (1, 9)])
def test_equals_bilinear_interpolation(sizes: tuple[int, int]) -> None:
    x = torch.randn(1, 3, sizes[0], 6, dtype=torch.float64)
    expected = F.interpolate(x, size=(sizes[1], 11), mode="bilinear")
    down = resize_matrix(*sizes, dtype=torch.float64)
    across = resize_matrix(6, 11, dtype=torch.float64)
    torch.testing.assert_close(down @ x @ across.T, expected, rtol=0, atol=1e-13)


def test_chain_equals_two_resizings() -> None:
    x = torch.randn(1, 1, 9, 1, dtype=torch.float64)
    first = F.interpolate(x, size=(33, 1), mode="bilinear")
    second = F.interpolate(first, size=(20, 1), mode="bilinear")
    chained = resize_matrix(9, 33, 20, dtype=torch.float64) @ x
    torch.testing.assert_close(chained, second, rtol=0, atol=1e-13)


def test_rows_are_averages() -> None:
    matrix = resize_matrix(16, 63, 40, dtype=torch.float64)
    torch.testing.assert_close(matrix.sum(1), torch.ones(40, dtype=torch.float64))
