"""K linear segmentation heads trained at once on one pass of a frozen backbone.

Every head is one run of its own (see `sweep`). They share the features, the data order and, where
there is a BatchNorm, its statistics, which depend on frozen features only. Source: VICRegL,
appendix D.2 (1x1 linear head over a grid of learning rates, mean of three runs with random heads;
of ConvNeXts and ViTs over the concatenation of four maps); the BatchNorm and dropout before the 1x1
are those of the released configs.

Maps of several sizes are never concatenated. A 1x1 convolution and bilinear upsampling commute, so
each map meets its part of the weights at its own size, and what is upsampled to the size of the
first map are logits. BatchNorm's statistics are those of the upsampled maps: their mean and second
moment are quadratic forms of the small maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vicregl_bench.heads.interpolation import resize_matrix
from vicregl_bench.heads.streams import DROPOUT, INITIALISATION, stream_generator
from vicregl_bench.heads.sweep import Features, HeadSpec, Sweep


@dataclass(frozen=True)
class _Map:
    """One of the maps of a batch, its pixels in rows, and the way to the size of the first map.

    Attributes:
        pixels: (B, h * w, D).
        size: (h, w).
        vertical: (H, h) matrix of the upsampling, None where the size is the first map's.
        horizontal: (W, w) matrix, likewise.
    """

    pixels: Tensor
    size: tuple[int, int]
    vertical: Tensor | None = None
    horizontal: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor, target: tuple[int, int]) -> "_Map":
        """Take a batch of maps (B, D, h, w) to be upsampled to the target size."""
        batch, channels, h, w = features.shape
        pixels = features.permute(0, 2, 3, 1).reshape(batch, h * w, channels)
        if (h, w) == target:
            return cls(pixels, (h, w))
        dtype, device = features.dtype, features.device
        return cls(
            pixels,
            (h, w),
            resize_matrix(h, target[0], dtype=dtype, device=device),
            resize_matrix(w, target[1], dtype=dtype, device=device),
        )

    def upsample(self, logits: Tensor) -> Tensor:
        """(N, h * w) at this map's size to (N, H * W)."""
        if self.vertical is None or self.horizontal is None:
            return logits
        wide = logits.view(-1, *self.size) @ self.horizontal.T
        return torch.matmul(self.vertical, wide).flatten(1)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Transpose of `upsample`."""
        if self.vertical is None or self.horizontal is None:
            return gradient
        tall = gradient.view(-1, self.vertical.shape[0], self.horizontal.shape[0])
        return torch.matmul(self.vertical.T, tall @ self.horizontal).flatten(1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (D,) over the pixels of the upsampled maps of the batch."""
        if self.vertical is None or self.horizontal is None:
            var, mean = torch.var_mean(self.pixels, dim=(0, 1), correction=0)
            return mean, var
        (height, _), (width, _) = self.vertical.shape, self.horizontal.shape
        rows, columns = self.vertical.sum(0) / height, self.horizontal.sum(0) / width
        share = torch.outer(rows, columns).flatten()
        mean = torch.einsum("bpd,p->d", self.pixels, share) / len(self.pixels)
        centred = (self.pixels - mean).view(len(self.pixels), *self.size, -1)
        across = torch.einsum("bijd,jk->bikd", centred, self.horizontal.T @ self.horizontal / width)
        both = torch.einsum("bikd,il->blkd", across, self.vertical.T @ self.vertical / height)
        return mean, (centred * both).sum(dim=(0, 1, 2)) / len(self.pixels)


def _product(offset: Tensor, weight: Tensor, maps: Sequence[_Map], b: int) -> Tensor:
    """Logits (K * C, H * W) of picture b: offset (K, C), weight (K, C, all channels)."""
    widths = [one.pixels.shape[2] for one in maps]
    parts = torch.split(weight.flatten(0, 1), widths, dim=1)
    first, *rest = zip(maps, parts, strict=True)
    logits = torch.addmm(offset.reshape(-1, 1), first[1], first[0].pixels[b].T)
    for one, part in rest:
        logits += one.upsample(part @ one.pixels[b].T)
    return logits


class LinearSweep(Sweep):
    """K heads: [BatchNorm, Dropout2d,] 1x1 convolution, bilinear upsampling, cross-entropy.

    Gradients are written by hand (`accumulate_gradients`), so features made in inference mode will
    do. The initialisation and the dropout masks of a head follow from (run seed, head seed) and the
    iteration alone: not from K, not from the learning rate, not from what ran before.

    Args:
        in_channels: D, channels of the feature map, or of all maps together.
        num_classes: C.
        heads: the K heads.
        run_seed: seed of the whole run.
        batch_norm: an affine BatchNorm before the 1x1 (eps 1e-5, momentum 0.1, torch's defaults).
        dropout: rate of the Dropout2d between BatchNorm and 1x1.
        init_std: standard deviation of the 1x1's normal initialisation; mmsegmentation's
            `conv_seg` has 0.01, and a zero bias.
        ignore_index: label left out of the loss.
        dtype: of parameters and arithmetic; float64 for tests.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        heads: Sequence[HeadSpec],
        *,
        run_seed: int = 0,
        batch_norm: bool = False,
        dropout: float = 0.0,
        init_std: float = 0.01,
        ignore_index: int = 255,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(num_classes, heads, run_seed=run_seed, ignore_index=ignore_index)
        self.in_channels, self.batch_norm, self.dropout = in_channels, batch_norm, dropout
        self.eps, self.momentum = 1e-5, 0.1
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.gammas, self.betas = nn.ParameterList(), nn.ParameterList()
        for head in self.heads:
            generator = stream_generator(run_seed, head.seed, INITIALISATION)
            weight = torch.empty(num_classes, in_channels, dtype=torch.float32)
            weight.normal_(0.0, init_std, generator=generator)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(num_classes, dtype=dtype)))
            if batch_norm:
                self.gammas.append(nn.Parameter(torch.ones(in_channels, dtype=dtype)))
                self.betas.append(nn.Parameter(torch.zeros(in_channels, dtype=dtype)))
        if batch_norm:
            self.register_buffer("running_mean", torch.zeros(in_channels, dtype=dtype))
            self.register_buffer("running_var", torch.ones(in_channels, dtype=dtype))

    def head_parameters(self, k: int) -> list[nn.Parameter]:
        """Parameters of head k: weight (C, D), bias (C,), and gamma and beta (D,) if normalised."""
        lists = [self.weights, self.biases] + ([self.gammas, self.betas] if self.batch_norm else [])
        return [parameters[k] for parameters in lists]

    def _dropout_masks(self, batch: int, alive: Sequence[int]) -> Tensor | None:
        """(heads, B, D) masks of this iteration, 0 or 1 / (1 - rate), or None without dropout."""
        if self.dropout == 0.0:
            return None
        heads = [self.heads[k] for k in alive]
        drawn: dict[int, Tensor] = {}
        for head in heads:
            if head.seed not in drawn:
                generator = stream_generator(self.run_seed, head.seed, DROPOUT, int(self.iteration))
                uniform = torch.rand(batch, self.in_channels, generator=generator)
                drawn[head.seed] = (uniform >= self.dropout).float().div_(1.0 - self.dropout)
        weight = self.weights[0]
        return torch.stack([drawn[h.seed] for h in heads]).to(weight.device, weight.dtype)

    def _normalise(self, maps: Sequence[_Map]) -> list[_Map]:
        """Normalise with the statistics of the batch, and update the running ones."""
        moments = [one.moments() for one in maps]
        mean, var = (torch.cat(parts) for parts in zip(*moments, strict=True))
        count = maps[0].pixels.shape[0] * maps[0].pixels.shape[1]
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        return [
            replace(one, pixels=(one.pixels - mean).mul_(torch.rsqrt(var + self.eps)))
            for one, (mean, var) in zip(maps, moments, strict=True)
        ]

    @torch.no_grad()
    def accumulate_gradients(self, features: Features, labels: Tensor) -> Tensor:
        """Forward and backward of one training iteration for all heads.

        Sets `.grad` of every parameter to the gradient of its head's mean loss. A head whose loss
        is not finite is marked in `diverged_at` and neither computed nor trained any more; the
        others go on. Advances `iteration` and the running statistics. Gradients left from before
        are overwritten.

        Args:
            features: (B, D, h, w) feature maps, or several (B, D_i, h_i, w_i) that stand for their
                concatenation at the size of the first; may have been made in inference mode.
            labels: (B, H, W) integer labels.

        Returns:
            (K,) losses, each the mean over all pixels of the batch; NaN for a diverged head.
        """
        given = (features,) if isinstance(features, Tensor) else tuple(features)
        batch, h, w = given[0].shape[0], *given[0].shape[-2:]
        alive = self._alive()
        heads, classes = len(alive), self.num_classes
        loss_of = self._loss_at((h, w), labels)
        maps = [_Map.of(one, (h, w)) for one in given]
        if self.batch_norm:
            maps = self._normalise(maps)
        all_losses: Tensor = self.weights[0].new_full((len(self.heads),), float("nan"))
        if not alive:
            return all_losses
        weight, bias = self._stack(self.weights, alive), self._stack(self.biases, alive)
        gamma = self._stack(self.gammas, alive) if self.batch_norm else None
        beta = self._stack(self.betas, alive) if self.batch_norm else None
        masks = self._dropout_masks(batch, alive)

        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        grad_gamma = torch.zeros_like(gamma) if gamma is not None else None
        grad_beta = torch.zeros_like(beta) if beta is not None else None
        losses = weight.new_zeros(heads)
        for b in range(batch):
            # head k sees scale_k * x + shift_k, so its logits are one product with folded weights
            mask = masks[:, b] if masks is not None else None
            scale = mask if gamma is None else gamma if mask is None else gamma * mask
            shift = None if beta is None else beta if mask is None else beta * mask
            folded = weight if scale is None else weight * scale[:, None, :]
            offset = bias if shift is None else bias + torch.einsum("kcd,kd->kc", weight, shift)
            logits = _product(offset, folded, maps, b)
            loss, grad = loss_of(logits.view(heads, classes, h, w), labels[b], labels.numel())
            losses += loss
            flat = grad.view(heads * classes, h * w)
            parts = [one.adjoint(flat) @ one.pixels[b] for one in maps]
            through = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            through = through.view(heads, classes, -1)
            summed = flat.sum(dim=1).view(heads, classes)
            grad_bias += summed
            if scale is None:
                grad_weight += through
            else:
                grad_weight.addcmul_(through, scale[:, None, :])
            if shift is not None:
                grad_weight.addcmul_(summed[:, :, None], shift[:, None, :])
            if grad_gamma is not None and grad_beta is not None:
                by_scale = torch.einsum("kcd,kcd->kd", weight, through)
                by_shift = torch.einsum("kcd,kc->kd", weight, summed)
                grad_gamma += by_scale if mask is None else by_scale * mask
                grad_beta += by_shift if mask is None else by_shift * mask
        for i, k in enumerate(alive):
            if not torch.isfinite(losses[i]):
                self.diverged_at[k] = self.iteration
                continue
            grads = [grad_weight, grad_bias, grad_gamma, grad_beta]
            of_head = [grad[i] for grad in grads if grad is not None]
            for parameter, grad in zip(self.head_parameters(k), of_head, strict=True):
                parameter.grad = grad
        all_losses[alive] = losses
        self.iteration += 1
        return all_losses

    @staticmethod
    def _stack(parameters: nn.ParameterList, heads: Sequence[int]) -> Tensor:
        return torch.stack([parameters[k] for k in heads])

    @torch.no_grad()
    def logits(self, features: Features) -> Tensor:
        """Logits of every head at the resolution of the map, in evaluation mode.

        Args:
            features: (D, h, w) map of one picture, or several (D_i, h_i, w_i) that stand for their
                concatenation at the size of the first.

        Returns:
            (K, C, h, w).
        """
        given = (features,) if isinstance(features, Tensor) else tuple(features)
        size = (given[0].shape[-2], given[0].shape[-1])
        maps = [_Map.of(one[None], size) for one in given]
        weight, offset = torch.stack(list(self.weights)), torch.stack(list(self.biases))
        if self.batch_norm:
            inverse = torch.rsqrt(self.running_var + self.eps)
            scale = torch.stack(list(self.gammas)) * inverse
            shift = torch.stack(list(self.betas)) - self.running_mean * scale
            offset = offset + torch.einsum("kcd,kd->kc", weight, shift)
            weight = weight * scale[:, None, :]
        product = _product(offset, weight, maps, 0)
        return product.view(len(self.heads), self.num_classes, *size)
