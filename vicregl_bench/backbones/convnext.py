"""ConvNeXts with timm's key names, with LayerScale (`gamma`) and without.

timm's ConvNeXt does the work. Sources: Liu et al. 2022, section 3 and appendix A (widths, depths,
LayerScale); VICRegL's release has no LayerScale: `<name>_no_layerscale`. Atto: timm's sizes, but
linear layers in the blocks where timm has 1x1 convolutions (same function, two-dimensional
weights), for tests and quick pipelines.
"""

from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture, Backbone, Shapes
from vicregl_bench.backbones.shapes import shapes_of
from vicregl_bench.errors import ConfigError

NO_LAYER_SCALE = "_no_layerscale"
"""Ending of the names of those without."""

LAYER_SCALE_INIT = 1e-6
"""Initial `gamma` (Liu et al. 2022, table 5): a block all but switched off, unless weights come."""


@dataclass(frozen=True)
class _Spec:
    depths: tuple[int, int, int, int]
    width: int  # of the first stage; each stage doubles it
    layer_scale: bool

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * 2**stage for stage in range(4))


def _specs() -> dict[str, _Spec]:
    plain = {
        "convnext_tiny": _Spec((3, 3, 9, 3), 96, True),
        "convnext_small": _Spec((3, 3, 27, 3), 96, True),
        "convnext_base": _Spec((3, 3, 27, 3), 128, True),
        "convnext_large": _Spec((3, 3, 27, 3), 192, True),
        "convnext_xlarge": _Spec((3, 3, 27, 3), 256, True),
        "convnext_atto": _Spec((2, 2, 6, 2), 40, True),
    }
    without = {
        name + NO_LAYER_SCALE: _Spec(spec.depths, spec.width, False) for name, spec in plain.items()
    }
    return plain | without


_SPECS = _specs()

ARCHS: dict[str, Architecture] = {
    name: Architecture(
        name=name,
        family="convnext",
        widths=spec.widths,
        strides=(4, 8, 16, 32),
        segmentation=(0, 1, 2, 3),
    )
    for name, spec in _SPECS.items()
}


def _require(name: str) -> _Spec:
    if name not in _SPECS:
        raise ConfigError(f"unknown architecture {name!r}; known: {', '.join(_SPECS)}")
    return _SPECS[name]


class _ConvNeXt(Backbone):
    def __init__(self, name: str, depths: tuple[int, ...]) -> None:
        from timm.models.convnext import ConvNeXt

        super().__init__()
        spec = _SPECS[name]
        built = ConvNeXt(
            depths=depths,
            dims=spec.widths,
            ls_init_value=LAYER_SCALE_INIT if spec.layer_scale else None,
            num_classes=0,
        )
        self.arch = ARCHS[name]
        self.strides = self.arch.strides
        self.stem: nn.Module = built.stem
        self.stages: nn.Sequential = built.stages
        self.head: nn.Module = built.head  # pools, then norms

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)

    def pool_map(self, last: Tensor) -> Tensor:
        vector: Tensor = self.head(last)
        return vector


def build_convnext(name: str) -> Backbone:
    """Build a ConvNeXt whose forward gives the raw maps of its four stages.

    No stochastic depth. An input side that is no multiple of 32 loses its last rows or columns
    where a stride does not divide it, as in the original.

    Args:
        name: a key of `ARCHS`.

    Returns:
        A module mapping images (B, 3, H, W) to maps of strides 4, 8, 16 and 32 without
        normalisation (VICRegL, appendix D.2), whose state dict has timm's keys without `head.fc`.
        The pooled vector is the mean of the last map, then `head.norm`. Its own weights are
        placeholders.

    Raises:
        ConfigError: unknown architecture.
    """
    return _ConvNeXt(name, _require(name).depths)


@cache
def convnext_shapes(name: str) -> Shapes:
    """Shape of every parameter of an architecture, by timm's key names.

    Raises:
        ConfigError: unknown architecture.
    """
    import timm.models  # noqa: F401  (not inside the meta device: its own tensors stay real)

    spec = _require(name)
    stages = {f"stages.{stage}.blocks.": depth for stage, depth in enumerate(spec.depths)}
    return shapes_of(lambda: _ConvNeXt(name, (1, 1, 1, 1)), stages)
