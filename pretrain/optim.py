"""LARS and the learning-rate schedule of VICReg and VICRegL.

Source: LARS, You et al. 2017; its use here (which tensors adapt, the order of the steps) and the
schedule follow VICReg, section 4.2 and appendix B.1: 10 warm-up epochs, then cosine decay.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pretrain.recipe import OptimizerSection


class LARS(Optimizer):
    """SGD with momentum and a layer-wise learning rate.

    For each tensor: weight decay is added to the gradient, the sum is scaled by
    eta * ||p|| / ||g + wd p|| (by 1 where a norm is zero), the momentum buffer takes it up, and
    p -= lr * buffer. Tensors of one dimension (biases, normalisation) get neither decay nor
    scaling.

    Args:
        params: parameters or parameter groups.
        lr: learning rate; it multiplies the momentum buffer, so a change acts at once.
        momentum: of the buffer.
        weight_decay: of tensors with two or more dimensions.
        eta: trust coefficient.

    Raises:
        ValueError: a negative hyper-parameter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        for name, value in defaults.items():
            if value < 0.0:
                raise ValueError(f"LARS: {name} is {value}, it cannot be negative")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure`, if given, recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if parameter.ndim > 1:
            grad = grad.add(parameter, alpha=group["weight_decay"])
            norm, grad_norm = parameter.norm(), grad.norm()
            ratio = group["eta"] * norm / grad_norm
            grad = grad * torch.where((norm > 0) & (grad_norm > 0), ratio, torch.ones_like(norm))
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(grad)
        parameter.sub_(buffer * group["lr"])


def learning_rate(
    step: int,
    *,
    base_lr: float,
    batch_size: int,
    end_lr_ratio: float,
    total_steps: int,
    warmup_steps: int,
) -> float:
    """Learning rate at a step: linear warm-up from 0, then cosine to a share of the peak.

    Args:
        step: from 0.
        base_lr: for a batch of 256; the peak is base_lr * batch_size / 256.
        batch_size: the global one.
        end_lr_ratio: last rate over peak.
        total_steps: length of the run.
        warmup_steps: length of the warm-up.

    Raises:
        ValueError: a warm-up as long as the run.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"{warmup_steps} warm-up steps do not fit a run of {total_steps}")
    peak = base_lr * batch_size / 256
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    end = peak * end_lr_ratio
    return end + (peak - end) * (1 + math.cos(math.pi * progress)) / 2


def build_optimizer(settings: OptimizerSection, model: nn.Module) -> Optimizer:
    """The optimiser of a recipe, its rate still 0.

    AdamW decays only tensors with two or more dimensions, as LARS does.
    """
    if settings.type == "LARS":
        return LARS(
            model.parameters(),
            lr=0.0,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            eta=settings.eta,
        )
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=0.0, betas=settings.betas)
