"""What every family of backbones is held to."""

import copy

import torch
from torch import Tensor

from vicregl_bench.backbones.contract import Backbone


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal up to a tolerance relative to the largest value (order of summation in float32)."""
    atol = tolerance * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=atol, check_dtype=False)


def check_precision_and_layout(backbone: Backbone, images: Tensor, dtype: torch.dtype) -> None:
    """Another dtype and channels_last give the same maps and vector."""
    other = copy.deepcopy(backbone).to(dtype).to(memory_format=torch.channels_last)
    cast = images.to(dtype).to(memory_format=torch.channels_last)
    tolerance = 5e-2 if dtype == torch.bfloat16 else 1e-5  # 8 bits of mantissa through 12 blocks
    with torch.inference_mode():
        for ours, theirs in zip(other(cast), backbone(images), strict=True):
            assert ours.dtype == dtype
            assert_near(ours.float(), theirs, tolerance)
        assert_near(other.pooled(cast).float(), backbone.pooled(images), tolerance)


def check_training_mode(backbone: Backbone, images: Tensor) -> None:
    """No dropout, no stochastic depth: both modes give the very same maps."""
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        training, frozen = copied.train()(images), copied.eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(training, frozen, strict=True))
