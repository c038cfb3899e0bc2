"""BatchNorm's statistics for test, over many training batches instead of a moving average.

Wu and Johnson 2021 ("Rethinking 'Batch' in BatchNorm", section 3), on in MoCo's detection configs
(`TEST.PRECISE_BN`, detectron2's default of 200 batches). mmengine and mmdet have none.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vicregl_bench.errors import ConfigError


class _Moments:
    """Count, mean and sum of squared differences of all values seen, by channel, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def see(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of a BatchNorm: add its input (N, C, ...)."""
        x = args[0].detach()
        count = x.numel() // max(x.shape[1], 1)
        if not module.training or not count:
            return
        rest = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x.float(), dim=rest, correction=0)
        self._merge(count, mean.double(), variance.double() * count)

    def _merge(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        apart = mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.squares = self.squares + squares + apart.square() * (self.count * count / total)
        self.count = total

    def over_processes(self, like: Tensor) -> tuple[int, Tensor, Tensor]:
        """Count, mean and sum of squared differences over all processes; `like` is (C,)."""
        zeros = torch.zeros_like(like, dtype=torch.float64)
        mean = zeros if self.mean is None else self.mean
        squares = zeros if self.squares is None else self.squares
        sums = torch.stack([torch.full_like(zeros, self.count), mean * self.count])
        all_reduce(sums)
        count = int(sums[0, 0])
        if not count:
            return 0, zeros, zeros
        overall = sums[1] / count
        spread = squares + (mean - overall).square() * self.count
        all_reduce(spread)
        return count, overall, spread


def precise_bn(
    model: Any,
    loader: Iterable[Any],
    iterations: int,
    *,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Set the running statistics of every BatchNorm to those of many training batches.

    Batches run as in training, so each is normalised by its own statistics. Of a layer's inputs in
    all of them, n_b values of mean m_b and (biased) variance v_b in batch b and N in all,

        mean = sum_b n_b m_b / N
        var  = (sum_b n_b v_b + sum_b n_b (m_b - mean)^2) / (N - 1)

    which are mean and unbiased variance over all values at once: what BatchNorm would keep of one
    batch that holds them all. So are they where a layer runs several times, or on several
    processes. It is fvcore's `update_bn_stats`, batches weighted by their size; deviation: that
    divides by N. (detectron2 of MoCo's time averaged means and variances of the batches, which
    lacks the second sum.)

    Nothing else changes: neither parameters, gradients, nor the other buffers, nor any module's
    mode, nor torch's random numbers. A layer whose own mode is evaluation while the model's is
    training (a frozen one), keeps no statistics or sees no batch, stays as it is.

    Args:
        model: of mmengine, not wrapped for distributed training.
        loader: of training batches, collated but not preprocessed.
        iterations: batches to run.
        report: told after every batch how many are done.

    Returns:
        Number of layers set.

    Raises:
        ConfigError: `iterations` is not positive, or the loader has fewer batches.
    """
    if iterations < 1:
        raise ConfigError(f"precise BN over {iterations} batches; use at least 1")
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    layers = {
        module: _Moments()
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    }
    handles = [layer.register_forward_pre_hook(seen.see) for layer, seen in layers.items()]
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            _run(model, loader, iterations, report)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    return sum(_set(layer, seen) for layer, seen in layers.items())


def _run(model: Any, loader: Iterable[Any], iterations: int, report: Callable[[int], None]) -> None:
    done = 0
    for batch in loader:
        model(**model.data_preprocessor(batch, True), mode="loss")
        done += 1
        report(done)
        if done == iterations:
            return
    raise ConfigError(
        f"precise BN wants {iterations} batches and the training data ended after {done}; "
        "ask for fewer"
    )


@torch.no_grad()
def _set(layer: _BatchNorm, seen: _Moments) -> bool:
    """Whether there was anything to set."""
    assert layer.running_mean is not None and layer.running_var is not None
    count, mean, squares = seen.over_processes(layer.running_mean)
    if not count:
        return False
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(squares / max(count - 1, 1))
    return True
