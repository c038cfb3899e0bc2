"""K linear classifiers of whole pictures trained at once on one pass of a frozen backbone.

Every head is one run of its own (see `sweep`). They share the pooled features and the data order;
heads may read different inputs, such as the features of several layers. Sources: VICRegL, appendix
D.1 (a linear layer over a grid of learning rates); weights from N(0, 0.01) and a zero bias are
those of VICReg's evaluate.py, the BatchNorm without scale and shift is MAE's (appendix A.1).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicregl_bench.heads.streams import INITIALISATION, stream_generator
from vicregl_bench.heads.sweep import Heads, HeadSpec


class ClassifierSweep(Heads):
    """K heads: [BatchNorm1d without scale and shift,] linear layer, cross-entropy.

    One training iteration is `accumulate_gradients`, then a step of the optimiser; `logits`
    evaluates. Neither depends on the mode that `train()` and `eval()` set. All heads of one input
    are one matrix product. Gradients are written by hand, so features made in inference mode will
    do. The initialisation of a head follows from (run seed, head seed) alone: not from K, its
    input's name or its learning rate.

    Args:
        widths: D of every input, by name.
        num_classes: C.
        heads: the K heads.
        inputs: (K,) name of the input that each head reads.
        run_seed: seed of the whole run.
        batch_norm: normalise each input before the linear layer, as `nn.BatchNorm1d(affine=False)`
            does; its statistics are the same for all heads of the input.
        eps: of that normalisation; torch's default is 1e-5, MAE has 1e-6.
        momentum: of its running statistics, torch's default.
        init_std: standard deviation of the weights' normal initialisation.
        dtype: of parameters and arithmetic; float64 for tests.

    Attributes:
        running_mean: mean of every input's features, inputs one after the other in the order of
            `widths`; with `batch_norm` only.
        running_var: their variance, likewise.

    Raises:
        ValueError: `inputs` has another length than `heads`, or a name that `widths` lacks.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        num_classes: int,
        heads: Sequence[HeadSpec],
        inputs: Sequence[str],
        *,
        run_seed: int = 0,
        batch_norm: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        init_std: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(heads, run_seed=run_seed)
        if len(inputs) != len(self.heads):
            raise ValueError(f"{len(self.heads)} heads, but inputs of {len(inputs)}")
        unknown = sorted(set(inputs) - set(widths))
        if unknown:
            raise ValueError(f"no width of the input {unknown[0]!r}: {', '.join(widths)} have one")
        self.widths, self.inputs, self.num_classes = dict(widths), tuple(inputs), num_classes
        self.batch_norm, self.eps, self.momentum = batch_norm, eps, momentum
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for head, name in zip(self.heads, self.inputs, strict=True):
            generator = stream_generator(run_seed, head.seed, INITIALISATION)
            weight = torch.empty(num_classes, self.widths[name], dtype=torch.float32)
            weight.normal_(0.0, init_std, generator=generator)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(num_classes, dtype=dtype)))
        if batch_norm:
            total = sum(self.widths.values())
            self.register_buffer("running_mean", torch.zeros(total, dtype=dtype))
            self.register_buffer("running_var", torch.ones(total, dtype=dtype))

    def head_parameters(self, k: int) -> list[nn.Parameter]:
        """Parameters of head k: weight (C, D of its input) and bias (C,)."""
        return [self.weights[k], self.biases[k]]

    @torch.no_grad()
    def accumulate_gradients(self, features: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Forward and backward of one training iteration for all heads.

        Sets `.grad` of every parameter to the gradient of its head's loss; gradients left from
        before are overwritten. A head whose loss is not finite is marked in `diverged_at`, left
        without gradient, and neither computed nor trained any more; the others go on. Advances
        `iteration`, unless every head had diverged before, and the running statistics of the inputs
        that are still read.

        Args:
            features: (B, D) pooled features of every input that is read, by name; may have been
                made in inference mode, and of any floating type. B is at least 2 with `batch_norm`.
            labels: (B,) integer labels in [0, C).

        Returns:
            (K,) losses, each the mean over the batch; not finite for a head that diverges now, NaN
            for one that had before.
        """
        alive = self._alive()
        all_losses: Tensor = self.biases[0].new_full((len(self.heads),), float("nan"))
        if not alive:
            return all_losses
        for name, readers in self._by_input(alive):
            x = self._normalised(name, self._given(features, name), training=True)
            losses, gradient = self._loss_and_gradient(self._product(x, readers), labels)
            flat = gradient.flatten(1)
            grad_weight = (flat.T @ x).view(len(readers), self.num_classes, -1)
            grad_bias = flat.sum(dim=0).view(len(readers), self.num_classes)
            all_losses[readers] = losses
            finite = torch.isfinite(losses).tolist()
            for i, k in enumerate(readers):
                if not finite[i]:
                    self.diverged_at[k] = self.iteration
                self.weights[k].grad = grad_weight[i] if finite[i] else None
                self.biases[k].grad = grad_bias[i] if finite[i] else None
        self.iteration += 1
        return all_losses

    @torch.no_grad()
    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits of every head, in evaluation mode, without gradient.

        Args:
            features: (B, D) pooled features, as `accumulate_gradients` takes them.

        Returns:
            (K, B, C), in the type of the parameters (float32); those of a diverged head mean
            nothing.
        """
        bias = self.biases[0]
        batch = len(next(iter(features.values())))
        result: Tensor = bias.new_empty((len(self.heads), batch, self.num_classes))
        for name, readers in self._by_input(range(len(self.heads))):
            x = self._normalised(name, self._given(features, name), training=False)
            result[readers] = self._product(x, readers).transpose(0, 1)
        return result

    def _by_input(self, heads: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """The inputs that any of these heads reads, each with its readers."""
        for name in self.widths:
            readers = [k for k in heads if self.inputs[k] == name]
            if readers:
                yield name, readers

    def _given(self, features: Mapping[str, Tensor], name: str) -> Tensor:
        return features[name].to(self.biases[0].dtype)

    def _normalised(self, name: str, x: Tensor, *, training: bool) -> Tensor:
        """The input as heads see it: (B, D); in training with the statistics of the batch."""
        if not self.batch_norm:
            return x
        mean, var = (  # views: training updates them in place
            torch.split(statistics, list(self.widths.values()))[list(self.widths).index(name)]
            for statistics in (self.running_mean, self.running_var)
        )
        return F.batch_norm(
            x,
            mean,
            var,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def _product(self, x: Tensor, heads: Sequence[int]) -> Tensor:
        """Logits (B, heads, C) of heads that read the same input (B, D)."""
        weight = torch.cat([self.weights[k] for k in heads])
        bias = torch.cat([self.biases[k] for k in heads])
        return F.linear(x, weight, bias).view(len(x), len(heads), self.num_classes)

    @staticmethod
    def _loss_and_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (heads,) of logits (B, heads, C), and its gradient like the logits."""
        log_share = F.log_softmax(logits, dim=2)
        index = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
        losses = -log_share.gather(2, index).squeeze(2).mean(dim=0)
        gradient = log_share.exp_()
        gradient.scatter_add_(2, index, gradient.new_full((), -1.0).expand(index.shape))
        return losses, gradient.div_(len(labels))
