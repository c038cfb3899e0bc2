"""Invariance, variance and covariance of VICReg with their gradients, written by hand.

All three are computed per slot over the batch: x is (B, M, D), M slots of B vectors; statistics run
over the batch, separately in each slot, and are averaged over slots (M = 1 for global embeddings).
No autograd graph is kept: a term costs its value and its gradient, and nothing of its size stays.

The covariance penalty comes from the smaller of two Gram matrices. For centred X of shape B x D,
the sum of squared off-diagonal entries of X'X is

    ||X'X||_F^2 - sum_d (sum_b x_bd^2)^2   and   ||X'X||_F = ||XX'||_F,

so the D x D matrix is never formed where B < D; the gradient is 4 (XX'X - x_bd (sum_b x_bd^2)).
Source: VICReg (Bardes et al. 2022), equations (1) to (6).
"""

import torch
from torch import Tensor

EPSILON = 1e-4  # under the square root of the variance: VICReg, equation (2)


def invariance(x: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Mean squared error of two (B, M, D) times a weight, and its gradient with respect to x.

    The gradient with respect to y is its negative.
    """
    difference = x - y
    value = difference.square().mean() * weight
    return value, difference.mul_(2.0 * weight / difference.numel())


def regularise(
    x: Tensor, variance: float, covariance: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Variance and covariance terms of x (B, M, D), weighted, and the gradient of their sum.

    Args:
        x: B vectors in each of M slots.
        variance: weight of mean over slots and dimensions of relu(1 - sqrt(var + 1e-4)).
        covariance: weight of the mean over slots of the sum of squared off-diagonal covariances
            divided by D. Both use the unbiased divisor B - 1.

    Returns:
        The two weighted terms, and d(sum)/dx, (B, M, D), or None where both weights are 0.

    Raises:
        ValueError: a batch of one, which has no variance.
    """
    batch, slots, width = x.shape
    if batch < 2:
        raise ValueError("variance and covariance need a batch of at least 2")
    zero = x.new_zeros(())
    if variance == 0.0 and covariance == 0.0:
        return zero, zero, None
    centred = x - x.mean(dim=0)
    energy = centred.square().sum(dim=0)  # (M, D): the diagonal of X'X
    std = (energy / (batch - 1) + EPSILON).sqrt()
    scale = x.new_zeros(slots, width)  # d/dx is centred * scale + covariance's product
    variance_term = zero
    if variance != 0.0:
        hinge = 1.0 - std
        active = (hinge > 0).to(x.dtype)
        variance_term = (hinge * active).mean() * variance
        scale -= active / std * (variance / ((batch - 1) * slots * width))
    if covariance == 0.0:
        return variance_term, zero, centred.mul_(scale)
    factor = covariance / (slots * width * (batch - 1) ** 2)
    by_slot = centred.transpose(0, 1)  # (M, B, D)
    if batch <= width:
        gram = torch.bmm(by_slot, by_slot.transpose(1, 2))
        product = torch.bmm(gram, by_slot)
    else:
        gram = torch.bmm(by_slot.transpose(1, 2), by_slot)
        product = torch.bmm(by_slot, gram)
    # the difference of two sums: rounding may leave it just below 0
    covariance_term = (gram.square().sum() - energy.square().sum()).clamp_min(0.0) * factor
    scale -= energy * (4.0 * factor)
    gradient = centred.mul_(scale).add_(product.transpose(0, 1), alpha=4.0 * factor)
    return variance_term, covariance_term, gradient
