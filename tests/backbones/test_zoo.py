import pytest
import torch

from vicregl_bench.backbones.names import ALIASES
from vicregl_bench.backbones.zoo import (
    architecture_names,
    build_backbone,
    find_architecture,
    random_state,
    targets,
)
from vicregl_bench.errors import ConfigError


@pytest.mark.parametrize(
    "name", [name for name in architecture_names() if "resnet" not in name or "200" in name]
)
def test_shapes_and_facts_are_the_modules(name: str) -> None:
    """Shapes come from shallow modules; the whole one has the same keys in the same order."""
    with torch.device("meta"):
        backbone = build_backbone(name)
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    wanted = dict(targets()[name])
    if "pos_embed" in wanted:
        assert wanted["pos_embed"][1] < 0
        wanted["pos_embed"] = shapes["pos_embed"]
    assert list(wanted.items()) == list(shapes.items())
    assert backbone.arch is find_architecture(name)
    assert len(backbone.strides) == len(backbone.arch.widths) == 4


@pytest.mark.parametrize(
    "name",
    [
        "resnet18x0.25",
        "convnext_atto_no_layerscale",
        "vit_tiny_patch16",
        "swin_tiny_patch4_window7",
    ],
)
def test_one_interface(name: str) -> None:
    backbone = build_backbone(name)
    backbone.load_state_dict(random_state(name, 0), strict=True)
    backbone.eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps, vector = backbone(images), backbone.pooled(images)
    for one, width, stride in zip(maps, backbone.arch.widths, backbone.strides, strict=True):
        assert one.shape == (2, width, 64 // stride, 96 // stride)
    assert vector.shape == (2, backbone.arch.widths[-1])
    used = backbone.arch.segmentation
    assert used and all(0 <= index < len(maps) for index in used)


def test_aliases_and_unknown_names() -> None:
    for alias, name in ALIASES.items():
        assert find_architecture(alias).name == name
    with pytest.raises(ConfigError, match="did you mean vit_small_patch16"):
        find_architecture("vit_smal_patch16")


def test_impossible_options() -> None:
    with pytest.raises(ConfigError, match="C4"):
        build_backbone("vit_tiny_patch16", stages=3)
    with pytest.raises(ConfigError, match="no class token"):
        build_backbone("resnet18", pooling="cls")
