"""Ranks of true classes: known answers, ties, what is not finite, any number of classifiers."""

import torch

from vicregl_bench.features.ranks import true_class_ranks


def test_known_ranks_of_two_classifiers() -> None:
    logits = torch.tensor([[[0.0, 2.0, 1.0]] * 3, [[5.0, -1.0, 7.0]] * 3])
    assert true_class_ranks(logits, torch.arange(3)).tolist() == [[2, 0, 1], [1, 2, 0]]
    assert true_class_ranks(logits[1], torch.arange(3)).tolist() == [1, 2, 0]


def test_ties_and_nan_count_against_the_true_class() -> None:
    equal = torch.tensor([[1.0, 1.0, 0.0]])
    assert [true_class_ranks(equal, torch.tensor([c])).item() for c in range(3)] == [1, 1, 2]
    broken = torch.tensor([[torch.nan, 0.0, torch.inf]])
    assert [true_class_ranks(broken, torch.tensor([c])).item() for c in range(3)] == [2, 2, 1]


def test_without_ties_it_is_the_place_in_the_sorted_logits() -> None:
    logits = torch.randn(4, 50, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 7
    places = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
    expected = places[:, torch.arange(50), labels]
    assert torch.equal(true_class_ranks(logits, labels), expected)
