"""Softmax regression on feature tensors by L-BFGS.

Minimises the mean cross-entropy of `x W^T + b` over N training vectors plus `l2 / 2 * |W|^2` (no
penalty on b), which has one optimum: scikit-learn's `C` is `1 / (l2 * N)`. CLIP (2103.00020,
appendix A.3) and DINOv2 (2304.07193, its released `log_regression.py`) weigh the penalty against
the sum over N; against the mean, one grid suits data sets of any size.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from vicregl_bench.features.chunks import chunks
from vicregl_bench.features.linear_classifier import LinearClassifier

_HISTORY = 10  # corrections that L-BFGS keeps; scipy's, which scikit-learn uses
_LEAST_CHANGE = 64 * torch.finfo(torch.float64).eps  # of the loss; scikit-learn's


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    l2: float,
    max_iter: int,
    tolerance: float,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[LinearClassifier, bool]:
    """Softmax regression by L-BFGS from zero: scikit-learn's, on CUDA torch's; in float64.

    Vectors on the CPU are copied to float64 (8 N D bytes); on CUDA a part at a time.

    Args:
        features: (N, D), on the device that computes.
        labels: (N,) in [0, `classes`).
        classes: C.
        l2: weight of the penalty, beside the mean loss.
        max_iter: iterations at most.
        tolerance: largest element of the gradient at which it ends.
        check_stop: raises where the run is to stop; on CUDA called in every evaluation.

    Returns:
        The classifier, float64, and whether it converged.
    """
    present, inner = torch.unique(labels, return_inverse=True)
    if len(present) == 1:
        weight = features.new_zeros(1, features.shape[1], dtype=torch.float64)
        bias, converged = weight.new_zeros(1), True
    elif features.is_cuda:
        weight, bias, converged = lbfgs_torch(
            features,
            inner,
            len(present),
            l2=l2,
            max_iter=max_iter,
            tolerance=tolerance,
            check_stop=check_stop,
        )
    else:
        weight, bias, converged = _lbfgs_sklearn(features, inner, l2, max_iter, tolerance)
    whole = weight.new_zeros(classes, weight.shape[1])
    whole[present] = weight
    biases = bias.new_full((classes,), -math.inf)
    biases[present] = bias
    return LinearClassifier(whole, biases), converged


def _lbfgs_sklearn(
    features: Tensor, labels: Tensor, l2: float, max_iter: int, tolerance: float
) -> tuple[Tensor, Tensor, bool]:
    """Weight (C, D), bias (C,) and convergence, all classes being there."""
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    c = 1.0 / (l2 * len(features))
    two = int(labels.max()) == 1
    # of two classes it fits the difference w of the rows, whose penalty would be |w|^2 / 2 here
    model = LogisticRegression(C=2 * c if two else c, max_iter=max_iter, tol=tolerance)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(features.double().numpy(), labels.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if two:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight, bias, not any(issubclass(one.category, ConvergenceWarning) for one in told)


def lbfgs_torch(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    l2: float,
    max_iter: int,
    tolerance: float,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor, bool]:
    """The same by torch's L-BFGS, with the line search of strong Wolfe conditions.

    Returns:
        Weight (C, D), bias (C,), float64, and whether it converged.
    """
    width = features.shape[1]
    # the bias is the last column
    joint = torch.zeros(classes, width + 1, dtype=torch.float64, device=features.device)
    joint.requires_grad_()
    joint.grad = torch.zeros_like(joint)
    optimizer: torch.optim.Optimizer = torch.optim.LBFGS(
        [joint],
        max_iter=max_iter,
        max_eval=2 * max_iter,
        tolerance_grad=tolerance,
        tolerance_change=_LEAST_CHANGE,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def evaluate() -> float:
        """The loss; its gradient is left in `joint.grad`."""
        check_stop()
        weight, bias = joint[:, :width], joint[:, width]
        loss = torch.zeros((), dtype=torch.float64, device=features.device)
        gradient = torch.zeros_like(joint)
        for rows in chunks(len(features), max(classes, width)):
            part, own = features[rows].double(), labels[rows, None]
            logs = functional.linear(part, weight, bias).log_softmax(dim=1)
            loss -= logs.gather(1, own).sum()
            excess = logs.exp_()
            excess.scatter_add_(1, own, torch.full_like(own, -1, dtype=torch.float64))
            gradient[:, :width] += excess.T @ part
            gradient[:, width] += excess.sum(dim=0)
        gradient /= len(features)
        gradient[:, :width] += l2 * weight
        joint.grad = gradient
        return float(loss / len(features) + 0.5 * l2 * weight.square().sum())

    optimizer.step(evaluate)
    state = optimizer.state[joint]
    converged = state["n_iter"] < max_iter and state["func_evals"] < 2 * max_iter
    fitted = joint.detach()
    return fitted[:, :width].contiguous(), fitted[:, width].contiguous(), converged
