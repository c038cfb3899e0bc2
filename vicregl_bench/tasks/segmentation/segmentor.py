"""The mmengine model of a frozen linear sweep: one trunk pass, K heads, no autograd."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.interpolation import resize_concat, resize_matrix
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.tasks.segmentation.dataset import stack_labels


class FrozenSweepSegmentor(BaseSegmentor):  # type: ignore[misc]
    """mmseg segmentor whose prediction is one label map a head.

    The trunk is no submodule: it is neither trained nor saved nor switched to training mode.

    Args:
        trunk: the frozen backbone.
        sweep: the heads.
        data_preprocessor: mmseg's configuration of it.
        maps: indices of the trunk's maps that feed the heads.
    """

    def __init__(
        self,
        trunk: FrozenTrunk,
        sweep: LinearSweep,
        data_preprocessor: dict[str, Any],
        maps: Sequence[int] = (-1,),
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self._trunk, self.sweep, self._maps = trunk, sweep, tuple(maps)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Maps of the trunk at the size of the first, concatenated, (B, D, h, w)."""
        maps = self._trunk(inputs)
        return resize_concat([maps[index] for index in self._maps])

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
        maps = self.extract_feat(inputs)
        for features, sample in zip(maps, data_samples, strict=True):
            logits = self.sweep.logits(features)
            self.sweep.mark_not_finite(logits)
            shape, original = sample.metainfo["img_shape"], sample.metainfo["ori_shape"]
            labels = self._label_maps(logits, shape[:2], original[:2])
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
        return data_samples

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
        for k in range(heads):
            wide = (logits[k].reshape(classes * h, w) @ across.T).view(classes, h, width)
            # max() is vectorised along an outer dimension; argmax() takes seven times as long
            labels[k] = torch.matmul(down, wide).max(dim=0).indices
        return labels

    def encode_decode(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
        """Low-resolution logits of all heads, (B, K, C, h, w)."""
        return torch.stack([self.sweep.logits(m) for m in self.extract_feat(inputs)])

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        return self.encode_decode(inputs, data_samples)
