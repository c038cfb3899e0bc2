"""Linear classifiers on feature tensors: softmax regression by L-BFGS, and by SGD or AdamW.

Both minimise the mean cross-entropy of `x W^T + b` over N training vectors. L-BFGS adds
`l2 / 2 * |W|^2` (no penalty on b) and has one optimum: scikit-learn's `C` is `1 / (l2 * N)`. CLIP
(2103.00020, appendix A.3) and DINOv2 (2304.07193, its released `log_regression.py`) weigh the
penalty against the sum over N; against the mean, one grid suits data sets of any size.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Scaling = Literal["none", "standardize", "normalize"]
_CHUNK = 2**25  # elements at a time: 256 MiB of float64
# Stored features have 11 significant bits: a channel that varies by less is constant but for them.
_ROUNDING = 2.0**-10
_HISTORY = 10  # corrections that L-BFGS keeps; scipy's, which scikit-learn uses
_LEAST_CHANGE = 64 * torch.finfo(torch.float64).eps  # of the loss; scikit-learn's


def _nothing() -> None:
    """Never stop."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """What is done to vectors before a classifier sees them.

    Attributes:
        how: "none"; "standardize": every channel has mean 0 and standard deviation 1 over the
            training vectors (a channel that is constant there becomes 0); "normalize": every vector
            has length 1.
        mean: (D,) float64, of "standardize".
        factor: (D,) float64, of "standardize".
    """

    how: Scaling
    mean: Tensor | None = None
    factor: Tensor | None = None

    @classmethod
    def fit(cls, features: Tensor, how: Scaling) -> "Scaler":
        """What training vectors (N, D) decide."""
        if how != "standardize":
            return cls(how)
        mean = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
        square = torch.zeros_like(mean)
        for rows in _chunks(len(features), features.shape[1]):
            mean += features[rows].double().sum(dim=0) / len(features)
        for rows in _chunks(len(features), features.shape[1]):
            square += (features[rows].double() - mean).square().sum(dim=0) / len(features)
        std = square.sqrt()
        varies = std > _ROUNDING * mean.abs()
        return cls(how, mean, torch.where(varies, 1.0 / std, 0.0))

    def __call__(self, features: Tensor) -> Tensor:
        """The vectors (N, D) scaled, float32."""
        if self.how == "none":
            return features
        scaled = torch.empty_like(features)
        for rows in _chunks(len(features), features.shape[1]):
            part = features[rows].double()
            if self.mean is None or self.factor is None:
                part = functional.normalize(part, dim=1, eps=torch.finfo(torch.float64).tiny)
            else:
                part = (part - self.mean.to(part.device)) * self.factor.to(part.device)
            scaled[rows] = part
        return scaled


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Logits `x W^T + b`.

    Attributes:
        weight: (C, D).
        bias: (C,); -inf for a class that training had none of.
    """

    weight: Tensor
    bias: Tensor

    def ranks(self, features: Tensor, labels: Tensor) -> Tensor:
        """Ranks (N,) of the true classes (N,) of vectors (N, D), 0 for the highest logit.

        Of equal logits the true class's counts as the lowest, and NaN as the highest of all but
        one's own: what overflows is never right.
        """
        ranks = torch.empty(len(features), dtype=torch.long)
        for rows in _chunks(len(features), max(self.weight.shape)):
            part = features[rows].to(self.weight)
            logits = functional.linear(part, self.weight, self.bias)
            own = logits.gather(1, labels[rows].to(logits.device)[:, None])
            ranks[rows] = (~(logits < own)).sum(dim=1).sub(1).cpu()
        return ranks


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    l2: float,
    max_iter: int,
    tolerance: float,
    check_stop: Callable[[], None] = _nothing,
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
    check_stop: Callable[[], None] = _nothing,
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
        for rows in _chunks(len(features), max(classes, width)):
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


@dataclass(frozen=True)
class Recipe:
    """How one linear classifier is trained on minibatches.

    Attributes:
        optimizer: torch's SGD, or AdamW with betas 0.9 and 0.999; `weight_decay` is of both, and of
            weight and bias alike.
        momentum: of SGD.
        schedule: "cosine" falls to 0 over all iterations; "step" has a tenth of the rate after each
            third of the epochs, rounded up (torch's StepLR with its own gamma).
        epochs: passes over the training vectors, the last batch of each being what is left.
        init_std: of the normal distribution that the weights begin with; biases are 0.
    """

    optimizer: Literal["SGD", "AdamW"]
    lr: float
    weight_decay: float
    schedule: Literal["cosine", "step"]
    epochs: int
    batch_size: int
    momentum: float = 0.9
    init_std: float = 0.01

    def factor(self, iteration: int, per_epoch: int) -> float:
        """What the learning rate is multiplied by in an iteration, counted from 0."""
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * iteration / (self.epochs * per_epoch)))
        third = math.ceil(self.epochs / 3)
        return float(0.1 ** (iteration // per_epoch // third))


def train_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    recipe: Recipe,
    *,
    run_seed: int,
    seed: int,
    check_stop: Callable[[], None] = _nothing,
) -> LinearClassifier | None:
    """One linear classifier by minibatches, on the device of its vectors.

    Initialisation and order follow from the seeds alone (drawn on the CPU): whatever else is
    trained, before or beside it, changes nothing.

    Args:
        features: (N, D) float32.
        labels: (N,) in [0, `classes`).
        classes: C.
        recipe: of the training.
        run_seed: of the whole run.
        seed: of this classifier.
        check_stop: called before every epoch; raises where the run is to stop.

    Returns:
        The classifier, float32, or None where training diverged.
    """
    device = features.device
    draw = seeded_generator(run_seed, seed)
    weight = recipe.init_std * torch.randn(classes, features.shape[1], generator=draw)
    weight = weight.to(device).requires_grad_()
    bias = torch.zeros(classes, device=device, requires_grad=True)
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "SGD":
        optimizer = torch.optim.SGD(
            [weight, bias],
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    else:
        optimizer = torch.optim.AdamW(
            [weight, bias], lr=recipe.lr, weight_decay=recipe.weight_decay
        )
    labels = labels.to(device)
    per_epoch = math.ceil(len(features) / recipe.batch_size)
    iteration = 0
    with torch.enable_grad():
        for _ in range(recipe.epochs):
            check_stop()
            order = torch.randperm(len(features), generator=draw).to(device)
            for chosen in torch.split(order, recipe.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * recipe.factor(iteration, per_epoch)
                logits = functional.linear(features[chosen], weight, bias)
                optimizer.zero_grad()
                torch.autograd.backward(functional.cross_entropy(logits, labels[chosen]))
                optimizer.step()
                iteration += 1
            if not (weight.isfinite().all() and bias.isfinite().all()):
                return None
    return LinearClassifier(weight.detach(), bias.detach())


def seeded_generator(run_seed: int, seed: int) -> torch.Generator:
    """Random numbers of one classifier of one run, on the CPU."""
    digest = hashlib.sha256(f"linear probe:{run_seed}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices over rows of so many elements each."""
    step = max(1, _CHUNK // width)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
