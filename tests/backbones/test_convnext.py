import copy
from typing import Any

import pytest
import timm
import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from tests.backbones.checks import assert_near, check_precision_and_layout, check_training_mode
from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.backbones.convnext import (
    ARCHS,
    build_convnext,
    convnext_shapes,
)
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.errors import ConfigError


def lively(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The state with values under which every part of a block shows in the features."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for key, value in state.items():
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("gamma"):
            values[key] = 0.5 + 0.1 * noise
        elif value.ndim == 1:
            values[key] = value + 0.1 * noise
        else:
            values[key] = noise / value[0].numel() ** 0.5
    return values


def built(name: str, state: dict[str, Tensor]) -> Backbone:
    backbone = build_convnext(name)
    backbone.load_state_dict(state, strict=True)
    return backbone.eval()


def peer(name: str, state: dict[str, Tensor], **options: Any) -> Any:
    model: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
    model.load_state_dict(state, strict=True)
    return model.eval()


def atto_without_layer_scale(state: dict[str, Tensor]) -> Any:
    """Without `create_model`, which drops `ls_init_value=None` and builds LayerScale."""
    model = ConvNeXt(
        depths=(2, 2, 6, 2), dims=(40, 80, 160, 320), num_classes=0, ls_init_value=None
    )
    model.load_state_dict(state, strict=True)
    return model.eval()


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        "convnext_atto",
        "convnext_atto_no_layerscale",
    ],
)
def test_equals_timm(name: str) -> None:
    state = lively(random_state(name, 0))
    backbone = built(name, state)
    if name.endswith("no_layerscale"):
        model = atto_without_layer_scale(state)
    else:
        model = peer(name, state, conv_mlp=False)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        last, maps = model.forward_intermediates(images)
        for ours, theirs in zip(backbone(images), maps, strict=True):
            assert_near(ours, theirs)
        assert_near(backbone.pooled(images), model.forward_head(last, pre_logits=True))


def test_linear_layers_equal_timms_one_by_one_convolutions() -> None:
    state = lively(random_state("convnext_atto", 0))
    convolutions = {
        key: value[:, :, None, None] if ".mlp." in key and value.ndim == 2 else value
        for key, value in state.items()
    }
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        theirs = peer("convnext_atto", convolutions).forward_features(images)
        assert_near(built("convnext_atto", state)(images)[-1], theirs)


def test_layer_scale_for_weights_without_it_silences_the_blocks() -> None:
    state = lively(random_state("convnext_atto_no_layerscale", 0))
    trap: Any = timm.create_model("convnext_atto", pretrained=False, num_classes=0, conv_mlp=False)
    missing, unexpected = trap.load_state_dict(state, strict=False)
    assert missing and all(key.endswith(".gamma") for key in missing) and not unexpected
    silent = copy.deepcopy(trap)
    for stage in silent.stages:
        stage.blocks = nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        right = built("convnext_atto_no_layerscale", state)(images)[-1]
        assert_near(right, atto_without_layer_scale(state).forward_features(images))
        wrong = trap.eval().forward_features(images)
        assert_near(wrong, silent.eval().forward_features(images), 1e-3)
        assert (right - wrong).abs().mean() > 0.5 * right.abs().mean()
    with pytest.raises(RuntimeError, match="gamma"):
        build_convnext("convnext_atto").load_state_dict(state, strict=True)


@pytest.mark.parametrize("name", [name for name in ARCHS if "no_layer" not in name])
def test_shapes_are_timms(name: str) -> None:
    with torch.device("meta"):
        model: Any = timm.create_model(name, num_classes=0, conv_mlp=False)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert convnext_shapes(name) == shapes
    without = {key: shape for key, shape in shapes.items() if not key.endswith("gamma")}
    assert convnext_shapes(f"{name}_no_layerscale") == without != shapes
    for arch in (ARCHS[name], ARCHS[f"{name}_no_layerscale"]):
        assert arch.widths == tuple(info["num_chs"] for info in model.feature_info)
        assert arch.strides == tuple(info["reduction"] for info in model.feature_info)
        assert (arch.family, arch.segmentation) == ("convnext", (0, 1, 2, 3))
        assert (arch.proposals, arch.regions, arch.auxiliary) == (2, 3, 2)


def test_maps_have_the_widths_and_strides_they_claim() -> None:
    backbone = build_convnext("convnext_atto")
    images = torch.zeros(1, 3, 64, 96)
    maps = backbone(images)
    assert backbone.arch is ARCHS["convnext_atto"]
    assert tuple(m.shape[1] for m in maps) == (40, 80, 160, 320) == backbone.arch.widths
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in backbone.strides]
    assert backbone.pooled(images).shape == (1, 320)
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert convnext_shapes("convnext_atto") == shapes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_and_layouts(dtype: torch.dtype) -> None:
    backbone = built("convnext_atto", lively(random_state("convnext_atto", 0)))
    check_precision_and_layout(backbone, torch.randn(2, 3, 64, 64), dtype)


def test_training_mode_changes_nothing() -> None:
    backbone = build_convnext("convnext_atto")
    check_training_mode(backbone, torch.randn(2, 3, 64, 64))


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = (random_state("convnext_atto", seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["stem.0.weight"], other["stem.0.weight"])
    # timm: truncated normal of standard deviation 0.02, LayerScale 1e-6
    assert float(one["stages.3.blocks.0.mlp.fc1.weight"].std()) == pytest.approx(0.02, rel=0.02)
    assert torch.all(one["stages.3.blocks.0.gamma"] == 1e-6)


def test_unknown_architecture() -> None:
    for function in (build_convnext, convnext_shapes):
        with pytest.raises(ConfigError, match="convnext_tiny_no_layerscale"):
            function("convnext_nano")
