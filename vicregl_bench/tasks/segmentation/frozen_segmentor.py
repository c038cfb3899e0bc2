"""The mmengine model of a frozen sweep: one trunk pass, K heads, no autograd.

Memory: of all heads together only logits at the size of the map exist; at the size of the picture
there are label maps (K, H, W), and logits of some classes of one head. With test-time augmentation
the logits at the size of the map are those of all views.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.interpolation import resize_matrix
from vicregl_bench.heads.sweep import Sweep
from vicregl_bench.tasks.segmentation.dataset import stack_labels
from vicregl_bench.tasks.segmentation.settings import SlideSection
from vicregl_bench.tasks.swept import SweptSteps


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


@dataclass(frozen=True)
class _View:
    """Logits of all heads on one view of a picture, kept at low resolution.

    Attributes:
        heads: K.
        classes: C.
        pixels: of the largest picture that `logits_of` makes.
        logits_of: (c, H, W) logits of a head and a slice of the classes at the picture's original
            size and orientation, in memory of their own.
    """

    heads: int
    classes: int
    pixels: int
    logits_of: Callable[[int, slice], Tensor]


def _slices(classes: int, pixels: int) -> list[slice]:
    """As many classes at a time as fit the budget, in float32."""
    step = max(1, _BUDGET_BYTES // (4 * pixels))
    return [slice(start, start + step) for start in range(0, classes, step)]


def _largest(classes: int, pixels: int, values_of: Callable[[slice], Tensor]) -> Tensor:
    """Labels (H, W) of the largest of C logits or probabilities, computed a few classes at a time.

    Args:
        classes: C.
        pixels: of the largest picture that `values_of` makes, in float32.
        values_of: (c, H, W) values of a slice of the classes.
    """
    first, *others = _slices(classes, pixels)
    # max() is vectorised along an outer dimension; argmax() takes seven times as long
    best, labels = values_of(first).max(dim=0)
    for chosen in others:
        values, indices = values_of(chosen).max(dim=0)
        labels = torch.where(values > best, indices + chosen.start, labels)
        best = torch.maximum(best, values)
    return labels


def _sum_of_softmax(
    classes: int, pixels: int, views: Sequence[Callable[[slice], Tensor]]
) -> Callable[[slice], Tensor]:
    """The sum over views of the softmax of C logits, as what computes a slice of the classes.

    Where the classes do not fit the budget, the normalisers of all views (H, W) come first, and
    every slice's logits are made a second time.
    """
    slices = _slices(classes, pixels)
    if len(slices) == 1:
        return lambda chosen: _sum(view(chosen).softmax(dim=0) for view in views)
    normalisers = []
    for view in views:
        total = view(slices[0]).logsumexp(dim=0)
        for chosen in slices[1:]:
            total = torch.logaddexp(total, view(chosen).logsumexp(dim=0))
        normalisers.append(total)
    return lambda chosen: _sum(
        view(chosen).sub_(total).exp_() for view, total in zip(views, normalisers, strict=True)
    )


def _sum(values: Iterable[Tensor]) -> Tensor:
    """The sum of freshly made tensors, in the first one's memory."""
    return reduce(Tensor.add_, values)


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, h, w) to (C, H, W), bilinear."""
    if logits.shape[1:] == size:
        return logits
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


class FrozenSweepSegmentor(SweptSteps, BaseSegmentor):  # type: ignore[misc]
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
        sweep: Sweep,
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

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Losses of all heads (K,); the gradients are left in the parameters."""
        labels = stack_labels(data_samples).to(inputs.device)
        features = self.extract_feat(inputs)
        return {"loss_per_head": self.sweep.accumulate_gradients(features, labels)}

    def val_step(self, data: Any) -> Any:
        """As `test_step`."""
        return self.test_step(data)

    def test_step(self, data: Any) -> Any:
        """Predict a batch of pictures, or of views of them where there are several of each.

        Views are what mmcv's `TestTimeAug` makes: `data["inputs"]` is then a list over views of
        lists over the batch, and so is `data["data_samples"]`. Labels are those of the largest mean
        probability, as in mmseg's `SegTTAModel`.

        Returns the data samples, of several views the first one's, with `pred_sem_seg.data`
        (K, H, W), uint8.
        """
        if not isinstance(data["inputs"][0], list | tuple):
            return super().test_step(data)
        batches = [
            self.data_preprocessor({"inputs": inputs, "data_samples": samples}, False)
            for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        for index, sample in enumerate(batches[0]["data_samples"]):
            views = [
                self._view(batch["inputs"][index], batch["data_samples"][index].metainfo)
                for batch in batches
            ]
            self._label(sample, views)
        return batches[0]["data_samples"]

    def predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Label maps of all heads at the pictures' original size.

        Returns the data samples with `pred_sem_seg.data` (K, H, W), uint8.
        """
        for picture, sample in zip(inputs, data_samples, strict=True):
            self._label(sample, [self._view(picture, sample.metainfo)])
        return data_samples

    @staticmethod
    def _label(sample: Any, views: Sequence[_View]) -> None:
        """Add the label maps to a picture's sample, one head after another."""
        classes, pixels = views[0].classes, max(view.pixels for view in views)
        label_maps = []
        for k in range(views[0].heads):
            values = [partial(view.logits_of, k) for view in views]
            # of a single view, the largest logit is the largest probability
            values_of = values[0] if len(views) == 1 else _sum_of_softmax(classes, pixels, values)
            label_maps.append(_largest(classes, pixels, values_of).to(torch.uint8))
        sample.set_data({"pred_sem_seg": PixelData(data=torch.stack(label_maps))})

    def _logits(self, picture: Tensor) -> Tensor:
        """Low-resolution logits of all heads on one picture or window, (K, C, h, w)."""
        logits = self.sweep.logits([one[0] for one in self.extract_feat(picture[None])])
        self.sweep.mark_not_finite(logits)
        return logits

    def _view(self, picture: Tensor, meta: dict[str, Any]) -> _View:
        shape, original = meta["img_shape"][:2], meta["ori_shape"][:2]
        flipped = bool(meta.get("flip"))
        assert not flipped or meta["flip_direction"] == "horizontal"
        make = self._whole if self._slide is None else self._by_windows
        return make(picture, shape, original, flipped)

    def _whole(
        self, picture: Tensor, shape: tuple[int, int], original: tuple[int, int], flipped: bool
    ) -> _View:
        """Logits of the whole picture.

        mmseg resizes logits twice, to the network's input and then to the original shape; both
        resizings are one pair of matrices here, applied head by head. (They commute with flipping.)
        """
        logits = self._logits(picture)
        if flipped:
            logits = logits.flip(-1)
        heads, classes, h, w = logits.shape
        height, width = original
        down, across = (
            resize_matrix(a, b, c, dtype=logits.dtype, device=logits.device)
            for a, b, c in ((h, shape[0], height), (w, shape[1], width))
        )

        def resized(head: int, chosen: slice) -> Tensor:
            wide = logits[head, chosen].reshape(-1, w) @ across.T
            return torch.matmul(down, wide.view(-1, h, width))

        return _View(heads, classes, height * width, resized)

    def _by_windows(
        self, picture: Tensor, shape: tuple[int, int], original: tuple[int, int], flipped: bool
    ) -> _View:
        """Logits by mmseg's `slide_inference`: the mean of the windows' logits where they overlap.

        What is kept of each window are its low-resolution logits; one head and some classes after
        another they are brought to the input's size, summed, and resized to the original shape.
        """
        assert self._slide is not None
        picture = picture[:, : shape[0], : shape[1]]
        places = windows(shape, self._slide.crop, self._slide.stride)
        parts = [self._logits(picture[:, rows, columns]) for rows, columns in places]
        if flipped:
            parts = [part.flip(-1) for part in parts]
            places = [
                (rows, slice(shape[1] - columns.stop, shape[1] - columns.start))
                for rows, columns in places
            ]
        heads, classes = parts[0].shape[:2]
        count = picture.new_zeros(shape)
        for rows, columns in places:
            count[rows, columns] += 1

        def mean(head: int, chosen: slice) -> Tensor:
            total = count.new_zeros(len(range(classes)[chosen]), *shape)
            for (rows, columns), part in zip(places, parts, strict=True):
                size = (rows.stop - rows.start, columns.stop - columns.start)
                total[:, rows, columns] += _resize(part[head, chosen], size)
            return _resize(total.div_(count), original)

        return _View(heads, classes, max(math.prod(shape), math.prod(original)), mean)

    def encode_decode(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
        """Low-resolution logits of all heads, (B, K, C, h, w)."""
        return torch.stack([self._logits(picture) for picture in inputs])

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        return self.encode_decode(inputs, data_samples)
