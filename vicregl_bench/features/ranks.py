"""Ranks of true classes among logits: top-1 counts rank 0, top-5 the ranks below 5."""

from torch import Tensor


def true_class_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Ranks (..., N) of the true classes, 0 for the highest logit.

    Of equal logits the true class's counts as the lowest, and NaN counts against it: neither a
    constant classifier nor one that overflows is ever right.

    Args:
        logits: (..., N, C).
        labels: (N,) in [0, C), on the same device.
    """
    own = logits.gather(-1, labels[:, None].expand(*logits.shape[:-1], 1))
    return (~(logits < own)).sum(dim=-1) - 1
