"""Means over the views of pictures."""

import torch

from vicregl_bench.features.views import mean_of_views


def test_the_views_of_a_picture_follow_each_other() -> None:
    views = torch.tensor([[1.0, 0], [3, 0], [5, 6], [20, 1], [30, 2], [40, 3]])
    found = mean_of_views(torch.split(views, 2))
    assert found.tolist() == [[3.0, 2.0], [30.0, 2.0]]


def test_one_view_is_itself() -> None:
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mean_of_views([vectors]), vectors)
