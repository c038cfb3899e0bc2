"""The mmengine model of a frozen linear sweep: one trunk pass, K heads, no autograd.

Memory: of all heads together only logits at the size of the map exist; at the size of the picture
there are label maps (K, H, W), and logits of some classes of one head.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.interpolation import resize_matrix
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.tasks.protocol import SlideSection
from vicregl_bench.tasks.segmentation.dataset import stack_labels


def windows(shape: tuple[int, int], crop: int, stride: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the windows over a picture, as mmseg's `slide_inference` lays them.

    The last window of a row or column is moved back so that it ends with the picture; a side
    shorter than the crop is one window.

    Args:
        shape: (height, width) of the picture.
        crop: side of a window.
        stride: from one window to the next.
    """
    sides = []
    for length in shape:
        count = max(length - crop + stride - 1, 0) // stride + 1
        ends = [min(index * stride + crop, length) for index in range(count)]
        sides.append([slice(max(end - crop, 0), end) for end in ends])
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]


# Logits at a picture's own size may take this much: 19 classes of a Cityscapes picture do at once.
_BUDGET_BYTES = 1 << 28


def _largest(classes: int, pixels: int, logits_of: Callable[[slice], Tensor]) -> Tensor:
    """Labels (H, W) of the largest of C logits, computed a few classes at a time.

    Args:
        classes: C.
        pixels: of the largest picture that `logits_of` makes, in float32.
        logits_of: (c, H, W) logits of a slice of the classes.
    """
    step = max(1, _BUDGET_BYTES // (4 * pixels))
    # max() is vectorised along an outer dimension; argmax() takes seven times as long
    best, labels = logits_of(slice(0, step)).max(dim=0)
    for start in range(step, classes, step):
        values, indices = logits_of(slice(start, start + step)).max(dim=0)
        labels = torch.where(values > best, indices + start, labels)
        best = torch.maximum(best, values)
    return labels


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, h, w) to (C, H, W), bilinear."""
    if logits.shape[1:] == size:
        return logits
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


class FrozenSweepSegmentor(BaseSegmentor):  # type: ignore[misc]
    """mmseg segmentor whose prediction is one label map a head.

    The trunk is no submodule: it is neither trained nor saved nor switched to training mode.

    Args:
        trunk: the frozen backbone.
        sweep: the heads.
        data_preprocessor: mmseg's configuration of it.
        maps: indices of the trunk's maps that feed the heads; of different sizes, they stand for
            their concatenation at the size of the first.
        slide: windows that pictures are tested by; None for whole pictures.
    """

    def __init__(
        self,
        trunk: FrozenTrunk,
        sweep: LinearSweep,
        data_preprocessor: dict[str, Any],
        maps: Sequence[int] = (-1,),
        slide: SlideSection | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self._trunk, self.sweep, self._maps = trunk, sweep, tuple(maps)
        self._slide = slide

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        """The maps that the heads read, (B, D_i, h_i, w_i)."""
        maps = self._trunk(inputs)
        return [maps[index] for index in self._maps]

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One iteration of every head: hand-written gradients, one optimiser step.

        Returns the mean loss over the heads still trained, and the number of these heads. (A key
        with "loss" in it would be summed by mmengine's parse_losses; it is not called here.)
        """
        batch = self.data_preprocessor(data, True)
        losses = self.loss(batch["inputs"], batch["data_samples"])["loss_per_head"]
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        alive = self.sweep.diverged_at < 0
        return {"loss": losses[alive].mean(), "heads": alive.sum()}

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Losses of all heads (K,); the gradients are left in the parameters."""
        labels = stack_labels(data_samples).to(inputs.device)
        features = self.extract_feat(inputs)
        return {"loss_per_head": self.sweep.accumulate_gradients(features, labels)}

    def predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Label maps of all heads at the pictures' original size.

        mmseg resizes logits twice, to the network's input and then to the original shape; both
        resizings are one pair of matrices here, applied head by head, and only the label is kept.

        Returns the data samples with `pred_sem_seg.data` (K, H, W), uint8.
        """
        label_maps = self._whole if self._slide is None else self._by_windows
        for picture, sample in zip(inputs, data_samples, strict=True):
            original = sample.metainfo["ori_shape"][:2]
            labels = label_maps(picture, sample.metainfo["img_shape"][:2], original)
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
        return data_samples

    def _logits(self, picture: Tensor) -> Tensor:
        """Low-resolution logits of all heads on one picture or window, (K, C, h, w)."""
        logits = self.sweep.logits([one[0] for one in self.extract_feat(picture[None])])
        self.sweep.mark_not_finite(logits)
        return logits

    def _whole(self, picture: Tensor, shape: tuple[int, int], original: tuple[int, int]) -> Tensor:
        return self._label_maps(self._logits(picture), shape, original)

    def _by_windows(
        self, picture: Tensor, shape: tuple[int, int], original: tuple[int, int]
    ) -> Tensor:
        """Labels by mmseg's `slide_inference`: the mean of the windows' logits where they overlap.

        What is kept of each window are its low-resolution logits; one head and some classes after
        another they are brought to the input's size, summed, and resized to the original shape.
        """
        assert self._slide is not None
        picture = picture[:, : shape[0], : shape[1]]
        places = windows(shape, self._slide.crop, self._slide.stride)
        parts = [self._logits(picture[:, rows, columns]) for rows, columns in places]
        heads, classes = parts[0].shape[:2]
        count = picture.new_zeros(shape)
        for rows, columns in places:
            count[rows, columns] += 1
        labels = torch.empty(heads, *original, dtype=torch.uint8, device=picture.device)
        pixels = max(math.prod(shape), math.prod(original))

        def mean(head: int, chosen: slice) -> Tensor:
            total = count.new_zeros(len(range(classes)[chosen]), *shape)
            for (rows, columns), part in zip(places, parts, strict=True):
                size = (rows.stop - rows.start, columns.stop - columns.start)
                total[:, rows, columns] += _resize(part[head, chosen], size)
            return _resize(total.div_(count), original)

        for k in range(heads):
            labels[k] = _largest(classes, pixels, partial(mean, k))
        return labels

    @staticmethod
    def _label_maps(
        logits: Tensor, input_size: tuple[int, int], original_size: tuple[int, int]
    ) -> Tensor:
        heads, classes, h, w = logits.shape
        height, width = original_size
        down, across = (
            resize_matrix(a, b, c, dtype=logits.dtype, device=logits.device)
            for a, b, c in ((h, input_size[0], height), (w, input_size[1], width))
        )
        labels = torch.empty(heads, height, width, dtype=torch.uint8, device=logits.device)

        def resized(head: int, chosen: slice) -> Tensor:
            wide = logits[head, chosen].reshape(-1, w) @ across.T
            return torch.matmul(down, wide.view(-1, h, width))

        for k in range(heads):
            labels[k] = _largest(classes, height * width, partial(resized, k))
        return labels

    def encode_decode(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
        """Low-resolution logits of all heads, (B, K, C, h, w)."""
        return torch.stack([self._logits(picture) for picture in inputs])

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        return self.encode_decode(inputs, data_samples)
