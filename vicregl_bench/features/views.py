"""Means over several views of a picture, such as five crops and their flips."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_of_views(parts: Sequence[Tensor]) -> Tensor:
    """Mean vectors (B, D) of B pictures over their V views.

    Args:
        parts: V tensors (B, D), computed so for memory's sake; laid end to end they are the views
            of the first picture, then those of the second, and so on.
    """
    pictures, width = parts[0].shape
    return torch.cat(list(parts)).view(pictures, len(parts), width).mean(dim=1)
