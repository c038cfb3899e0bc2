"""Scaling of vectors: known answers, channels without variation, extreme lengths."""

import torch

from tests.features.clouds import D, N, overlapping
from vicregl_bench.features.scaler import Scaler


def test_standardised_channels(chunks: None) -> None:
    x, _ = overlapping(3)
    shifted = torch.cat([1e4 + 10 * x, torch.full((N, 1), 3.0)], dim=1)
    shifted[0, -1] += 1e-3  # less than the rounding of a stored channel
    scaled = Scaler.fit(shifted, "standardize")(shifted)
    expected = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    torch.testing.assert_close(scaled[:, :D], expected, rtol=0, atol=2e-3)  # 1e4 in float32
    assert (scaled[:, D] == 0).all()


def test_other_scalings() -> None:
    x, _ = overlapping(3)
    x[0] = 0
    assert Scaler.fit(x, "none")(x) is x
    normal = Scaler.fit(x, "normalize")(1e20 * x)
    assert (normal[0] == 0).all()
    torch.testing.assert_close(normal[1:].norm(dim=1), torch.ones(N - 1))
