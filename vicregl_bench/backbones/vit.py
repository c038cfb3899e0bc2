"""Vision transformers with timm's key names, for pictures of any size.

timm's VisionTransformer does the work. Sources: Dosovitskiy et al. 2021 and Touvron et al. 2021
(tiny, small, base, large), Caron et al. 2021 (patch 8), Chen et al. 2021 (MoCo v3: a ViT-S of 12
heads where everybody else's has 6, in the same shapes), He et al. 2022 (MAE's ViT-H/14), Oquab et
al. 2024 and Darcet et al. 2024 (DINOv2: LayerScale, and four registers).
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from vicregl_bench.backbones.contract import ANY, Architecture, Backbone, Pooling, Shapes
from vicregl_bench.backbones.shapes import shapes_of
from vicregl_bench.errors import ConfigError

LAYER_SCALE_INIT = 1e-5
"""DINOv2's initial `gamma`."""

TEMPERATURE = 10000.0
"""Of the fixed positions (MoCo v3's and MAE's code)."""

FIXED_TOLERANCE = 1e-4
"""Above float32's rounding at positions up to 100 (1e-5), far below learned values (1e-2)."""

Order = Literal["moco_v3", "mae"]


@dataclass(frozen=True)
class _Spec:
    width: int
    depth: int
    heads: int
    patch: int
    side: int = 224  # px of the square picture that the released positions belong to
    layer_scale: bool = False
    registers: int = 0

    @property
    def class_positions(self) -> int:
        """Rows of `pos_embed` before those of the patches: none where registers are (timm)."""
        return 0 if self.registers else 1

    @property
    def positions(self) -> int:
        return (self.side // self.patch) ** 2 + self.class_positions

    @property
    def indices(self) -> tuple[int, ...]:
        """Blocks that give maps: 3, 5, 7, 11 of 12 (iBOT, BEiT), as far down in other depths."""
        return tuple(self.depth * k // 12 - 1 for k in (4, 6, 8, 12))


def _specs() -> dict[str, _Spec]:
    tiny, small, base, large = (192, 12, 3), (384, 12, 6), (768, 12, 12), (1024, 24, 16)
    return {
        "vit_tiny_patch16": _Spec(*tiny, 16),
        "vit_small_patch16": _Spec(*small, 16),
        "vit_small_patch16_12heads": _Spec(384, 12, 12, 16),
        "vit_base_patch16": _Spec(*base, 16),
        "vit_large_patch16": _Spec(*large, 16),
        "vit_small_patch8": _Spec(*small, 8),
        "vit_base_patch8": _Spec(*base, 8),
        "vit_huge_patch14": _Spec(1280, 32, 16, 14),
        "vit_small_patch14_dinov2": _Spec(*small, 14, 518, True),
        "vit_base_patch14_dinov2": _Spec(*base, 14, 518, True),
        "vit_large_patch14_dinov2": _Spec(*large, 14, 518, True),
        "vit_small_patch14_reg4_dinov2": _Spec(*small, 14, 518, True, 4),
        "vit_base_patch14_reg4_dinov2": _Spec(*base, 14, 518, True, 4),
        "vit_large_patch14_reg4_dinov2": _Spec(*large, 14, 518, True, 4),
    }


_SPECS = _specs()

ARCHS: dict[str, Architecture] = {
    name: Architecture(
        name=name,
        family="vit",
        widths=(spec.width,) * 4,
        strides=(spec.patch,) * 4,
        segmentation=(0, 1, 2, 3),
        proposals=3,
        regions=3,
    )
    for name, spec in _SPECS.items()
}


def heads_of(name: str) -> int:
    """Number of attention heads of an architecture."""
    return _SPECS[name].heads


def positions_side(name: str, positions: int) -> int:
    """Side of the square grid of patches that a number of positions stands for.

    Raises:
        ConfigError: they are no square grid, or have a class position too many or too few.
    """
    spec = _SPECS[name]
    patches = positions - spec.class_positions
    grid = math.isqrt(max(patches, 0))
    if grid == 0 or grid**2 != patches:
        beside = " and a class position" if spec.class_positions else ""
        raise ConfigError(
            f"{name}: {positions} positions are no square grid of patches{beside}; "
            f"a {spec.side} px picture has {spec.positions}"
        )
    return grid


def _options(name: str, positions: int) -> dict[str, Any]:
    """Keyword arguments of timm's VisionTransformer."""
    spec = _SPECS[name]
    return {
        "img_size": positions_side(name, positions) * spec.patch,
        "patch_size": spec.patch,
        "embed_dim": spec.width,
        "depth": spec.depth,
        "num_heads": spec.heads,
        "qkv_bias": True,
        "init_values": LAYER_SCALE_INIT if spec.layer_scale else None,
        "reg_tokens": spec.registers,
        "no_embed_class": spec.class_positions == 0,
        "global_pool": "token",  # "avg" would bring an fc_norm that no checkpoint has
        "num_classes": 0,
        "dynamic_img_size": True,
    }


@cache
def _vit_class() -> type[Backbone]:
    """The class of our ViTs; timm, which takes seconds to import, stays out until then."""
    from timm.models.vision_transformer import VisionTransformer

    class ViT(VisionTransformer, Backbone):
        def __init__(self, name: str, positions: int, pooling: Pooling, output_norm: bool) -> None:
            super().__init__(**_options(name, positions))
            self.arch = ARCHS[name]
            self.strides = self.arch.strides
            self.pooling = pooling
            self.output_norm = output_norm

        def _whole_patches(self, images: Tensor) -> Tensor:
            patch = _SPECS[self.arch.name].patch
            size = [side + -side % patch for side in images.shape[-2:]]
            if size == list(images.shape[-2:]):
                return images
            return F.interpolate(images, size=size, mode="bilinear", align_corners=False)

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            maps = self.forward_intermediates(
                self._whole_patches(images),
                indices=list(_SPECS[self.arch.name].indices),
                norm=self.output_norm,
                intermediates_only=True,
            )
            return tuple(cast(list[Tensor], maps))

        def pooled(self, images: Tensor) -> Tensor:
            tokens = self.forward_features(self._whole_patches(images))
            if self.pooling == "cls":
                return tokens[:, 0]
            return tokens[:, self.num_prefix_tokens :].mean(dim=1)

        def vectors(self, images: Tensor) -> dict[str, Tensor]:
            blocks = self.forward_intermediates(
                self._whole_patches(images),
                indices=4,
                norm=True,
                return_prefix_tokens=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            pairs = cast(list[tuple[Tensor, Tensor]], blocks)
            classes = [prefix[:, 0] for _, prefix in pairs]
            mean = pairs[-1][0].mean(dim=1)
            pooled = classes[-1] if self.pooling == "cls" else mean
            return {"pooled": pooled, "avg": mean, "blocks": torch.cat(classes, dim=1)}

    return ViT


def build_vit(
    name: str,
    positions: int | None = None,
    *,
    pooling: Pooling = "cls",
    output_norm: bool = False,
) -> Backbone:
    """Build a ViT whose forward gives the patch tokens after four of its blocks.

    Positions are interpolated to the input's grid by timm: bicubic with antialiasing. Deviation:
    DINO, iBOT and MAE interpolate without, which differs a little.

    Deviation: an input side that is no multiple of the patch is resized (bilinear) to the next
    multiple before the patches are cut, where DINOv2's evaluation pads with zeros: the maps then
    cover the picture exactly, as heads that upsample them to the picture assume.

    Args:
        name: a key of `ARCHS`.
        positions: rows of the file's `pos_embed`, the class position included where the
            architecture has one; by default those of the native size (224 px, DINOv2 518).
        pooling: "cls": the class token after the final norm; "avg": the mean of the patch tokens
            after the final norm, class token and registers left out.
        output_norm: apply the final norm to every map (DINOv2's evaluation); otherwise the maps
            are the blocks' raw outputs (iBOT's).

    Returns:
        A module mapping images (B, 3, H, W) to four maps (B, D, ceil(H / patch), ceil(W / patch)),
        whose state dict has timm's keys without head. Its own weights are placeholders. Of its
        `vectors`, all after the final norm, "avg" is the mean of the patch tokens and "blocks" the
        class tokens of the last four blocks, as DINO's and DINOv2's linear evaluation read them.

    Raises:
        ConfigError: unknown architecture or pooling, or positions that are no square grid.
    """
    if name not in _SPECS:
        raise ConfigError(f"unknown architecture {name!r}; known: {', '.join(_SPECS)}")
    if pooling not in get_args(Pooling):
        raise ConfigError(f"unknown pooling {pooling!r}; use one of {', '.join(get_args(Pooling))}")
    if positions is None:
        positions = _SPECS[name].positions
    return _vit_class()(name, positions, pooling, output_norm)


@cache
def vit_shapes(name: str) -> Shapes:
    """Shape of every parameter of an architecture, by timm's key names.

    The number of positions is `ANY`.

    Raises:
        ConfigError: unknown architecture.
    """
    from timm.models.vision_transformer import VisionTransformer

    if name not in _SPECS:
        raise ConfigError(f"unknown architecture {name!r}; known: {', '.join(_SPECS)}")
    spec = _SPECS[name]
    shallow = _options(name, spec.positions) | {"depth": 1}
    shapes = shapes_of(lambda: VisionTransformer(**shallow), {"blocks.": spec.depth})
    return {**shapes, "pos_embed": (1, ANY, spec.width)}


def sincos_positions(grid: tuple[int, int], width: int, order: Order = "moco_v3") -> Tensor:
    """Fixed two-dimensional sine-cosine positions behind a class position of zeros.

    A quarter of the channels each: sine and cosine of one coordinate, then of the other. MoCo v3
    (`vits.py`) begins with the row, MAE (`util/pos_embed.py`) with the column, whatever the
    variables there are called: their meshgrids run in other orders.

    Args:
        grid: rows and columns of patches.
        width: of the embedding, a multiple of 4.
        order: whose code is followed.

    Returns:
        Positions (1, 1 + rows * columns, width), patches row by row, float32.

    Raises:
        ConfigError: the width is no multiple of 4.
    """
    if width % 4:
        raise ConfigError(f"sine-cosine positions of width {width}; use a multiple of 4")
    quarter = width // 4
    omega = TEMPERATURE ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij"
    )
    coordinates = (rows, columns) if order == "moco_v3" else (columns, rows)
    angles = [coordinate.reshape(-1, 1) * omega for coordinate in coordinates]
    patches = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return F.pad(patches, (0, 0, 1, 0)).unsqueeze(0).float()


def positions_kind(pos_embed: Tensor) -> Literal["fixed", "learned"]:
    """Whether a file's positions are a fixed sine-cosine table, to 1e-4, or were learned.

    Both MoCo v3's and MAE's order count as fixed.

    Args:
        pos_embed: positions (1, N, D) of a square grid, with a class position before them or not.
    """
    table = pos_embed.detach().reshape(-1, pos_embed.shape[-1]).float().cpu()
    count, width = table.shape
    side = math.isqrt(count)
    class_positions = count - side**2
    if class_positions > 1 or width % 4:
        return "learned"
    for order in get_args(Order):
        fixed = sincos_positions((side, side), width, order)[0, 1 - class_positions :]
        if torch.allclose(table, fixed, rtol=0, atol=FIXED_TOLERANCE):
            return "fixed"
    return "learned"
