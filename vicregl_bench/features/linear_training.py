"""A linear classifier trained on minibatches of feature vectors, by SGD or AdamW.

Minimises the mean cross-entropy of `x W^T + b`; the optimiser's weight decay is on W and b alike.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vicregl_bench.features.linear_classifier import LinearClassifier


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
    check_stop: Callable[[], None] = lambda: None,
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
