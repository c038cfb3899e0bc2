"""Our backbones in configs of mmsegmentation and mmdetection.

A config that imports this module can name any checkpoint:

    custom_imports = dict(imports=['vicregl_bench.backbones.openmmlab'])
    backbone = dict(type='BenchBackbone', ckpt='FILE', output_stride=8, out_indices=(3,))

Both projects' registries fall back to mmengine's, where it is registered once.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.backbones.source import BackboneSource, read_backbone
from vicregl_bench.errors import ConfigError


def _check(out_indices: Sequence[int] | None, backbone: Backbone) -> tuple[int, ...]:
    count = len(backbone.strides)
    indices = tuple(range(count)) if out_indices is None else tuple(out_indices)
    if not indices or any(not 0 <= index < count for index in indices):
        raise ConfigError(f"out_indices {indices} is impossible; maps are 0 to {count - 1}")
    return indices


def _log_notes(source: BackboneSource) -> None:
    for note in source.notes:
        MMLogger.get_current_instance().warning("%s: %s", source.name, note)


def data_preprocessor_of(ckpt: str, kind: str, **options: Any) -> dict[str, Any]:
    """A data preprocessor that gives a checkpoint the input that its card says.

    Args:
        ckpt: file, or `random:ARCH`.
        kind: `SegDataPreProcessor` or `DetDataPreprocessor`.
        options: further settings of it, such as `size`.

    Raises:
        CheckpointError: the file cannot be read or does not hold a backbone whole.
    """
    card = read_backbone(ckpt).card
    rgb = card.channel_order == "rgb"  # mmcv reads BGR
    normalise = {"mean": list(card.mean), "std": list(card.std), "bgr_to_rgb": rgb}
    return {"type": kind, **normalise, **options}


@MODELS.register_module()
class BenchBackbone(BaseModule):  # type: ignore[misc]
    """A backbone of any checkpoint, frozen or trained.

    Args:
        ckpt: file, or `random:ARCH`.
        arch: architecture, where weights do not tell.
        method: reader of the checkpoint.
        prefix: key prefix of the backbone in the file.
        output_stride: of a ResNet's last map, 8, 16 or 32.
        stages: 4, or 3 for the trunk of a C4 detector, whose `shared_head` is a `BenchRes5`.
        out_indices: maps to give, of 0 to 3; None for all.
        frozen: no gradient, and evaluation mode whatever `train()` asks for, so that BatchNorm's
            statistics stay.

    Raises:
        CheckpointError: the file cannot be read or does not hold a backbone whole.
        ConfigError: unknown architecture or impossible option.
    """

    def __init__(
        self,
        ckpt: str,
        *,
        arch: str | None = None,
        method: str | None = None,
        prefix: str | None = None,
        output_stride: int | None = None,
        stages: int = 4,
        out_indices: Sequence[int] | None = None,
        frozen: bool = True,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=None)
        if init_cfg is not None:
            raise ConfigError("BenchBackbone reads its weights itself: name the file with ckpt")
        source = read_backbone(ckpt, arch=arch, method=method, prefix=prefix)
        _log_notes(source)
        self.body = source.build(output_stride, stages=stages)
        self.out_indices = _check(out_indices, self.body)
        self.out_channels = [self.body.arch.widths[index] for index in self.out_indices]
        self.out_strides = [self.body.strides[index] for index in self.out_indices]
        self.card = source.card
        self.frozen = frozen
        if frozen:
            self.body.requires_grad_(False)
            self.body.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, out_channels[i], H / out_strides[i], W / out_strides[i]) of (B, 3, H, W)."""
        maps = self.body(images)
        return tuple(maps[index] for index in self.out_indices)

    def train(self, mode: bool = True) -> nn.Module:
        """Switch the mode; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""


@MODELS.register_module()
class BenchRes5(BaseModule):  # type: ignore[misc]
    """The last stage of a ResNet as the shared RoI head of a C4 detector.

    Args:
        ckpt: file, or `random:ARCH`, as of the `BenchBackbone` that has three stages.
        arch: architecture, where weights do not tell.
        method: reader of the checkpoint.
        prefix: key prefix of the backbone in the file.

    Raises:
        CheckpointError: the file cannot be read or does not hold a backbone whole.
        ConfigError: the architecture is no ResNet.
    """

    def __init__(
        self,
        ckpt: str,
        *,
        arch: str | None = None,
        method: str | None = None,
        prefix: str | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=None)
        source = read_backbone(ckpt, arch=arch, method=method, prefix=prefix)
        _log_notes(source)
        self.layer4 = source.build_res5()
        self.out_channels = source.architecture.widths[-1]

    def forward(self, regions: Tensor) -> Tensor:
        """(N, widths[3], h / 2, w / 2) of regions (N, widths[2], h, w)."""
        features: Tensor = self.layer4(regions)
        return features

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""
