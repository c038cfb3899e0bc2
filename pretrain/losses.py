"""The VICRegL criterion, in the paper's reading and in that of the released code.

Source: VICRegL, equations (1) to (5) and Algorithm 1. The paper's equations, its pseudocode and the
released implementation disagree in places, so there are two presets, each choice stated here:

| | `paper` | `released` |
|---|---|---|
| a local term, views i and j | i -> j plus j -> i (Eq. 4) | their mean |
| variance, covariance of two sides | summed (Algorithm 1) | averaged |
| pairs kept by the feature term | the gamma nearest in embedding space | all |
| gamma | by the size of the view whose cells are kept | first number i -> j, second j -> i |
| global variance, covariance | of a pair's two views, summed; mean over pairs | mean over views |

In both: pairs are ordered, (i, j) with i one of the two large views and j any other view, and
averaged; local statistics run over the batch for each kept slot, slots in raster order, and are
averaged over slots; invariance is a mean over all elements. Under `paper`, alpha = 1 is VICReg and
two views are Eq. 4; under `released` variance and covariance weigh half of VICReg's.

Over several processes the value is that of the whole batch, and DistributedDataParallel's average
of the gradients is its gradient: variance and covariance run over the gathered vectors, the
invariance, a mean over samples, over a process's own, and its value is averaged over processes.
Matching is a matter of each picture and stays local. See `pretrain.distributed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretrain.distributed import gather_batch, mean_over_processes, own_gradient
from pretrain.matching import (
    LARGE_VIEWS,
    Matches,
    keep_best,
    location_distances,
    nearest,
    ordered_pairs,
    squared_distances,
    take_cells,
)
from pretrain.vicreg_terms import invariance, regularise

Preset = Literal["paper", "released"]
TERMS = (
    "global_invariance",
    "global_variance",
    "global_covariance",
    "local_invariance",
    "local_variance",
    "local_covariance",
)


@dataclass(frozen=True)
class VICRegLTerms:
    """The criterion and its parts, coefficients applied.

    `total` = alpha * (global parts) + (1 - alpha) * (local parts) carries the gradient; the parts
    are detached, for logs.
    """

    global_invariance: Tensor
    global_variance: Tensor
    global_covariance: Tensor
    local_invariance: Tensor
    local_variance: Tensor
    local_covariance: Tensor
    total: Tensor


def used_features(
    alpha: float, matching: Sequence[str], embeddings: Sequence[Tensor], maps: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The embeddings and maps that a criterion uses; a branch of weight 0 has none.

    Raises:
        ValueError: fewer than two views of what is used.
    """
    used = embeddings if alpha > 0.0 else (), maps if alpha < 1.0 and matching else ()
    views = max(len(features) for features in used)
    if views < LARGE_VIEWS:
        raise ValueError(f"the criterion compares views: {views} given, two are needed")
    return used


class _WithGradients(torch.autograd.Function):
    """A scalar whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        """`tensors` are the inputs, then their gradients."""
        ctx.save_for_backward(*tensors[count:])
        ctx.count = count
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients by that of the scalar."""
        grads = ctx.saved_tensors
        return (None, None, *(grad * g for g in grads), *(None for _ in grads))


class _Ledger:
    """Adds terms up, and their gradients with respect to a list of tensors (B, M, D)."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.grads = [torch.zeros_like(tensor) for tensor in tensors]
        self.sums = tensors[0].new_zeros(3)  # invariance, variance, covariance

    def add_invariance(self, i: int, j: int, matches: Matches | None, weight: float) -> None:
        """Invariance between (kept cells of) i and (their partners in) j."""
        if matches is None:
            value, grad = invariance(self.tensors[i], self.tensors[j], weight)
            self.grads[i] += grad
            self.grads[j] -= grad
        else:
            x, y = (
                take_cells(self.tensors[i], matches.kept),
                take_cells(self.tensors[j], matches.partner),
            )
            value, grad = invariance(x, y, weight)
            self._scatter(i, matches.kept, grad)
            self._scatter(j, matches.partner, grad.neg_())
        self.sums[0] += value

    def add_statistics(
        self, i: int, cells: Tensor | None, variance: float, covariance: float
    ) -> None:
        """Variance and covariance of tensor i, or of its chosen cells, over all processes."""
        x = self.tensors[i] if cells is None else take_cells(self.tensors[i], cells)
        variance_term, covariance_term, grad = regularise(gather_batch(x), variance, covariance)
        self.sums[1] += variance_term
        self.sums[2] += covariance_term
        if grad is None:
            return
        if cells is None:
            self.grads[i] += own_gradient(grad)
        else:
            self._scatter(i, cells, own_gradient(grad))

    def _scatter(self, i: int, cells: Tensor, grad: Tensor) -> None:
        self.grads[i].scatter_add_(1, cells[:, :, None].expand_as(grad), grad)


class VICRegLLoss(nn.Module):
    """VICRegL's criterion over two large views and any number of small ones.

    Values and gradients are computed together, by hand, in the forward pass: no graph of the
    intermediate tensors is kept, and the backward pass only scales. It is not differentiable twice.
    Over several processes every one of them has to call it, with batches of one size.

    Args:
        alpha: weight of the global criterion against the local one, in [0, 1] (Eq. 4); a branch of
            weight 0 is not computed and its parts are 0.
        num_matches: gamma for large and small views (paper), or for both directions (released).
        preset: "paper" or "released", see the module's text.
        invariance: coefficient lambda of Eq. 1.
        variance: coefficient mu.
        covariance: coefficient nu.
        feature_top_gamma: whether the feature term keeps only its nearest pairs; None takes the
            preset's choice.
        matching: local terms to use, "location" and "feature" (table 3); none is VICReg.
        local_criterion: "VIC", "VI" or "I": parts of the local criterion (table 7).

    Raises:
        ValueError: alpha outside [0, 1], or an unknown preset, matching or local criterion.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        num_matches: tuple[int, int] = (20, 4),
        preset: Preset = "paper",
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        feature_top_gamma: bool | None = None,
        *,
        matching: Sequence[str] = ("location", "feature"),
        local_criterion: Literal["VIC", "VI", "I"] = "VIC",
    ) -> None:
        super().__init__()
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is {alpha}; it weighs global against local, use 0 to 1")
        if preset not in ("paper", "released"):
            raise ValueError(f"preset {preset!r}: use 'paper' or 'released'")
        if set(matching) - {"location", "feature"}:
            raise ValueError(f"matching {tuple(matching)}: use 'location' and 'feature'")
        if local_criterion not in ("VIC", "VI", "I"):
            raise ValueError(f"local criterion {local_criterion!r}: use 'VIC', 'VI' or 'I'")
        self.alpha, self.num_matches, self.preset = alpha, num_matches, preset
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.matching = tuple(matching)
        self.local_variance = variance if "V" in local_criterion else 0.0
        self.local_covariance = covariance if "C" in local_criterion else 0.0
        paper = preset == "paper"
        self.feature_top_gamma = paper if feature_top_gamma is None else feature_top_gamma
        self._direction = 1.0 if paper else 0.5  # weight of one direction of a local term
        self._side = 1.0 if paper else 0.5  # weight of one side's variance and covariance

    def forward(
        self, maps: Sequence[Tensor], embeddings: Sequence[Tensor], locations: Sequence[Tensor]
    ) -> VICRegLTerms:
        """Compute the criterion.

        Args:
            maps: for each view (B, n*n, C) projected local features; unused where alpha is 1.
            embeddings: for each view (B, D) expanded global features; unused where alpha is 0.
            locations: for each view (B, n, n, 2) cell centres in source pixels.

        Returns:
            The parts and the total.

        Raises:
            ValueError: fewer than two views, a batch of one over all processes, or gamma above the
                number of cells.
        """
        embeddings, maps = used_features(self.alpha, self.matching, embeddings, maps)
        inputs = [*embeddings, *maps]
        with torch.no_grad():
            zeros = inputs[0].new_zeros(3)
            grads: list[Tensor] = []
            global_sums = local_sums = zeros
            if embeddings:
                ledger = self._global_terms([e.detach()[:, None, :] for e in embeddings])
                global_sums = ledger.sums
                grads += [grad[:, 0].mul_(self.alpha) for grad in ledger.grads]
            if maps:
                ledger = self._local_terms([m.detach() for m in maps], locations)
                local_sums = ledger.sums
                grads += [grad.mul_(1.0 - self.alpha) for grad in ledger.grads]
            # statistics are alike on every process; the mean is for the invariances
            sums = mean_over_processes(torch.cat([global_sums, local_sums]))
            value = self.alpha * sums[:3].sum() + (1.0 - self.alpha) * sums[3:].sum()
        total = _WithGradients.apply(value, len(inputs), *inputs, *grads)
        return VICRegLTerms(**dict(zip(TERMS, sums, strict=True)), total=total)

    def _global_terms(self, embeddings: Sequence[Tensor]) -> _Ledger:
        ledger = _Ledger(embeddings)
        pairs = ordered_pairs(len(embeddings))
        for i, j in pairs:
            ledger.add_invariance(i, j, None, self.invariance / len(pairs))
        for view in range(len(embeddings)):
            if self.preset == "paper":
                share = sum(view in pair for pair in pairs) / len(pairs)
            else:
                share = 1.0 / len(embeddings)
            ledger.add_statistics(view, None, share * self.variance, share * self.covariance)
        return ledger

    def _local_terms(self, maps: Sequence[Tensor], locations: Sequence[Tensor]) -> _Ledger:
        ledger = _Ledger(maps)
        whole = [0.0] * len(maps)  # weight of the statistics of a map kept whole
        for kind in self.matching:
            directions = self._directions(kind, len(maps))
            for i, j in combinations(range(len(maps)), 2):
                if (i, j) not in directions:  # two small views
                    continue
                if kind == "feature":
                    distances = squared_distances(maps[i], maps[j])
                else:
                    places = [locations[view].to(maps[view].device) for view in (i, j)]
                    distances = location_distances(*places)
                for a, b, d in ((i, j, distances), (j, i, distances.transpose(1, 2))):
                    found = nearest(d)
                    for gamma, weight in directions[a, b].items():
                        self._add_matches(ledger, a, b, keep_best(*found, gamma), weight, whole)
        for i, weight in enumerate(whole):
            if weight:
                self._add_statistics(ledger, i, None, weight)
        return ledger

    def _directions(self, kind: str, views: int) -> dict[tuple[int, int], dict[int | None, float]]:
        """For each direction a -> b, the gammas asked for and the weights of their terms.

        The same matches come up for the ordered pairs (i, j) and (j, i): they are made once.
        """
        pairs = ordered_pairs(views)
        directions: dict[tuple[int, int], dict[int | None, float]] = {}
        for i, j in pairs:
            for a, b, first in ((i, j, True), (j, i, False)):
                gamma = self._gamma(kind, a, first)
                weights = directions.setdefault((a, b), {})
                weights[gamma] = weights.get(gamma, 0.0) + self._direction / len(pairs)
        return directions

    def _gamma(self, kind: str, view: int, first: bool) -> int | None:
        if kind == "feature" and not self.feature_top_gamma:
            return None
        if self.preset == "paper":
            return self.num_matches[0 if view < LARGE_VIEWS else 1]
        return self.num_matches[0 if first else 1]

    def _add_matches(
        self,
        ledger: _Ledger,
        i: int,
        j: int,
        matches: Matches,
        weight: float,
        whole: list[float],
    ) -> None:
        ledger.add_invariance(i, j, matches, weight * self.invariance)
        if matches.kept.shape[1] == ledger.tensors[i].shape[1]:
            whole[i] += weight
        else:
            self._add_statistics(ledger, i, matches.kept, weight)
        self._add_statistics(ledger, j, matches.partner, weight)

    def _add_statistics(self, ledger: _Ledger, i: int, cells: Tensor | None, weight: float) -> None:
        share = weight * self._side
        ledger.add_statistics(i, cells, share * self.local_variance, share * self.local_covariance)
