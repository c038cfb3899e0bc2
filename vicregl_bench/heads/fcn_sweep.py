"""K FCN heads, each with its auxiliary head, trained on one pass of a frozen backbone.

Source: VICRegL, table 8 (frozen trunk, FCN head), which takes mmsegmentation's FCN-R50-D8: an
`FCNHead` on the last map (two 3x3 convolutions of 512 channels, their output beside their input
through a third, dropout 0.1, 1x1), and an auxiliary `FCNHead` on the map before it (one 3x3 of 256
channels) that counts 0.4 in training and takes no part in evaluation. Both are mmsegmentation's own
modules with its own initialisation. Deviation: BatchNorm is that of one process, where the released
configs have SyncBN over several.

What the heads share is the trunk's pass; convolutions and BatchNorm statistics are each head's own.
They are computed one head after another, so the memory is that of one head's graph, and a head ends
exactly where a run of its own would.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmseg.models.decode_heads import FCNHead
from torch import Tensor, nn

from vicregl_bench.heads.streams import DROPOUT, INITIALISATION, seeded
from vicregl_bench.heads.sweep import Features, HeadSpec, Sweep


@dataclass(frozen=True)
class FcnOptions:
    """Shape of an FCN head.

    Attributes:
        channels: of every convolution but the last 1x1.
        num_convs: 3x3 convolutions, each with BatchNorm and ReLU.
        concat_input: whether one more 3x3 takes the map and their output together.
        dropout: rate of the Dropout2d before the 1x1.
    """

    channels: int
    num_convs: int
    concat_input: bool
    dropout: float


class _Head(FCNHead):  # type: ignore[misc]
    """mmseg's head without its loss, and silent: mmengine prints a line a parameter to stdout."""

    def __init__(
        self, index: int, in_channels: int, num_classes: int, options: FcnOptions, ignore_index: int
    ) -> None:
        super().__init__(
            in_index=index,
            in_channels=in_channels,
            num_classes=num_classes,
            channels=options.channels,
            num_convs=options.num_convs,
            concat_input=options.concat_input,
            dropout_ratio=options.dropout,
            norm_cfg={"type": "BN", "requires_grad": True},
            align_corners=False,
            loss_decode=[],
            ignore_index=ignore_index,
        )

    def _dump_init_info(self) -> None:
        pass


@contextmanager
def _exact_cudnn() -> Iterator[None]:
    """float32 means float32, as in the trunk, and runs repeat exactly; no effect on a CPU."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


class FcnSweep(Sweep):
    """K pairs of a decode head on the first of two maps and an auxiliary head on the second.

    The loss of a head is that of its decode head plus `auxiliary_weight` times that of its
    auxiliary head, each the mean over all pixels of the batch, ignored ones included: mmseg's
    total. A head's weights begin where (run seed, head seed) say, and its dropout in an iteration
    follows from these and the iteration: not from K, the learning rate, or what ran before.

    Args:
        in_channels: D, channels of the first map.
        num_classes: C.
        heads: the K heads.
        decode: shape of the decode heads.
        auxiliary: shape of the auxiliary heads.
        auxiliary_channels: D2, channels of the second map.
        auxiliary_weight: what the auxiliary loss counts.
        run_seed: seed of the whole run.
        ignore_index: label left out of the loss.
        dtype: of parameters and arithmetic, to which maps are converted; float64 for tests.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        heads: Sequence[HeadSpec],
        *,
        decode: FcnOptions,
        auxiliary: FcnOptions,
        auxiliary_channels: int,
        auxiliary_weight: float,
        run_seed: int = 0,
        ignore_index: int = 255,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(num_classes, heads, run_seed=run_seed, ignore_index=ignore_index)
        self.auxiliary_weight = auxiliary_weight
        self.decode_heads, self.auxiliary_heads = nn.ModuleList(), nn.ModuleList()
        for head in self.heads:
            with seeded(torch.device("cpu"), run_seed, head.seed, INITIALISATION):
                pair = (
                    _Head(0, in_channels, num_classes, decode, ignore_index),
                    _Head(1, auxiliary_channels, num_classes, auxiliary, ignore_index),
                )
                for one in pair:
                    one.init_weights()
            self.decode_heads.append(pair[0].to(dtype))
            self.auxiliary_heads.append(pair[1].to(dtype))

    def head_parameters(self, k: int) -> list[nn.Parameter]:
        """Parameters of head k: those of its decode head, then those of its auxiliary head."""
        return [*self.decode_heads[k].parameters(), *self.auxiliary_heads[k].parameters()]

    def accumulate_gradients(self, features: Features, labels: Tensor) -> Tensor:
        """Forward and backward of one training iteration for all heads, one after another.

        See `Sweep.accumulate_gradients`. Advances the running statistics of each head too. The
        gradients of a head that has diverged are None.

        Args:
            features: the two maps, (B, D, h, w) and (B, D2, h2, w2); may have been made in
                inference mode.
            labels: (B, H, W) integer labels.

        Returns:
            (K,) losses, main plus weighted auxiliary.

        Raises:
            ValueError: not two maps.
        """
        if isinstance(features, Tensor) or len(features) != 2:
            count = 1 if isinstance(features, Tensor) else len(features)
            raise ValueError(
                f"an FCN head is trained on two maps, its own and the auxiliary head's; got {count}"
            )
        self.zero_grad(set_to_none=True)
        alive = self._alive()
        parameter = next(self.parameters())
        losses = parameter.new_full((len(self.heads),), float("nan"))
        maps = [self._for_autograd(one, parameter) for one in features]
        for k in alive:
            loss = self._train_head(k, maps, labels)
            losses[k] = loss
            if not torch.isfinite(loss):
                self.diverged_at[k] = self.iteration
                for own in self.head_parameters(k):
                    own.grad = None
        if alive:
            self.iteration += 1
        return losses

    def _train_head(self, k: int, maps: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Loss of head k; leaves its gradients in its parameters."""
        total = maps[0].new_zeros(())
        pairs = ((self.decode_heads[k], 1.0), (self.auxiliary_heads[k], self.auxiliary_weight))
        entropy = (self.run_seed, self.heads[k].seed, DROPOUT, int(self.iteration))
        with seeded(maps[0].device, *entropy), _exact_cudnn():
            for module, weight in pairs:
                module.train()
                with torch.enable_grad():
                    logits: Tensor = module(maps)
                loss, gradient = self._loss_and_gradient(logits.detach(), labels)
                torch.autograd.backward(logits, gradient.mul_(weight))
                total += weight * loss
        return total

    @torch.no_grad()
    def _loss_and_gradient(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of one head over the batch, and its gradient by the logits (B, C, h, w)."""
        loss_of = self._loss_at((logits.shape[-2], logits.shape[-1]), labels)
        losses, gradients = zip(
            *(
                loss_of(one[None], truth, labels.numel())
                for one, truth in zip(logits, labels, strict=True)
            ),
            strict=True,
        )
        return torch.cat(losses).sum(), torch.cat(gradients)

    @staticmethod
    def _for_autograd(features: Tensor, parameter: Tensor) -> Tensor:
        """A map in the arithmetic's dtype that autograd may save; cloned only where it must be."""
        features = features.detach().to(parameter.dtype)
        return features.clone() if features.is_inference() else features

    @torch.no_grad()
    def logits(self, features: Features) -> Tensor:
        """Logits of every decode head on one picture, with its running statistics.

        Args:
            features: (D, h, w) map of one picture, or several of which it is the first; the
                auxiliary heads take no part.

        Returns:
            (K, C, h, w); NaN for a diverged head, which is not computed.
        """
        first = features if isinstance(features, Tensor) else features[0]
        parameter = next(self.parameters())
        maps = [first[None].to(parameter.dtype)]
        size = (len(self.heads), self.num_classes, first.shape[-2], first.shape[-1])
        logits = parameter.new_full(size, float("nan"))
        with _exact_cudnn():
            for k in self._alive():
                module = self.decode_heads[k].eval()
                logits[k] = module(maps)[0]
        return logits
