"""What is done to feature vectors before a linear classifier sees them."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vicregl_bench.features.chunks import chunks

Scaling = Literal["none", "standardize", "normalize"]
# Stored features have 11 significant bits: a channel that varies by less is constant but for them.
_ROUNDING = 2.0**-10


@dataclass(frozen=True, eq=False)
class Scaler:
    """What is done to vectors before a classifier sees them.

    Attributes:
        how: "none"; "standardize": every channel has mean 0 and standard deviation 1 over the
            training vectors (a channel that is constant there becomes 0); "normalize": every vector
            has length 1.
        mean: (D,) float64, of "standardize".
        factor: (D,) float64, of "standardize".
    """

    how: Scaling
    mean: Tensor | None = None
    factor: Tensor | None = None

    @classmethod
    def fit(cls, features: Tensor, how: Scaling) -> "Scaler":
        """What training vectors (N, D) decide."""
        if how != "standardize":
            return cls(how)
        mean = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
        square = torch.zeros_like(mean)
        for rows in chunks(len(features), features.shape[1]):
            mean += features[rows].double().sum(dim=0) / len(features)
        for rows in chunks(len(features), features.shape[1]):
            square += (features[rows].double() - mean).square().sum(dim=0) / len(features)
        std = square.sqrt()
        varies = std > _ROUNDING * mean.abs()
        return cls(how, mean, torch.where(varies, 1.0 / std, 0.0))

    def __call__(self, features: Tensor) -> Tensor:
        """The vectors (N, D) scaled, float32."""
        if self.how == "none":
            return features
        scaled = torch.empty_like(features)
        for rows in chunks(len(features), features.shape[1]):
            part = features[rows].double()
            if self.mean is None or self.factor is None:
                part = functional.normalize(part, dim=1, eps=torch.finfo(torch.float64).tiny)
            else:
                part = (part - self.mean.to(part.device)) * self.factor.to(part.device)
            scaled[rows] = part
        return scaled
