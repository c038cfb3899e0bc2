"""A fitted linear classifier of feature vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vicregl_bench.features.chunks import chunks
from vicregl_bench.features.ranks import true_class_ranks


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Logits `x W^T + b`.

    Attributes:
        weight: (C, D).
        bias: (C,); -inf for a class that training had none of.
    """

    weight: Tensor
    bias: Tensor

    def ranks(self, features: Tensor, labels: Tensor) -> Tensor:
        """Ranks (N,) of the true classes (N,) of vectors (N, D), 0 for the highest logit.

        As `true_class_ranks`.
        """
        ranks = torch.empty(len(features), dtype=torch.long)
        for rows in chunks(len(features), max(self.weight.shape)):
            part = features[rows].to(self.weight)
            logits = functional.linear(part, self.weight, self.bias)
            ranks[rows] = true_class_ranks(logits, labels[rows].to(logits.device)).cpu()
        return ranks
