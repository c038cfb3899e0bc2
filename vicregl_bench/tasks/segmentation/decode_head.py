"""The linear head as a decode head of mmsegmentation, for a backbone that is trained along.

Maps of several sizes (VICRegL, appendix D.2: four of a ConvNeXt or ViT) stand for their
concatenation at the size of the first, which is never built: a 1x1 convolution and bilinear
upsampling commute, so each map meets its columns of the weights at its own size, and what is
upsampled are logits.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn


class SplitLinearHead(BaseDecodeHead):  # type: ignore[misc]
    """[BatchNorm, Dropout2d,] 1x1 convolution over one or several maps.

    The loss is mmsegmentation's cross-entropy on logits upsampled to the mask, averaged over all
    pixels, ignored ones too. With BatchNorm or dropout, which the released configs have, the
    concatenation is built after all.

    Args:
        in_channels: D_i, channels of the maps.
        in_index: of the maps among those that the backbone gives.
        num_classes: C.
        batch_norm: an affine BatchNorm over the concatenation.
        dropout: rate of the Dropout2d before the 1x1 convolution.
        init_std: standard deviation of the normal initialisation of `conv_seg`; the bias is zero.
        ignore_index: label left out of the loss.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int],
        num_classes: int,
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
        init_std: float = 0.01,
        ignore_index: int = 255,
    ) -> None:
        whole = batch_norm or dropout > 0.0
        super().__init__(
            tuple(in_channels),
            sum(in_channels),
            num_classes=num_classes,
            dropout_ratio=dropout,
            in_index=tuple(in_index),
            input_transform="resize_concat" if whole else "multiple_select",
            loss_decode={"type": CrossEntropyLoss},
            ignore_index=ignore_index,
            align_corners=False,
            init_cfg={"type": "Normal", "std": init_std, "override": {"name": "conv_seg"}},
        )
        self.norm = nn.BatchNorm2d(self.channels) if batch_norm else None

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, C, h_0, w_0) of all of the backbone's maps (B, D_i, h_i, w_i)."""
        chosen = self._transform_inputs(inputs)
        if isinstance(chosen, Tensor):
            joined: Tensor = self.cls_seg(chosen if self.norm is None else self.norm(chosen))
            return joined
        columns = self.conv_seg.weight.split([one.shape[1] for one in chosen], dim=1)
        logits = F.conv2d(chosen[0], columns[0], self.conv_seg.bias)
        for features, weight in zip(chosen[1:], columns[1:], strict=True):
            part = F.conv2d(features, weight)
            if part.shape != logits.shape:
                part = F.interpolate(
                    part,
                    size=logits.shape[2:],
                    mode="bilinear",
                    align_corners=self.align_corners,
                )
            logits = logits + part
        return logits
