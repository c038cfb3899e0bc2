"""Labelled vectors: classes that overlap, and classes that a linear classifier separates."""

import torch
from torch import Tensor

N, D = 90, 6


def overlapping(classes: int) -> tuple[Tensor, Tensor]:
    """Classes that no classifier separates."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(N) % classes
    centres = torch.randn(classes, D, generator=generator)
    return centres[labels] + torch.randn(N, D, generator=generator), labels


def separable(classes: int = 4) -> tuple[Tensor, Tensor]:
    vectors, labels = overlapping(classes)
    return 0.1 * vectors + 10 * torch.eye(classes, D)[labels], labels
