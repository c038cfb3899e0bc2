"""Pixel cross-entropy of many heads at mask resolution, with its gradient, without autograd.

The hot spot of a linear segmentation sweep is not the 1x1 convolution but upsampling and
cross-entropy at mask resolution. Here each head's low-resolution logits are upsampled by two matrix
products, turned into probabilities and then into the loss gradient in the same buffer, and brought
back by the transposed products, a band of rows at a time: the memory is that of one band of one
head, and the result is exact up to the order of summation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vicregl_bench.heads.interpolation import resize_matrix

_CPU_BAND_BYTES = 1 << 20  # about half of a core's second-level cache, measured best on 2 cores
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
        vertical = resize_matrix(map_size[0], mask_size[0], dtype=dtype)
        self._horizontal = resize_matrix(map_size[1], mask_size[1], dtype=dtype, device=device)
        budget = _CPU_BAND_BYTES if torch.device(device).type == "cpu" else _GPU_BAND_BYTES
        row_bytes = num_classes * mask_size[1] * vertical.element_size()
        rows_per_band = max(1, min(mask_size[0], budget // row_bytes))
        self._bands = [
            _Band(band.rows, band.support, band.weights.to(device))
            for band in _bands(vertical, rows_per_band)
        ]

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
        (h, w), (_, width) = self.map_size, self.mask_size
        valid = labels != self.ignore_index
        target = labels.masked_fill(~valid, 0).long()
        losses = logits.new_zeros(heads)
        grads = torch.zeros_like(logits)
        bands = [
            (
                band,
                target[band.rows].reshape(1, -1),
                valid[band.rows].reshape(1, -1).to(logits.dtype),
                bool(valid[band.rows].all()),
            )
            for band in self._bands
        ]
        tiny = torch.finfo(logits.dtype).tiny
        for k in range(heads):
            wide = (logits[k].reshape(classes * h, w) @ self._horizontal.T).view(classes, h, width)
            wide_grad = torch.zeros_like(wide)
            for band, band_target, band_valid, all_valid in bands:
                dense = torch.matmul(band.weights, wide[:, band.support])
                probs = torch.softmax(dense.view(classes, -1), dim=0)
                picked = probs.gather(0, band_target)
                losses[k] -= (picked.clamp_min(tiny).log_() * band_valid).sum()
                probs.scatter_(0, band_target, picked - 1)
                if not all_valid:
                    probs *= band_valid
                wide_grad[:, band.support] += torch.matmul(
                    band.weights.T, probs.view(classes, -1, width)
                )
            grads[k] = (wide_grad.view(-1, width) @ self._horizontal).view(classes, h, w)
        return losses / num_pixels, grads.div_(num_pixels)
