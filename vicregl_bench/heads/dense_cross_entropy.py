"""Pixel cross-entropy of many heads at mask resolution, with its gradient, without autograd.

The hot spot of a linear segmentation sweep is not the 1x1 convolution but upsampling and
cross-entropy at mask resolution. Upsampling is linear, z = A l B', so the loss of a picture splits:

    sum over pixels of (logsumexp(z) - z[label])  =  sum of logsumexp(z)  -  <T, l>,

where T = A' onehot(labels) B is the same for every head, and the gradient with respect to l is
A' softmax(z) B - T. What is left at mask resolution is one exponential a logit. It is taken band by
band of rows, in place, so the memory is that of one band of one head. Exact up to the order of
summation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vicregl_bench.heads.interpolation import resize_matrix

_LN2 = math.log(2.0)
_CPU_BAND_BYTES = 1 << 21  # near the cores' second-level caches; measured on 2 cores
_GPU_BAND_BYTES = 1 << 30


@dataclass(frozen=True)
class _Band:
    """Rows of the mask that are processed together, and the map's rows that they depend on."""

    rows: slice
    support: slice
    weights: Tensor  # (rows, support) block of the vertical resize matrix


def _bands(vertical: Tensor, rows_per_band: int) -> list[_Band]:
    bands = []
    for start in range(0, vertical.shape[0], rows_per_band):
        rows = slice(start, min(start + rows_per_band, vertical.shape[0]))
        used = vertical[rows].ne(0).any(dim=0).nonzero().flatten()
        support = slice(int(used[0]), int(used[-1]) + 1)
        bands.append(_Band(rows, support, vertical[rows, support].contiguous()))
    return bands


class DenseCrossEntropy:
    """Mean cross-entropy of bilinearly upsampled logits, and its gradient at low resolution.

    The mean runs over all pixels of the batch, ignored ones included, as mmsegmentation's
    `CrossEntropyLoss` does with its default `avg_non_ignore=False`.

    Args:
        map_size: (h, w) of the logits.
        mask_size: (H, W) of the labels.
        num_classes: C, the number of logits per head.
        ignore_index: label that contributes neither loss nor gradient.
        dtype: of logits, gradient and loss.
        device: where the logits are.
    """

    def __init__(
        self,
        map_size: tuple[int, int],
        mask_size: tuple[int, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.map_size, self.mask_size, self.num_classes = map_size, mask_size, num_classes
        self.ignore_index = ignore_index
        self._vertical = resize_matrix(map_size[0], mask_size[0], dtype=dtype, device=device)
        self._smallest_sum = torch.finfo(dtype).tiny / torch.finfo(dtype).eps
        self._horizontal = resize_matrix(map_size[1], mask_size[1], dtype=dtype, device=device)
        budget = _CPU_BAND_BYTES if torch.device(device).type == "cpu" else _GPU_BAND_BYTES
        row_bytes = num_classes * mask_size[1] * self._vertical.element_size()
        rows_per_band = max(1, min(mask_size[0], budget // row_bytes))
        self._bands = _bands(self._vertical, rows_per_band)

    def __call__(self, logits: Tensor, labels: Tensor, num_pixels: int) -> tuple[Tensor, Tensor]:
        """Loss and gradient of one picture for every head.

        Args:
            logits: (K, C, h, w) low-resolution logits of K heads.
            labels: (H, W) integer labels, in [0, C) or `ignore_index`.
            num_pixels: pixels of the whole batch, the divisor of the mean.

        Returns:
            (K,) this picture's share of each head's mean loss, and (K, C, h, w) the gradient of
            that loss with respect to `logits`.
        """
        heads, classes = logits.shape[0], self.num_classes
        (h, w), (height, width) = self.map_size, self.mask_size
        valid = (labels != self.ignore_index).to(logits.dtype)
        onehot = logits.new_zeros(classes + 1, height, width)
        target = labels.long().masked_fill(labels == self.ignore_index, classes)
        onehot.scatter_(0, target[None], 1.0)
        truth = self._adjoint(onehot[:classes])
        # exp() is taken relative to the largest logit of each cell, upsampled like the logits: an
        # upper bound of every pixel's largest logit, known before upsampling
        bound = logits.amax(dim=1)
        covered = self._adjoint(valid[None])[0]
        losses = (bound * covered).sum(dim=(1, 2)) - (logits * truth).sum(dim=(1, 2, 3))
        grads = torch.empty_like(logits)
        for k in range(heads):
            # exp2() keeps its speed where exp() of very negative numbers is slow
            shifted = ((logits[k] - bound[k]) / _LN2).reshape(classes * h, w)
            wide = (shifted @ self._horizontal.T).view(classes, h, width)
            wide_grad = torch.zeros_like(wide)
            for band in self._bands:
                probs, log_sum = self._softmax(band, wide, valid[band.rows].reshape(-1))
                losses[k] += log_sum
                wide_grad[:, band.support] += torch.matmul(
                    band.weights.T, probs.view(classes, -1, width)
                )
            grads[k] = (wide_grad.view(-1, width) @ self._horizontal).view(classes, h, w)
        return losses / num_pixels, grads.sub_(truth).div_(num_pixels)

    def _adjoint(self, dense: Tensor) -> Tensor:
        """Transpose of the upsampling: (N, H, W) to (N, h, w)."""
        wide = torch.stack([self._vertical.T @ plane for plane in dense])
        return wide @ self._horizontal

    def _softmax(self, band: _Band, wide: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax of a band's pixels, zero where ignored, and the sum of their log-sum-exp.

        wide: (C, h, W) logits over log(2), none above 0 once upsampled; valid: (pixels,). Where the
        bound is so loose that a sum of exponentials leaves the range (logits some 70 apart), the
        band is done again relative to each pixel's own maximum.
        """
        support = wide[:, band.support]
        probs = torch.matmul(band.weights, support).view(self.num_classes, -1)
        total = torch.special.exp2(probs, out=probs).sum(dim=0)
        shift = torch.zeros_like(total)
        if float(total.min()) < self._smallest_sum:
            probs = torch.matmul(band.weights, support).view_as(probs)
            shift = probs.amax(dim=0)
            total = torch.special.exp2(probs.sub_(shift), out=probs).sum(dim=0)
        log_sum = ((total.log2() + shift) * valid).sum() * _LN2
        return probs.mul_(valid / total), log_sum
