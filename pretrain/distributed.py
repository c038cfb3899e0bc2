"""One batch spread over W processes: gathering it, and batch normalisation over all of it.

Training under DistributedDataParallel (DDP) must equal one process that sees the whole batch, in
loss and in parameter gradients. DDP averages the processes' parameter gradients, so that average is
the gradient of the whole batch's loss L exactly where, on every process, an activation x of its own
samples carries the gradient W dL/dx. Everything here keeps to that convention:

- a mean over a process's own samples does so by itself: L is the mean of W such means;
- a loss computed alike on every process from the gathered batch has to return W times the own rows
  of its gradient (`gather`, `own_gradient`);
- batch statistics pass through a sum over processes whose backward is again a sum, without a
  factor: the gradients that reach it are already W times those of L, and it is linear in them.
  torch.nn.SyncBatchNorm does the same.

Every process holds the same number of samples B and makes the same calls in the same order; ranks
order the whole batch. Without a process group, or with one process, every function hands back what
it was given. Nothing here is made to be differentiated twice.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world_size() -> int:
    """Number of processes W; 1 without an initialised process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; 0 without an initialised process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_batch(x: Tensor) -> Tensor:
    """The rows of all processes, (B, ...) -> (W*B, ...) in rank order, without a gradient.

    With one process it is x itself, with x's graph.
    """
    world = world_size()
    if world == 1:
        return x
    whole = x.new_empty((world * x.shape[0], *x.shape[1:]))
    dist.all_gather_into_tensor(whole, x.detach().contiguous())
    return whole


def own_rows(x: Tensor) -> Tensor:
    """This process's rows of a gathered tensor, (W*B, ...) -> (B, ...), a view.

    Raises:
        ValueError: a number of rows that is no multiple of W.
    """
    world = world_size()
    if world == 1:
        return x
    batch, left = divmod(x.shape[0], world)
    if left:
        raise ValueError(f"{x.shape[0]} rows are no batch gathered from {world} processes")
    return x[rank() * batch : (rank() + 1) * batch]


def own_gradient(grad: Tensor) -> Tensor:
    """W times the own rows of a gathered batch's gradient, (W*B, ...) -> (B, ...).

    `grad` is that of a loss computed alike on every process; see the module's text for the factor.
    """
    world = world_size()
    return grad if world == 1 else own_rows(grad) * world


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather_batch(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return own_gradient(grad)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (B, ...) -> (W*B, ...) in rank order, differentiable.

    For losses that every process computes alike, in full, from the gathered batch. The backward
    pass communicates nothing: it returns the own rows of the gradient times W, which DDP's average
    turns into the gradient of that one loss. A loss that differs between processes (a mean over own
    rows against gathered ones) breaks this: part of its gradient would be lost.
    """
    if world_size() == 1:
        return x
    whole: Tensor = _Gather.apply(x)
    return whole


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean of x over processes, of x's shape, detached: for values that are logged."""
    world = world_size()
    if world == 1:
        return x.detach()
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / world


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class AllReduceBatchNorm(_BatchNorm):
    """Batch normalisation over the batch of all processes, on any device.

    Stands in for torch.nn.SyncBatchNorm, which refuses tensors on the CPU. Options, state-dict keys
    and running statistics are those of nn.BatchNorm1d and nn.BatchNorm2d. The variance is the mean
    of squares centred on the mean of all processes (two passes: no difference of large sums), in
    single precision for half-precision inputs. In evaluation, and with one process, it is the plain
    one. Source: Ioffe and Szegedy 2015, Algorithm 1.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input has shape {tuple(input.shape)}: (B, C, ...) is needed")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) in each channel.

        Raises:
            ValueError: fewer than two dimensions.
        """
        self._check_input_dim(input)
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        axes = [axis for axis in range(x.dim()) if axis != 1]
        channels = (1, -1, *(1 for _ in range(x.dim() - 2)))
        own = x.new_full((1,), x.numel() // x.shape[1])
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(axes), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(channels)
        squares: Tensor = _SumOverProcesses.apply(centred.square().sum(axes))
        variance = squares / count
        self._track(mean.detach(), (squares / (count - 1)).detach())
        y = centred * (variance + self.eps).rsqrt().view(channels)
        if self.affine:
            y = y * self.weight.view(channels) + self.bias.view(channels)
        return y.to(input.dtype)

    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Update the running statistics; without momentum they are averages of all batches."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        share = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), share)


def synchronise_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch normalisation of a model run over the batch of all processes.

    Call it before DDP wraps the model. Parameters and buffers stay the same objects under the same
    names. With one process the model is unchanged.

    Args:
        model: changed in place.
        device: where the model runs: torch.nn.SyncBatchNorm on CUDA, else `AllReduceBatchNorm`.

    Returns:
        The model, or its replacement where it is itself a batch normalisation.
    """
    if world_size() == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    return _replace(model)


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        replacement = AllReduceBatchNorm(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        for name, parameter in module.named_parameters(recurse=False):
            setattr(replacement, name, parameter)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(replacement, name, buffer)
        return replacement.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module


def union_over_processes(names: set[str]) -> set[str]:
    """The names that any process has; cheap where none has any."""
    if world_size() == 1:
        return names
    if float(mean_over_processes(_flag(bool(names)))) == 0.0:
        return names
    found: list[list[str]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(found, sorted(names))
    return {name for part in found for name in part}


def from_first_process(value: str | None) -> str | None:
    """What the first process has."""
    if world_size() == 1:
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def _flag(value: bool) -> Tensor:
    on_gpu = torch.distributed.get_backend() == "nccl"
    return torch.tensor(float(value), device="cuda" if on_gpu else "cpu")
