"""What every sweep is: K heads trained side by side on the maps of one frozen trunk.

Every head is one run of its own: own learning rate, initialisation, dropout stream and (in the
optimiser) momentum. The heads share the maps and the data order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vicregl_bench.heads.dense_cross_entropy import DenseCrossEntropy

Features = Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class HeadSpec:
    """One head of a sweep.

    Attributes:
        lr: learning rate; None of what has none, such as a kNN classifier.
        seed: of its initialisation, dropout and sampling.
        options: what else a grid varies, by name, such as ("warmup.iters", 100).
    """

    lr: float | None
    seed: int
    options: tuple[tuple[str, float | str], ...] = ()


class Heads(nn.Module, ABC):
    """K heads of any kind over shared maps; what runs and records rely on.

    An optimiser built on `param_groups()` steps after every iteration. The state dict, with the
    optimiser's, is all that an exact resume needs: random numbers follow from (run seed, head seed)
    and the iteration alone.

    Args:
        heads: the K heads.
        run_seed: seed of the whole run.

    Attributes:
        iteration: iterations done, a scalar.
        diverged_at: (K,) iteration at which a head ceased to be finite, -1 where it is.
    """

    iteration: Tensor
    diverged_at: Tensor

    def __init__(self, heads: Sequence[HeadSpec], *, run_seed: int = 0) -> None:
        super().__init__()
        self.heads, self.run_seed = tuple(heads), run_seed
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.register_buffer("diverged_at", torch.full((len(self.heads),), -1, dtype=torch.long))

    def param_groups(self) -> list[dict[str, object]]:
        """One optimiser parameter group a head, with its learning rate, in the order of `heads`."""
        return [
            {"params": self.head_parameters(k), "lr": head.lr} for k, head in enumerate(self.heads)
        ]

    @abstractmethod
    def head_parameters(self, k: int) -> list[nn.Parameter]:
        """All parameters of head k, always in the same order.

        Raises:
            IndexError: no head k.
        """

    @torch.no_grad()
    def mark_not_finite(self, logits: Tensor) -> None:
        """Mark the heads whose logits (K, ...) are not finite: their last step broke them.

        In training the next iteration's loss shows it; after the last one there is none.
        """
        broken = ~torch.isfinite(logits).flatten(1).all(dim=1)
        self._mark(broken.nonzero().flatten().tolist())

    def _mark(self, broken: Iterable[int]) -> None:
        """Mark heads that the last iteration broke, unless they had diverged before."""
        for k in broken:
            if self.diverged_at[k] < 0:
                self.diverged_at[k] = self.iteration - 1

    def _alive(self) -> list[int]:
        """Indices of the heads that have not diverged."""
        alive: list[int] = (self.diverged_at < 0).nonzero().flatten().tolist()
        return alive


class Sweep(Heads):
    """K segmentation heads over shared maps.

    One training iteration is `accumulate_gradients`, then a step of the optimiser; a picture is
    evaluated by `logits`. Neither depends on the mode that `train()` and `eval()` set.

    Args:
        num_classes: C.
        heads: the K heads.
        run_seed: seed of the whole run.
        ignore_index: label left out of the loss.
    """

    def __init__(
        self,
        num_classes: int,
        heads: Sequence[HeadSpec],
        *,
        run_seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(heads, run_seed=run_seed)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self._losses: dict[tuple[int, int], DenseCrossEntropy] = {}

    @abstractmethod
    def accumulate_gradients(self, features: Features, labels: Tensor) -> Tensor:
        """Forward and backward of one training iteration for all heads.

        Sets `.grad` of every parameter to the gradient of its head's loss; gradients left from
        before are overwritten. A head whose loss is not finite is marked in `diverged_at` and
        neither computed nor trained any more; the others go on. Advances `iteration`, unless every
        head had diverged before.

        Args:
            features: (B, D, h, w) maps of the trunk, or a sequence of (B, D_i, h_i, w_i); may have
                been made in inference mode.
            labels: (B, H, W) integer labels, in [0, C) or `ignore_index`.

        Returns:
            (K,) losses, each the mean over all pixels of the batch, ignored ones included; not
            finite for a head that diverges now, NaN for one that had before.
        """

    @abstractmethod
    def logits(self, features: Features) -> Tensor:
        """Logits of every head on one picture, in evaluation mode, without gradient.

        Args:
            features: (D, h, w) map of the picture, or a sequence of (D_i, h_i, w_i), as
                `accumulate_gradients` takes them but for the batch.

        Returns:
            (K, C, h, w), at the size of the first map; those of a diverged head mean nothing.
        """

    def _loss_at(self, map_size: tuple[int, int], labels: Tensor) -> DenseCrossEntropy:
        """The loss between logits of that size and labels (..., H, W); kept until H, W change."""
        mask_size = (labels.shape[-2], labels.shape[-1])
        if any(kept.mask_size != mask_size for kept in self._losses.values()):
            self._losses.clear()
        if map_size not in self._losses:
            parameter = next(self.parameters())
            self._losses[map_size] = DenseCrossEntropy(
                map_size,
                mask_size,
                self.num_classes,
                ignore_index=self.ignore_index,
                dtype=parameter.dtype,
                device=parameter.device,
            )
        return self._losses[map_size]
