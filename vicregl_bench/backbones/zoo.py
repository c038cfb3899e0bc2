"""Every architecture by name: its facts, its shapes, its module, its random weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vicregl_bench.backbones import convnext, resnet, swin, vit
from vicregl_bench.backbones.contract import Architecture, Backbone, Pooling, Shapes
from vicregl_bench.backbones.names import canonical
from vicregl_bench.errors import ConfigError


@dataclass(frozen=True)
class _Family:
    architectures: Mapping[str, Architecture]
    build: Callable[..., Backbone]
    shapes: Callable[[str], Shapes]


_FAMILIES: dict[str, _Family] = {
    "resnet": _Family(resnet.ARCHS, resnet.build_resnet, resnet.resnet_shapes),
    "convnext": _Family(
        convnext.ARCHS,
        convnext.build_convnext,
        convnext.convnext_shapes,
    ),
    "vit": _Family(vit.ARCHS, vit.build_vit, vit.vit_shapes),
    "swin": _Family(swin.ARCHS, swin.build_swin, swin.swin_shapes),
}


def architecture_names() -> tuple[str, ...]:
    """All names, family by family; of equal shapes the usual one first."""
    return tuple(name for family in _FAMILIES.values() for name in family.architectures)


def find_architecture(name: str) -> Architecture:
    """Look an architecture up by its name or alias.

    Raises:
        ConfigError: no such architecture; near names are given.
    """
    import difflib

    name = canonical(name)
    for family in _FAMILIES.values():
        if name in family.architectures:
            return family.architectures[name]
    near = difflib.get_close_matches(name, architecture_names(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(
        f"unknown architecture {name!r}{hint} (`vicregl-bench ls architectures` lists them)"
    )


@cache
def targets() -> dict[str, Shapes]:
    """Shapes of every architecture, for `load_checkpoint`."""
    return {
        name: family.shapes(name) for family in _FAMILIES.values() for name in family.architectures
    }


def random_state(name: str, seed: int) -> dict[str, Tensor]:
    """State dict of a freshly initialised backbone, the same for the same seed.

    ResNets have torchvision's initialisation, the others timm's, ViTs at their native size. The
    global generator is left as it was.

    Raises:
        ConfigError: no such architecture.
    """
    found = find_architecture(name)
    if found.family == "resnet":
        return resnet.random_resnet_state(found.name, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(_FAMILIES[found.family].build(found.name).state_dict())


def build_backbone(
    name: str,
    *,
    output_stride: int | None = None,
    stages: int = 4,
    positions: int | None = None,
    pooling: Pooling | None = None,
    output_norm: bool = False,
) -> Backbone:
    """Build a backbone with placeholder weights.

    Args:
        name: of an architecture.
        output_stride: of a ResNet's last map, 8, 16 or 32; the other families have none to choose.
        stages: of a ResNet, 3 for the trunk of a C4 detector; the other families have all four.
        positions: number of positions in a ViT's weights, its class position included.
        pooling: of a ViT's pooled vector; the others have their own.
        output_norm: whether a ViT's final norm is applied to its maps.

    Raises:
        ConfigError: no such architecture, or an option that it does not have.
    """
    found = find_architecture(name)
    options: dict[str, Any] = {}
    if found.family == "resnet":
        options = {"output_stride": output_stride or 32, "stages": stages}
    elif stages != 4:
        raise ConfigError(f"a C4 split is of ResNets; {name} has none")
    elif output_stride is not None:
        raise ConfigError(f"an output stride is chosen of ResNets; {name} has its own")
    if found.family == "vit":
        options = {
            "positions": positions,
            "pooling": pooling or "cls",
            "output_norm": output_norm,
        }
    elif pooling == "cls":
        raise ConfigError(f"{name} has no class token; pooling is avg")
    elif output_norm:
        raise ConfigError(f"{name} has no final norm over its maps: output_norm is of ViTs")
    return _FAMILIES[found.family].build(found.name, **options)
