"""Linear probes on tensors: scikit-learn, plain torch loops, known answers."""

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from vicregl_bench.features import linear_probe
from vicregl_bench.features.linear_probe import (
    LinearClassifier,
    Recipe,
    Scaler,
    fit_logistic,
    lbfgs_torch,
    seeded_generator,
    train_linear,
)

N, D = 90, 6


@pytest.fixture(params=[None, 60], ids=["whole", "in chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param is not None:
        monkeypatch.setattr(linear_probe, "_CHUNK", request.param)
    yield


def overlapping(classes: int) -> tuple[Tensor, Tensor]:
    """Classes that no classifier separates."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(N) % classes
    centres = torch.randn(classes, D, generator=generator)
    return centres[labels] + torch.randn(N, D, generator=generator), labels


def separable(classes: int = 4) -> tuple[Tensor, Tensor]:
    vectors, labels = overlapping(classes)
    return 0.1 * vectors + 10 * torch.eye(classes, D)[labels], labels


def objective(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, l2: float) -> Tensor:
    loss = nn.functional.cross_entropy(x.double() @ weight.T + bias, y)
    return loss + 0.5 * l2 * weight.square().sum()


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_lbfgs_is_scikit_learns_and_torchs(classes: int, l2: float, chunks: None) -> None:
    x, y = overlapping(classes)
    asked: dict[str, Any] = {"l2": l2, "max_iter": 2000, "tolerance": 1e-9}
    ours, converged = fit_logistic(x, y, classes, **asked)
    weight, bias, also = lbfgs_torch(x, y, classes, **asked)
    assert converged and also
    # both end within 1e-7 or so of a zero gradient; curvature is at least l2
    torch.testing.assert_close(ours.weight, weight, rtol=0, atol=1e-4)
    # only differences between biases count
    torch.testing.assert_close(ours.bias - ours.bias.mean(), bias - bias.mean(), rtol=0, atol=1e-4)
    at = [one.clone().requires_grad_() for one in (ours.weight, ours.bias)]
    objective(at[0], at[1], x, y, l2).backward()
    for one in at:
        assert one.grad is not None and float(one.grad.abs().max()) < 1e-6
    if classes > 2:  # of two, scikit-learn has another penalty
        peer = LogisticRegression(C=1 / (l2 * N), max_iter=2000, tol=1e-9).fit(x.double(), y)
        np.testing.assert_allclose(ours.weight, peer.coef_, atol=1e-6)


def test_sgd_ends_at_the_same_optimum() -> None:
    """Its decay is the penalty, and is on biases too: vectors whose best biases are equal."""
    x, y = overlapping(3)
    # channels turn with the classes, which so all play the same part
    turned = torch.cat([x.roll(2 * part, dims=1) for part in range(3)])
    labels = torch.cat([(y + part) % 3 for part in range(3)])
    trained = {}
    for l2 in (0.02, 0.1):
        exact, converged = fit_logistic(turned, labels, 3, l2=l2, max_iter=2000, tolerance=1e-9)
        recipe = Recipe("SGD", 0.3, l2, "cosine", epochs=300, batch_size=3 * N)
        ours = train_linear(turned, labels, 3, recipe, run_seed=0, seed=0)
        assert converged and ours is not None
        torch.testing.assert_close(ours.weight.double(), exact.weight, rtol=1e-4, atol=0)
        biases = ours.bias.double() - exact.bias + exact.bias.mean()
        torch.testing.assert_close(biases, torch.zeros_like(biases), rtol=0, atol=1e-5)
        trained[l2] = ours.weight
    assert float((trained[0.02] - trained[0.1]).abs().max()) > 0.1


def test_what_does_not_converge_says_so() -> None:
    x, y = overlapping(3)
    asked: dict[str, Any] = {"l2": 1e-4, "max_iter": 2, "tolerance": 1e-9}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, converged = fit_logistic(x, y, 3, **asked)
    assert not converged and not lbfgs_torch(x, y, 3, **asked)[2]


def test_a_class_without_pictures_is_never_predicted() -> None:
    x, y = separable(4)
    there = y != 2
    asked: dict[str, Any] = {"l2": 1e-3, "max_iter": 500, "tolerance": 1e-6}
    fitted, _ = fit_logistic(x[there], y[there], 4, **asked)
    ranks = fitted.ranks(x, y)
    assert (ranks[there] == 0).all() and (ranks[~there] == 3).all()
    alone, converged = fit_logistic(x[y == 1], y[y == 1], 4, **asked)
    assert converged and (alone.ranks(x, y)[y == 1] == 0).all()


def test_standardised_channels(chunks: None) -> None:
    x, _ = overlapping(3)
    shifted = torch.cat([1e4 + 10 * x, torch.full((N, 1), 3.0)], dim=1)
    shifted[0, -1] += 1e-3  # less than the rounding of a stored channel
    scaled = Scaler.fit(shifted, "standardize")(shifted)
    expected = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    torch.testing.assert_close(scaled[:, :D], expected, rtol=0, atol=2e-3)  # 1e4 in float32
    assert (scaled[:, D] == 0).all()


def test_other_scalings() -> None:
    x, _ = overlapping(3)
    x[0] = 0
    assert Scaler.fit(x, "none")(x) is x
    normal = Scaler.fit(x, "normalize")(1e20 * x)
    assert (normal[0] == 0).all()
    torch.testing.assert_close(normal[1:].norm(dim=1), torch.ones(N - 1))


def test_ranks_of_equal_and_broken_logits(chunks: None) -> None:
    broken = LinearClassifier(torch.zeros(3, D), torch.tensor([torch.nan, 0.0, torch.inf]))
    assert broken.ranks(torch.ones(3, D), torch.arange(3)).tolist() == [2, 2, 1]
    constant = LinearClassifier(torch.zeros(3, D), torch.zeros(3))
    assert (constant.ranks(torch.ones(50, D), torch.arange(50) % 3) == 2).all()
    known = LinearClassifier(torch.zeros(3, D), torch.tensor([0.0, 2.0, 1.0]))
    assert known.ranks(torch.ones(3, D), torch.arange(3)).tolist() == [2, 0, 1]


RECIPES = [
    Recipe(optimizer, lr, decay, schedule, epochs=5, batch_size=32)
    for optimizer, lr, decay in (("SGD", 0.1, 1e-2), ("AdamW", 0.01, 0.1))
    for schedule in ("cosine", "step")
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: f"{one.optimizer} {one.schedule}")
def test_the_trainer_is_a_plain_loop(recipe: Recipe) -> None:
    x, y = overlapping(3)
    ours = train_linear(x, y, 3, recipe, run_seed=4, seed=1)
    draw = seeded_generator(4, 1)
    layer = nn.Linear(D, 3)
    with torch.no_grad():
        layer.weight.copy_(0.01 * torch.randn(3, D, generator=draw))
        layer.bias.zero_()
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "SGD":
        optimizer = torch.optim.SGD(
            layer.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(
            layer.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5 * 3)
    step = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    for _ in range(5):
        order = torch.randperm(N, generator=draw)
        for begin in range(0, N, 32):
            chosen = order[begin : begin + 32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(x[chosen]), y[chosen]).backward()
            optimizer.step()
            if recipe.schedule == "cosine":
                cosine.step()
        if recipe.schedule == "step":
            step.step()
    assert ours is not None
    torch.testing.assert_close(ours.weight, layer.weight.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.bias, layer.bias.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_what_is_separable_is_learned(optimizer: Literal["SGD", "AdamW"]) -> None:
    x, y = separable()
    recipe = Recipe(optimizer, 0.05, 1e-6, "cosine", epochs=20, batch_size=16)
    trained = train_linear(x, y, 4, recipe, run_seed=0, seed=0)
    assert trained is not None and (trained.ranks(x, y) == 0).all()


def test_a_classifier_depends_on_its_seeds_alone() -> None:
    x, y = overlapping(3)

    def weight(run_seed: int, seed: int) -> Tensor:
        trained = train_linear(x, y, 3, RECIPES[0], run_seed=run_seed, seed=seed)
        assert trained is not None
        return trained.weight

    first = weight(0, 0)
    torch.manual_seed(123)
    others = [weight(0, 1), weight(1, 0)]
    assert torch.equal(weight(0, 0), first)
    assert not any(torch.equal(one, first) for one in others)


def test_divergence_gives_no_classifier() -> None:
    x, y = overlapping(3)
    recipe = Recipe("SGD", 1e30, 1.0, "cosine", epochs=3, batch_size=32)
    assert train_linear(x, y, 3, recipe, run_seed=0, seed=0) is None
