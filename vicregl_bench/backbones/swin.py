"""Swin transformers with timm's key names, for pictures of any size.

timm's layers do the work. The order of padding, shift and mask around them is ours: timm pads a map
to whole windows after the cyclic shift, which lets opposite borders see each other in maps that the
window does not divide (those of 512 px). Source: Liu et al. 2021, and the padding of their code for
detection and segmentation (mmsegmentation's SwinTransformer).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vicregl_bench.backbones.contract import Architecture, Backbone, Shapes
from vicregl_bench.backbones.shapes import shapes_of
from vicregl_bench.errors import ConfigError

PATCH = 4
WINDOW = 7
APART = -100.0
"""Added to the attention between regions that the cyclic shift put together (their code)."""


@dataclass(frozen=True)
class _Spec:
    depths: tuple[int, int, int, int]
    width: int  # of the first stage; each stage doubles it
    heads: tuple[int, int, int, int]


_SPECS = {
    "swin_tiny_patch4_window7": _Spec((2, 2, 6, 2), 96, (3, 6, 12, 24)),
    "swin_small_patch4_window7": _Spec((2, 2, 18, 2), 96, (3, 6, 12, 24)),
}

ARCHS: dict[str, Architecture] = {
    name: Architecture(
        name=name,
        family="swin",
        widths=tuple(spec.width * 2**stage for stage in range(4)),
        strides=(4, 8, 16, 32),
        segmentation=(0, 1, 2, 3),
    )
    for name, spec in _SPECS.items()
}


def _windows(x: Tensor) -> Tensor:
    """Maps (B, H, W, C) cut into windows (B * number, area, C)."""
    from timm.models.swin_transformer import window_partition

    return window_partition(x, (WINDOW, WINDOW)).flatten(1, 2)


def _shift(length: int) -> int:
    """By how much a shifted block rolls an axis: not at all where one window holds it."""
    return 0 if length <= WINDOW else WINDOW // 2


def _regions(length: int, shift: int, device: torch.device) -> Tensor:
    """Which of the three parts of a rolled and padded axis each of its positions belongs to."""
    position = torch.arange(length, device=device)
    return (position >= length - WINDOW).int() + (position >= length - shift).int()


def _mask(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """What is added to the attention (number, area, area) in the windows of padded maps."""
    rows, columns = (_regions(x.shape[1 + i], shift[i], x.device) for i in (0, 1))
    region = _windows((3 * rows[:, None] + columns)[None, :, :, None]).squeeze(2)
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros_like(apart, dtype=x.dtype).masked_fill_(apart, APART)


def _attend(attention: nn.Module, x: Tensor, shifted: bool) -> Tensor:
    """Attention of maps (B, H, W, C) within windows: padded, rolled, cut, and all that undone."""
    from timm.models.swin_transformer import window_reverse

    _, height, width, _ = x.shape
    x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
    _, full_height, full_width, _ = x.shape
    shift = (_shift(height), _shift(width)) if shifted else (0, 0)
    mask = _mask(x, shift) if any(shift) else None
    x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
    windows = attention(_windows(x), mask=mask).unflatten(1, (WINDOW, WINDOW))
    x = window_reverse(windows, (WINDOW, WINDOW), full_height, full_width)
    return x.roll(shift, dims=(1, 2))[:, :height, :width]


def _require(name: str) -> _Spec:
    if name not in _SPECS:
        raise ConfigError(f"unknown architecture {name!r}; known: {', '.join(_SPECS)}")
    return _SPECS[name]


class _Swin(Backbone):
    def __init__(self, name: str, depths: tuple[int, ...]) -> None:
        from timm.models.swin_transformer import SwinTransformer

        super().__init__()
        spec = _SPECS[name]
        built = SwinTransformer(
            patch_size=PATCH,
            embed_dim=spec.width,
            depths=depths,
            num_heads=spec.heads,
            window_size=WINDOW,
            strict_img_size=False,
            drop_path_rate=0.0,
            num_classes=0,
        )
        self.arch = ARCHS[name]
        self.strides = self.arch.strides
        self.patch_embed: nn.Module = built.patch_embed
        self.layers: nn.Sequential = built.layers
        self.norm: nn.Module = built.norm

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Maps of the stages, (B, H, W, C)."""
        bottom, right = (-side % PATCH for side in images.shape[-2:])
        x = self.patch_embed(F.pad(images, (0, right, 0, bottom)))
        maps = []
        stage: Any
        for stage in self.layers:
            x = stage.downsample(x)
            for index, block in enumerate(stage.blocks):
                x = x + _attend(block.attn, block.norm1(x), shifted=index % 2 == 1)
                x = x + block.mlp(block.norm2(x))
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.permute(0, 3, 1, 2) for x in self._stages(images))

    def pool_map(self, last: Tensor) -> Tensor:
        x: Tensor = self.norm(last.permute(0, 2, 3, 1))
        return x.mean(dim=(1, 2))


def build_swin(name: str) -> Backbone:
    """Build a Swin whose forward gives the raw maps of its four stages.

    No stochastic depth. Inputs are padded with zeros at the bottom and the right to whole patches,
    maps to whole windows and to pairs of rows and columns before merging, as in the authors' code
    for segmentation: padding takes part in the attention, and maps of odd sizes reach beyond the
    picture. Deviation from that code: a map that one window holds is not shifted, as in the
    authors' classification model, so that 224 px gives that model's features.

    Args:
        name: a key of `ARCHS`.

    Returns:
        A module mapping images (B, 3, H, W) to maps (B, C, h, w) of strides 4, 8, 16 and 32
        without normalisation, whose state dict has timm's keys without `head`. The pooled vector
        is the mean of the last map after the final norm. Its own weights are placeholders.

    Raises:
        ConfigError: unknown architecture.
    """
    return _Swin(name, _require(name).depths)


@cache
def swin_shapes(name: str) -> Shapes:
    """Shape of every parameter of an architecture, by timm's key names.

    Neither `attn_mask` nor `relative_position_index` is among them: timm computes both.

    Raises:
        ConfigError: unknown architecture.
    """
    import timm.models  # noqa: F401  (not inside the meta device: its own tensors stay real)

    spec = _require(name)
    stages = {f"layers.{stage}.blocks.": depth for stage, depth in enumerate(spec.depths)}
    return shapes_of(lambda: _Swin(name, (1, 1, 1, 1)), stages)
