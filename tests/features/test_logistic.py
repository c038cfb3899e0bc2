"""Softmax regression: scikit-learn's and torch's L-BFGS, its gradient, what does not converge."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tests.features.clouds import N, overlapping, separable
from vicregl_bench.features.logistic import fit_logistic, lbfgs_torch


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
