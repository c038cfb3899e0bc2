"""Training on minibatches: a plain torch loop, the optimum of L-BFGS, seeds, divergence."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.features.clouds import D, N, overlapping, separable
from vicregl_bench.features.linear_training import Recipe, seeded_generator, train_linear
from vicregl_bench.features.logistic import fit_logistic

RECIPES = [
    Recipe(optimizer, lr, decay, schedule, epochs=5, batch_size=32)
    for optimizer, lr, decay in (("SGD", 0.1, 1e-2), ("AdamW", 0.01, 0.1))
    for schedule in ("cosine", "step")
]


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
