"""Hand-written terms and gradients against the explicit covariance matrix and autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.vicreg_terms import invariance, regularise

SHAPES = [(4, 3, 9), (6, 2, 6), (11, 3, 5), (2, 1, 3), (5, 4, 1)]  # B, M, D: B <, =, > D; ends


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Dimensions of spread 0.3 to 2, so that the hinge is open in some and shut in others."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return 3.0 + x * torch.linspace(0.3, 2.0, shape[-1], dtype=torch.float64)


def explicit(x: Tensor, variance: float, covariance: float) -> tuple[Tensor, Tensor]:
    """VICReg's equations (1) to (4), slot by slot, with the D x D matrix."""
    var_terms, cov_terms = [], []
    for slot in x.unbind(1):
        var_terms.append(torch.relu(1 - torch.sqrt(slot.var(dim=0) + 1e-4)).mean())
        matrix = torch.cov(slot.T).reshape(slot.shape[1], slot.shape[1])
        off = matrix - torch.diag(torch.diagonal(matrix))
        cov_terms.append(off.square().sum() / slot.shape[1])
    return variance * torch.stack(var_terms).mean(), covariance * torch.stack(cov_terms).mean()


@pytest.mark.parametrize("weights", [(25.0, 1.0), (25.0, 0.0), (0.0, 3.0), (0.5, 40.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_regularise_equals_the_covariance_matrix(
    shape: tuple[int, int, int], weights: tuple[float, float]
) -> None:
    x = noise(*shape).requires_grad_()
    expected = explicit(x, *weights)
    (expected_gradient,) = torch.autograd.grad(sum(expected), x)
    variance, covariance, gradient = regularise(x.detach(), *weights)
    # float64; the absolute part is for D = 1, whose covariance is a difference of equals
    torch.testing.assert_close(variance, expected[0].detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(covariance, expected[1].detach(), rtol=1e-12, atol=1e-12)
    assert gradient is not None
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


def test_the_hinge_is_open_in_some_dimensions_and_shut_in_others() -> None:
    std = noise(11, 3, 5).std(dim=0)
    assert bool((std < 1).any()) and bool((std > 1).any())
    _, _, gradient = regularise(noise(11, 3, 5), 25.0, 0.0)
    assert gradient is not None
    assert torch.equal(gradient.abs().sum(dim=0) > 0, std < 1)


def test_both_sides_of_the_gram_matrix_agree() -> None:
    """Dimensions that are constant change nothing but the divisor D, and B > D becomes B < D."""
    x = noise(8, 2, 4)
    wide = torch.cat([x, torch.full((8, 2, 16), 7.0, dtype=torch.float64)], dim=2)
    _, narrow_term, narrow = regularise(x, 0.0, 1.0)
    _, wide_term, padded = regularise(wide, 0.0, 1.0)
    assert narrow is not None and padded is not None
    torch.testing.assert_close(wide_term * 20, narrow_term * 4, rtol=1e-12, atol=0)
    torch.testing.assert_close(padded[..., :4] * 20, narrow * 4, rtol=1e-10, atol=1e-14)
    assert float(padded[..., 4:].abs().max()) == 0.0


def test_known_values() -> None:
    point = torch.full((3, 2, 4), 5.0, dtype=torch.float64)
    variance, covariance, gradient = regularise(point, 25.0, 1.0)
    assert float(variance) == pytest.approx(25 * 0.99)  # 1 - sqrt(1e-4)
    assert float(covariance) == 0.0
    assert gradient is not None and float(gradient.abs().max()) == 0.0
    twice = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)[:, None]
    variance, covariance, _ = regularise(twice, 25.0, 1.0)
    assert float(variance) == 0.0  # variance 2
    assert float(covariance) == pytest.approx(4.0)  # (2^2 + 2^2) / 2


def test_no_weight_no_gradient() -> None:
    variance, covariance, gradient = regularise(noise(4, 2, 3), 0.0, 0.0)
    assert (float(variance), float(covariance), gradient) == (0.0, 0.0, None)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_inputs_are_left_alone(shape: tuple[int, int, int]) -> None:
    x, y = noise(*shape), noise(*shape, seed=1)
    before = x.clone(), y.clone()
    regularise(x, 25.0, 1.0)
    regularise(x, 25.0, 0.0)
    invariance(x, y, 25.0)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


def test_a_shift_changes_nothing() -> None:
    x = noise(6, 3, 8)
    one, other = regularise(x, 25.0, 1.0), regularise(x + 4.0, 25.0, 1.0)
    for a, b in zip(one, other, strict=True):
        assert a is not None and b is not None
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("weights", [(25.0, 1.0), (0.0, 0.0)])
def test_a_batch_of_one_has_no_variance(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="batch of at least 2"):
        regularise(noise(1, 2, 3), *weights)


@pytest.mark.parametrize("shape", SHAPES)
def test_invariance_equals_the_mean_squared_error(shape: tuple[int, int, int]) -> None:
    x, y = noise(*shape).requires_grad_(), noise(*shape, seed=1).requires_grad_()
    expected = 25.0 * F.mse_loss(x, y)
    by_x, by_y = torch.autograd.grad(expected, (x, y))
    value, gradient = invariance(x.detach(), y.detach(), 25.0)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, by_x, rtol=1e-13, atol=0)
    torch.testing.assert_close(-gradient, by_y, rtol=1e-13, atol=0)
