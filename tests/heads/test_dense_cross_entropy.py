import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vicregl_bench.heads import dense_cross_entropy
from vicregl_bench.heads.dense_cross_entropy import DenseCrossEntropy

H, W = 37, 50


def reference(logits: Tensor, labels: Tensor, num_pixels: int) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    dense = F.interpolate(logits, size=labels.shape, mode="bilinear")
    target = labels.expand(len(logits), *labels.shape)
    pixels = F.cross_entropy(dense, target, ignore_index=255, reduction="none")
    losses = pixels.sum(dim=(1, 2)) / num_pixels
    losses.sum().backward()
    assert logits.grad is not None
    return losses.detach(), logits.grad


def picture(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(3, 4, 6, 8, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (H, W), generator=generator)
    labels[:9] = 255
    labels[20, 5:30] = 255
    return logits, labels


@pytest.mark.parametrize("band_bytes", [1, 4000, 1 << 30])
def test_loss_and_gradient_equal_autograd(band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_cross_entropy, "_CPU_BAND_BYTES", band_bytes)
    logits, labels = picture()
    loss_of = DenseCrossEntropy((6, 8), (H, W), 4, dtype=torch.float64)
    losses, grads = loss_of(logits, labels, 3 * H * W)
    expected_losses, expected_grads = reference(logits, labels, 3 * H * W)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-11, atol=1e-18)


def test_ignored_pixels_count_in_the_mean_and_give_no_gradient() -> None:
    logits, labels = picture()
    loss_of = DenseCrossEntropy((6, 8), (H, W), 4, dtype=torch.float64)
    losses, grads = loss_of(logits, torch.full_like(labels, 255), H * W)
    assert losses.tolist() == [0.0] * 3
    assert grads.abs().max() == 0


def test_a_head_of_nan_leaves_the_others_alone() -> None:
    logits, labels = picture()
    loss_of = DenseCrossEntropy((6, 8), (H, W), 4, dtype=torch.float64)
    clean_losses, clean_grads = loss_of(logits, labels, H * W)
    logits[1, 2, 0, 0] = float("nan")
    losses, grads = loss_of(logits, labels, H * W)
    assert torch.isnan(losses[1])
    for k in (0, 2):
        assert losses[k] == clean_losses[k]
        assert torch.equal(grads[k], clean_grads[k])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_logits_far_apart_do_not_underflow(dtype: torch.dtype, tolerance: float) -> None:
    """Neighbouring cells that are sure of different classes: the bound is loose between them."""
    logits, labels = picture()
    logits = 2000 * logits
    loss_of = DenseCrossEntropy((6, 8), (H, W), 4, dtype=dtype)
    losses, grads = loss_of(logits.to(dtype), labels, H * W)
    expected_losses, expected_grads = reference(logits, labels, H * W)
    torch.testing.assert_close(losses.double(), expected_losses, rtol=tolerance, atol=0)
    scale = float(expected_grads.abs().max())
    torch.testing.assert_close(grads.double(), expected_grads, rtol=0, atol=tolerance * scale)
