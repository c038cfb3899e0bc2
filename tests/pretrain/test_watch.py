import pytest
import torch
from torch import Tensor

from pretrain.watch import COLLAPSED_CORRELATION, COLLAPSED_SPREAD, Spread, measure


def noise(batch: int, width: int) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(0))


def plain(x: Tensor) -> float:
    """Eq. 9 as it is printed: the mean squared coefficient off the diagonal."""
    squared = torch.corrcoef(x.double().T).square()
    width = len(squared)
    return float((squared.sum() - squared.diagonal().sum()) / (width * (width - 1)))


def test_a_point_is_collapsed() -> None:
    for value in (torch.zeros(8), torch.full((8,), 0.1), noise(1, 8)[0]):
        spread = measure(value.expand(16, -1))
        assert spread.std == pytest.approx(0.0, abs=1e-6)
        assert spread.collapsed


@pytest.mark.parametrize(("batch", "width"), [(2000, 50), (300, 800)])
def test_independent_features_fill_the_sphere(batch: int, width: int) -> None:
    spread = measure(noise(batch, width))
    # std over a finite batch: a few over sqrt(2 B D); correlation: of an average over D^2 pairs
    assert spread.std == pytest.approx(1.0, abs=0.02)
    assert spread.correlation == pytest.approx(0.0, abs=1e-3)
    assert not spread.collapsed


def test_chance_is_taken_off() -> None:
    x = noise(16, 200)
    assert plain(x) == pytest.approx(1 / 15, rel=0.05)
    chance = 1 / 15
    expected = (plain(x) - chance) / (1 - chance)
    assert measure(x).correlation == pytest.approx(max(0.0, expected), abs=1e-5)


def test_one_direction_is_correlated() -> None:
    x = noise(64, 1) @ noise(1, 30)
    spread = measure(x)
    assert spread.correlation == pytest.approx(1.0, abs=1e-4)
    assert spread.collapsed


@pytest.mark.parametrize("batch", [10, 40, 41, 200])
def test_correlation_is_eq_9_from_either_gram_matrix(batch: int) -> None:
    x = noise(batch, 5) @ noise(5, 40) + 3.0
    chance = 1 / (batch - 1)
    expected = (plain(x) - chance) / (1 - chance)
    assert measure(x).correlation == pytest.approx(expected, abs=1e-4)
    assert expected > 0.05


def test_scale_of_the_features_does_not_count() -> None:
    x = noise(40, 20) + 0.5
    one, other = measure(x), measure(1000 * x)
    assert other.std == pytest.approx(one.std, rel=1e-5)
    assert other.correlation == pytest.approx(one.correlation, abs=1e-5)


def test_dead_dimensions_are_left_out_of_the_correlation() -> None:
    x = noise(100, 10)
    dead = torch.cat([x, torch.full((100, 5), 2.0)], dim=1)
    assert measure(dead).correlation == pytest.approx(measure(x).correlation, abs=1e-6)


def test_one_live_dimension_is_a_collapse() -> None:
    x = torch.zeros(10, 4)
    x[:, 2] = noise(10, 1)[:, 0]
    assert measure(x).correlation == 1.0


def test_half_precision_is_measured_in_single() -> None:
    x = noise(64, 32).half()
    assert measure(x) == measure(x.float())


def test_a_batch_of_two_says_nothing_of_correlation() -> None:
    assert measure(noise(2, 10)).correlation == 0.0


def test_thresholds() -> None:
    assert not Spread(COLLAPSED_SPREAD, COLLAPSED_CORRELATION).collapsed
    assert Spread(0.99 * COLLAPSED_SPREAD, 0.0).collapsed
    assert Spread(1.0, 0.91).collapsed


def test_numbers_that_are_none_are_a_collapse() -> None:
    assert measure(torch.full((8, 4), float("nan"))).collapsed
