import re
from typing import Any

import pytest
import timm
import torch
from mmseg.models.backbones import SwinTransformer as MMSegSwin
from torch import Tensor, nn

from tests.backbones.checks import assert_near, check_precision_and_layout, check_training_mode
from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.backbones.swin import ARCHS, build_swin, swin_shapes
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.errors import ConfigError

TINY = "swin_tiny_patch4_window7"


def lively(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The state with values under which attention and its bias show in the features."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for key, value in state.items():
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("bias_table"):
            values[key] = noise
        elif value.ndim == 1:
            values[key] = value + 0.1 * noise
        else:
            values[key] = noise / value[0].numel() ** 0.5
    return values


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return lively(random_state(TINY, 0))


@pytest.fixture(scope="module")
def backbone(state: dict[str, Tensor]) -> Backbone:
    built = build_swin(TINY)
    built.load_state_dict(state, strict=True)
    return built.eval()


def mmseg_swin(state: dict[str, Tensor]) -> nn.Module:
    """The Swin of mmsegmentation, whose stages end with their merging, with raw outputs."""
    peer: nn.Module = MMSegSwin(drop_path_rate=0.0)
    renamed = {}
    for key, value in state.items():
        found = re.match(r"layers\.(\d)\.downsample\.(.*)", key)
        if found:
            key = f"stages.{int(found[1]) - 1}.downsample.{found[2]}"
            # neighbours: timm has them outermost, first down; unfold innermost, first to the right
            order = value.reshape(*value.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :]
            value = order.transpose(-1, -2).reshape(value.shape)
        key = key.replace("patch_embed.proj", "patch_embed.projection").replace(
            "layers.", "stages."
        )
        key = key.replace(".attn.", ".attn.w_msa.")
        key = key.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
        renamed[key] = value
    missing, unexpected = peer.load_state_dict(renamed, strict=False)
    assert unexpected == ["norm.weight", "norm.bias"]
    assert all(re.match(r"norm\d|.*relative_position_index", key) for key in missing)
    for stage in range(4):
        setattr(peer, f"norm{stage}", nn.Identity())
    peer.eval()  # not chained: it returns None
    return peer


def test_equals_timm_at_224(state: dict[str, Tensor], backbone: Backbone) -> None:
    peer: Any = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0)
    peer.load_state_dict(state, strict=True)
    peer.eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        last, maps = peer.forward_intermediates(images)
        for ours, theirs in zip(backbone(images), maps, strict=True):
            assert_near(ours, theirs)
        assert_near(backbone.pooled(images), peer.forward_head(last, pre_logits=True))


# the last maps, 8 x 9 and 10 x 8, are larger than the window; the second input is no multiple of 4
@pytest.mark.parametrize("size", [(240, 264), (302, 237)])
def test_equals_mmseg_at_other_sizes(
    size: tuple[int, int], state: dict[str, Tensor], backbone: Backbone
) -> None:
    images = torch.randn(1, 3, *size)
    with torch.inference_mode():
        for ours, theirs in zip(backbone(images), mmseg_swin(state)(images), strict=True):
            assert_near(ours, theirs)


def test_timm_lets_opposite_borders_see_each_other(
    state: dict[str, Tensor], backbone: Backbone
) -> None:
    peer: Any = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, dynamic_img_size=True, always_partition=True
    )
    peer.load_state_dict(state, strict=True)
    peer.eval()
    images = torch.randn(1, 3, 128, 64)  # 32 rows of patches: windows of 7 do not divide them
    changed = images.clone()
    changed[:, :, -4:] += 1  # the last row of patches
    with torch.inference_mode():
        ours, ours_changed = (backbone(x)[0][:, :, 0] for x in (images, changed))
        first, first_changed = (
            peer.forward_intermediates(x, indices=[0])[1][0][:, :, 0] for x in (images, changed)
        )
    assert_near(ours, ours_changed)
    assert (first - first_changed).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((32, 32), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((64, 100), [(16, 25), (8, 13), (4, 7), (2, 4)]),
        ((97, 66), [(25, 17), (13, 9), (7, 5), (4, 3)]),
    ],
)
def test_maps_of_any_size(
    size: tuple[int, int], maps: list[tuple[int, int]], backbone: Backbone
) -> None:
    images = torch.randn(1, 3, *size)
    assert backbone.arch is ARCHS[TINY]
    assert backbone.strides == backbone.arch.strides
    with torch.inference_mode():
        made = backbone(images)
        assert [tuple(m.shape[2:]) for m in made] == maps
        assert tuple(m.shape[1] for m in made) == backbone.arch.widths
        assert all(bool(m.isfinite().all()) for m in made)
        assert backbone.pooled(images).shape == (1, 768)


def test_pictures_do_not_see_each_other(backbone: Backbone) -> None:
    images = torch.randn(2, 3, 96, 72)
    with torch.inference_mode():
        both = backbone(images)
        for index in range(2):
            alone = backbone(images[index : index + 1])
            for ours, theirs in zip(both, alone, strict=True):
                assert_near(ours[index : index + 1], theirs)


@pytest.mark.parametrize("name", ARCHS)
def test_shapes_are_timms(name: str) -> None:
    with torch.device("meta"):
        peer: Any = timm.create_model(f"{name}_224", num_classes=0)
    shapes = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    assert swin_shapes(name) == shapes
    assert not any("attn_mask" in key or "position_index" in key for key in shapes)
    arch = ARCHS[name]
    assert arch.widths == tuple(info["num_chs"] for info in peer.feature_info)
    assert arch.strides == tuple(info["reduction"] for info in peer.feature_info)
    assert (arch.family, arch.segmentation) == ("swin", (0, 1, 2, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_and_layouts(dtype: torch.dtype, backbone: Backbone) -> None:
    check_precision_and_layout(backbone, torch.randn(1, 3, 96, 64), dtype)


def test_training_mode_changes_nothing(backbone: Backbone) -> None:
    check_training_mode(backbone, torch.randn(1, 3, 64, 64))


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, other = random_state(TINY, 0), random_state(TINY, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(one["patch_embed.proj.weight"], other["patch_embed.proj.weight"])
    torch.manual_seed(0)
    peer = timm.create_model(f"{TINY}_224", num_classes=0).state_dict()
    assert all(torch.equal(one[key], peer[key]) for key in one)


def test_unknown_architecture() -> None:
    with pytest.raises(ConfigError, match="swin_small_patch4_window7"):
        build_swin("swin_tiny_patch4_window7_224")
