"""SimCLR's and Barlow Twins' criteria, alone and, for SimCLR, over matched local features.

SimCLR-L is the ablation of VICRegL (table 4 and "Study of a different collapse prevention method"):
SimCLR replaces VICReg in Eq. 2 and 3, and as the global criterion. That is all the paper says;
the rest is chosen here:

- matching, pairs of views and gamma are those of the preset `paper` of `pretrain.losses`; features
  are matched by the l2 distance of embeddings that are not normalised, as in Eq. 3;
- the negatives of a local vector are the vectors in its kept slot (raster order) of the other
  pictures, as local statistics of VICReg run over the batch for each slot; slots are averaged;
- the temperature is 0.1, in the global and in the local terms.

SimCLR: Chen et al. 2020. Barlow Twins: Zbontar et al. 2021.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.distributed import gather
from pretrain.losses import VICRegLTerms, used_features
from pretrain.matching import (
    LARGE_VIEWS,
    location_distances,
    match_both_ways,
    squared_distances,
    take_cells,
)

Criterion = Literal["simclr", "barlow_twins"]
TEMPERATURE = 0.1  # SimCLR, table 5: the best of 0.05, 0.1, 0.5 and 1 on ImageNet
OFF_DIAGONAL = 0.0051  # lambda of Barlow Twins, Eq. 1: the default of the authors' training script
EPSILON = 1e-5  # added to the variance when standardising: the default of batch normalisation


def nt_xent(x: Tensor, y: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views.

    Every vector, of x and of y, has one positive, its counterpart in the other view, and as
    negatives the 2B - 2 vectors of the other pictures in its slot, where B counts the pictures of
    all processes. Each process computes the whole. The (M, 2B, 2B) similarities are kept for the
    backward pass. Source: SimCLR, Eq. 1 and Algorithm 1.

    Args:
        x: (B, D), or (B, M, D) for M slots, which are averaged; not normalised yet.
        y: like x.
        temperature: divides the cosine similarities.

    Raises:
        ValueError: two shapes, a batch of one, or a temperature that is not positive.
    """
    _check_temperature(temperature)
    x, y = _gather_pair(x, y)
    batch, width = x.shape[0], x.shape[-1]
    views = torch.cat((x, y)).view(2 * batch, -1, width).transpose(0, 1)
    z = F.normalize(views, dim=-1)  # (M, 2B, D)
    logits = torch.bmm(z / temperature, z.transpose(1, 2))
    itself = torch.eye(2 * batch, dtype=torch.bool, device=z.device)
    others = logits.masked_fill_(itself, float("-inf")).logsumexp(dim=-1)
    positive = (z[:, :batch] * z[:, batch:]).sum(dim=-1) / temperature
    return others.mean() - positive.mean()


def barlow_twins(x: Tensor, y: Tensor, off_diagonal: float = OFF_DIAGONAL) -> Tensor:
    """Barlow Twins' redundancy reduction between two views.

    sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2, where C = X'Y / B is the correlation over
    the batch, of all processes, of embeddings standardised over it. As ||X'Y||_F^2 = <XX', YY'>,
    the D x D matrix is never formed where B < D. Source: Barlow Twins, Eq. 1 and 2; the one
    deviation is 1e-5 added to the variances, so that a constant dimension has a finite gradient.

    Args:
        x: (B, D) embeddings of one view; not standardised yet.
        y: (B, D) those of the other.
        off_diagonal: lambda of Eq. 1.

    Raises:
        ValueError: two shapes, or a batch of one.
    """
    x, y = (_standardise(view) for view in _gather_pair(x, y))
    batch, width = x.shape
    diagonal = (x * y).sum(dim=0) / batch
    if batch < width:
        squares = ((x @ x.T) * (y @ y.T)).sum() / batch**2
    else:
        squares = (x.T @ y / batch).square().sum()
    return (1.0 - diagonal).square().sum() + off_diagonal * (squares - diagonal.square().sum())


class GlobalLocalLoss(nn.Module):
    """SimCLR, SimCLR-L and Barlow Twins over two large views and any number of small ones.

    SimCLR is alpha = 1, SimCLR-L is alpha < 1, Barlow Twins has alpha = 1 alone: VICRegL has no
    local form of it. It takes the place of `VICRegLLoss` and has its call and its result. The
    module's text says what the paper leaves open.

    Args:
        alpha: weight of the global criterion against the local one, in [0, 1] (VICRegL, Eq. 4); a
            branch of weight 0 is not computed and its parts are 0.
        num_matches: gamma for the kept cells of large and of small views.
        criterion: "simclr" or "barlow_twins".
        matching: local terms to use, "location" and "feature".
        temperature: of SimCLR, global and local.
        off_diagonal: lambda of Barlow Twins.
        feature_top_gamma: whether the feature term keeps only its nearest pairs, or all.

    Raises:
        ValueError: alpha outside [0, 1], Barlow Twins with alpha below 1, an unknown criterion or
            matching, or a temperature that is not positive.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        num_matches: tuple[int, int] = (20, 4),
        criterion: Criterion = "simclr",
        *,
        matching: Sequence[str] = ("location", "feature"),
        temperature: float = TEMPERATURE,
        off_diagonal: float = OFF_DIAGONAL,
        feature_top_gamma: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is {alpha}; it weighs global against local, use 0 to 1")
        if criterion not in ("simclr", "barlow_twins"):
            raise ValueError(f"criterion {criterion!r}: use 'simclr' or 'barlow_twins'")
        if criterion == "barlow_twins" and alpha != 1.0:
            raise ValueError(f"alpha is {alpha}; barlow_twins is a global criterion, use alpha = 1")
        if set(matching) - {"location", "feature"}:
            raise ValueError(f"matching {tuple(matching)}: use 'location' and 'feature'")
        _check_temperature(temperature)
        self.alpha, self.num_matches, self.criterion = alpha, num_matches, criterion
        self.matching = tuple(matching)
        self.feature_top_gamma = feature_top_gamma
        if criterion == "simclr":
            self._compare = partial(nt_xent, temperature=temperature)
        else:
            self._compare = partial(barlow_twins, off_diagonal=off_diagonal)

    def forward(
        self, maps: Sequence[Tensor], embeddings: Sequence[Tensor], locations: Sequence[Tensor]
    ) -> VICRegLTerms:
        """Compute the criterion.

        Args:
            maps: for each view (B, n*n, C) projected local features; unused where alpha is 1.
            embeddings: for each view (B, D) projected global features; unused where alpha is 0.
            locations: for each view (B, n, n, 2) cell centres in source pixels.

        Returns:
            `global_invariance` and `local_invariance` hold the whole criterion, which has no parts
            that correspond to variance and covariance: those are 0.

        Raises:
            ValueError: fewer than two views, a batch of one, or gamma above the number of cells.
        """
        embeddings, maps = used_features(self.alpha, self.matching, embeddings, maps)
        zero = [*embeddings, *maps][0].new_zeros(())
        global_value = local_value = zero
        if embeddings:
            for i, j, share in self._pairs(len(embeddings)):
                global_value = global_value + share * self._compare(embeddings[i], embeddings[j])
        if maps:
            for i, j, share in self._pairs(len(maps)):
                local_value = local_value + share * self._local_terms(i, j, maps, locations)
        return VICRegLTerms(
            global_invariance=global_value.detach(),
            global_variance=zero,
            global_covariance=zero,
            local_invariance=local_value.detach(),
            local_variance=zero,
            local_covariance=zero,
            total=self.alpha * global_value + (1.0 - self.alpha) * local_value,
        )

    @staticmethod
    def _pairs(views: int) -> list[tuple[int, int, float]]:
        """Pairs i < j with their share of the ordered pairs, from a large view to any other.

        All terms are symmetric in the two views, and the two large ones are a pair both ways.
        """
        ordered = LARGE_VIEWS * (views - 1)
        return [
            (i, j, (2.0 if j < LARGE_VIEWS else 1.0) / ordered)
            for i in range(LARGE_VIEWS)
            for j in range(i + 1, views)
        ]

    def _local_terms(
        self, i: int, j: int, maps: Sequence[Tensor], locations: Sequence[Tensor]
    ) -> Tensor:
        """The local terms of views i and j, i -> j plus j -> i."""
        x, y = maps[i], maps[j]
        gammas = [self.num_matches[0 if view < LARGE_VIEWS else 1] for view in (i, j)]
        value = x.new_zeros(())
        for kind in self.matching:
            with torch.no_grad():
                if kind == "feature":
                    distances = squared_distances(x, y)
                else:
                    a, b = (locations[view].to(x.device) for view in (i, j))
                    distances = location_distances(a, b)
                keep_all = kind == "feature" and not self.feature_top_gamma
                there, back = match_both_ways(distances, *((None, None) if keep_all else gammas))
            value = value + self._compare(take_cells(x, there.kept), take_cells(y, there.partner))
            value = value + self._compare(take_cells(y, back.kept), take_cells(x, back.partner))
        return value


def _check_temperature(temperature: float) -> None:
    if temperature <= 0.0:
        raise ValueError(f"temperature is {temperature}; it divides similarities, use above 0")


def _gather_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two views (B, ...) of the batch of all processes."""
    if x.shape != y.shape:
        raise ValueError(f"the views differ in shape: {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = gather(x), gather(y)
    if x.shape[0] < 2:
        raise ValueError("comparing pictures needs a batch of at least 2")
    return x, y


def _standardise(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the batch, in each dimension of (B, D)."""
    centred = x - x.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + EPSILON).rsqrt()
