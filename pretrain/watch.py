"""Whether the features collapse: to a point (no spread) or onto few directions (correlation).

Source: VICReg, appendix C.7: standard deviation along each dimension, averaged, figure 4; average
squared correlation coefficient, Eq. 9, figure 5.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

COLLAPSED_SPREAD = 0.1
"""Spread below which features count as collapsed; 1 is an even spread over the unit sphere. Ours:
the runs of figure 4 that work stay above a third."""

COLLAPSED_CORRELATION = 0.9
"""Mean squared correlation above which a few directions hold everything; ours."""


@dataclass(frozen=True)
class Spread:
    """How features fill their space.

    Attributes:
        std: standard deviation along a dimension, averaged, of l2-normalised features, times
            sqrt(D): 1 on an evenly covered sphere, 0 for a single point.
        correlation: mean squared off-diagonal correlation coefficient (Eq. 9), 0 to 1.
    """

    std: float
    correlation: float

    @property
    def collapsed(self) -> bool:
        """Whether the features are as good as gone."""
        return self.std < COLLAPSED_SPREAD or self.correlation > COLLAPSED_CORRELATION


@torch.no_grad()
def measure(features: Tensor) -> Spread:
    """Spread of features (B, D), B >= 2.

    The squared correlations come from the smaller Gram matrix, as the covariance penalty does. A
    small batch has correlation 1 / (B - 1) by chance alone, which is taken off.
    """
    x = features.float()
    batch, width = x.shape
    unit = torch.nn.functional.normalize(x, dim=1)
    std = float(unit.std(dim=0).mean()) * width**0.5
    centred = x - x.mean(dim=0)
    norms = centred.norm(dim=0)
    alive = norms > 1e-6 * norms.max().clamp_min(1e-12)
    standard = centred[:, alive] / norms[alive]
    left = standard.shape[1]
    if left < 2:
        return Spread(std, 1.0)
    gram = standard @ standard.T if batch < left else standard.T @ standard
    squared = (float(gram.square().sum()) - left) / (left * (left - 1))
    chance = 1.0 / (batch - 1)
    return Spread(std, max(0.0, (squared - chance) / (1.0 - chance)) if chance < 1 else 0.0)
