"""Ranks by a linear classifier, in chunks of any size."""

import torch

from tests.features.clouds import D
from vicregl_bench.features.linear_classifier import LinearClassifier


def test_ranks_of_equal_and_broken_logits(chunks: None) -> None:
    broken = LinearClassifier(torch.zeros(3, D), torch.tensor([torch.nan, 0.0, torch.inf]))
    assert broken.ranks(torch.ones(3, D), torch.arange(3)).tolist() == [2, 2, 1]
    constant = LinearClassifier(torch.zeros(3, D), torch.zeros(3))
    assert (constant.ranks(torch.ones(50, D), torch.arange(50) % 3) == 2).all()
    known = LinearClassifier(torch.zeros(3, D), torch.tensor([0.0, 2.0, 1.0]))
    assert known.ranks(torch.ones(3, D), torch.arange(3)).tolist() == [2, 0, 1]
