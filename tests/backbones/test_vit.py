from typing import Any

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor
from torch.nn import functional as F

from tests.backbones.checks import assert_near, check_precision_and_layout, check_training_mode
from vicregl_bench.backbones.contract import ANY, Backbone
from vicregl_bench.backbones.vit import (
    ARCHS,
    build_vit,
    positions_kind,
    sincos_positions,
    vit_shapes,
)
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.errors import ConfigError

TINY = "vit_tiny_patch16"


def lively(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The state with values under which positions, heads and scales all show in the features."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for key, value in state.items():
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("gamma"):
            values[key] = 0.5 + 0.1 * noise
        elif key in ("pos_embed", "cls_token", "reg_token"):
            values[key] = noise
        elif value.ndim == 1:
            values[key] = value + 0.1 * noise
        else:
            values[key] = noise / value[0].numel() ** 0.5
    return values


def smooth(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with fixed positions, which vary slowly as learned ones do."""
    pos_embed = state["pos_embed"]
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    return state | {"pos_embed": sincos_positions((side, side), pos_embed.shape[2])}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    return lively(random_state(TINY, 0))


def built(name: str, state: dict[str, Tensor], **options: Any) -> Backbone:
    backbone = build_vit(name, state["pos_embed"].shape[1], **options)
    backbone.load_state_dict(state, strict=True)
    return backbone.eval()


def peer(name: str, state: dict[str, Tensor], **options: Any) -> Any:
    model: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
    model.load_state_dict(checkpoint_filter_fn(dict(state), model), strict=True)
    return model.eval()


def apart(one: Tensor, other: Tensor) -> float:
    """Mean difference over mean size."""
    return float((one - other).abs().mean() / other.abs().mean())


@pytest.mark.parametrize(
    ("name", "timm_name", "size", "options"),
    [
        (TINY, "vit_tiny_patch16_224", 224, {}),
        ("vit_small_patch16", "vit_small_patch16_224", 96, {}),
        ("vit_small_patch16_12heads", "vit_small_patch16_224", 96, {"num_heads": 12}),
        ("vit_small_patch14_dinov2", "vit_small_patch14_dinov2", 84, {}),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2", 84, {}),
    ],
)
def test_equals_timm(name: str, timm_name: str, size: int, options: dict[str, Any]) -> None:
    model: Any = timm.create_model(timm_name, num_classes=0, img_size=size, **options).eval()
    state = lively(model.state_dict())
    model.load_state_dict(state)
    images = torch.randn(1, 3, size, size)
    backbone: Any = built(name, state)
    assert backbone.arch is ARCHS[name]
    assert backbone.strides == (images.shape[-1] // int(backbone(images)[0].shape[-1]),) * 4
    with torch.inference_mode():
        tokens, maps = model.forward_intermediates(images, indices=[3, 5, 7, 11])
        for ours, theirs in zip(backbone(images), maps, strict=True):
            assert_near(ours, theirs)
        assert_near(backbone.pooled(images), model.forward_head(tokens, pre_logits=True))
        backbone.output_norm, backbone.pooling = True, "avg"
        maps = model.forward_intermediates(images, [3, 5, 7, 11], norm=True)[1]
        for ours, theirs in zip(backbone(images), maps, strict=True):
            assert_near(ours, theirs)
        # the final norm is in the tokens already
        assert_near(backbone.pooled(images), model.pool(tokens, pool_type="avg"))


def test_512_px_with_positions_of_224(tiny: dict[str, Tensor]) -> None:
    images = torch.randn(1, 3, 512, 512)
    dynamic = peer("vit_tiny_patch16_224", tiny, dynamic_img_size=True)
    resampled = peer("vit_tiny_patch16_224", tiny, img_size=512)  # timm's filter interpolates
    with torch.inference_mode():
        ours = built(TINY, tiny)(images)
        assert [tuple(m.shape) for m in ours] == [(1, 192, 32, 32)] * 4
        for model in (dynamic, resampled):
            theirs = model.forward_intermediates(images, [3, 5, 7, 11], intermediates_only=True)
            for one, other in zip(ours, theirs, strict=True):
                assert_near(one, other)


def test_wide_pictures_get_wide_positions(tiny: dict[str, Tensor]) -> None:
    images = torch.randn(1, 3, 64, 128)
    resampled = resample_abs_pos_embed(tiny["pos_embed"], new_size=[4, 8])
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=(64, 128)).eval()
    model.load_state_dict(tiny | {"pos_embed": resampled})
    with torch.inference_mode():
        theirs = model.forward_intermediates(images, [3, 5, 7, 11], intermediates_only=True)
        for ours, other in zip(built(TINY, tiny)(images), theirs, strict=True):
            assert ours.shape[2:] == (4, 8)
            assert_near(ours, other)


def test_positions_that_are_not_interpolated_give_other_features(tiny: dict[str, Tensor]) -> None:
    state = smooth(tiny)
    naive: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=112).eval()
    naive.load_state_dict(state | {"pos_embed": state["pos_embed"][:, :50]})
    images = torch.randn(1, 3, 112, 112)
    right = peer("vit_tiny_patch16_224", state, img_size=112)
    with torch.inference_mode():
        ours = built(TINY, state).pooled(images)
        assert_near(ours, right(images))
        assert apart(naive(images), ours) > 0.05


def test_antialiasing_of_positions_is_a_small_deviation(tiny: dict[str, Tensor]) -> None:
    state = smooth(tiny)
    grid = state["pos_embed"][:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    plain = F.interpolate(grid, size=(20, 20), mode="bicubic").flatten(2).transpose(1, 2)
    theirs = built(TINY, state | {"pos_embed": torch.cat([state["pos_embed"][:, :1], plain], 1)})
    images = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        ours = built(TINY, state)(images)[-1]
        difference = apart(ours, theirs(images)[-1])
    assert 0 < difference < 0.02


def test_twelve_heads_in_six() -> None:
    state = lively(dict(build_vit("vit_small_patch16_12heads", 17).state_dict()))
    assert vit_shapes("vit_small_patch16_12heads") == vit_shapes("vit_small_patch16")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        right = built("vit_small_patch16_12heads", state).pooled(images)
        wrong = built("vit_small_patch16", state).pooled(images)
    assert apart(wrong, right) > 0.1


def test_mean_pooling_uses_no_random_norm(tiny: dict[str, Tensor]) -> None:
    naive: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg").eval()
    missing, unexpected = naive.load_state_dict(tiny, strict=False)
    assert missing == ["fc_norm.weight", "fc_norm.bias"]
    assert unexpected == ["norm.weight", "norm.bias"]
    images = torch.randn(1, 3, 224, 224)
    backbone = built(TINY, tiny, pooling="avg")
    with torch.inference_mode():
        ours = backbone.pooled(images)
        tokens = peer("vit_tiny_patch16_224", tiny).forward_features(images)
        assert_near(ours, tokens[:, 1:].mean(dim=1))
        assert apart(naive(images), ours) > 0.1
    assert not any("fc_norm" in key for key in backbone.state_dict())


def test_registers_are_in_neither_maps_nor_mean() -> None:
    name = "vit_small_patch14_reg4_dinov2"
    state = lively(dict(build_vit(name, 25).state_dict()))
    images = torch.randn(1, 3, 70, 70)
    backbone = built(name, state, pooling="avg", output_norm=True)
    with torch.inference_mode():
        last = backbone(images)[-1]
        assert last.shape == (1, 384, 5, 5)
        assert_near(backbone.pooled(images), last.mean(dim=(2, 3)))


def test_other_sizes_are_resized_to_whole_patches() -> None:
    name = "vit_small_patch14_dinov2"
    backbone = built(name, lively(dict(build_vit(name, 26).state_dict())))
    images = torch.randn(1, 3, 60, 72)
    whole = F.interpolate(images, size=(70, 84), mode="bilinear")
    with torch.inference_mode():
        maps = backbone(images)
        assert [tuple(m.shape[2:]) for m in maps] == [(5, 6)] * 4
        assert all(torch.equal(a, b) for a, b in zip(maps, backbone(whole), strict=True))
        assert torch.equal(backbone.pooled(images), backbone.pooled(whole))


@pytest.mark.parametrize("name", ARCHS)
def test_shapes_are_timms(name: str) -> None:
    timm_name = name.removesuffix("_12heads") + ("" if "dinov2" in name else "_224")
    with torch.device("meta"):
        model: Any = timm.create_model(timm_name, num_classes=0, weight_init="skip")
        backbone: Any = build_vit(name)  # at its native size
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in backbone.state_dict().items()} == shapes
    assert vit_shapes(name) == shapes | {"pos_embed": (1, ANY, model.embed_dim)}
    arch = ARCHS[name]
    assert arch.widths == (model.embed_dim,) * 4
    assert arch.strides == model.patch_embed.patch_size * 2
    assert (arch.family, arch.segmentation) == ("vit", (0, 1, 2, 3))
    assert (arch.proposals, arch.regions, arch.auxiliary) == (3, 3, 2)
    heads = 12 if name.endswith("_12heads") else model.blocks[0].attn.num_heads
    assert backbone.blocks[0].attn.num_heads == heads


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        (TINY, [3, 5, 7, 11]),
        ("vit_large_patch16", [7, 11, 15, 23]),
        ("vit_huge_patch14", [9, 15, 20, 31]),
    ],
)
def test_depths_of_the_maps(name: str, blocks: list[int]) -> None:
    with torch.device("meta"):
        backbone: Any = build_vit(name)
    for block in backbone.blocks:
        block.forward = lambda x: x + 1
    backbone._pos_embed = lambda x: torch.zeros(1, 1 + 4, 2)
    side = 2 * backbone.strides[0]
    maps = backbone(torch.zeros(1, 3, side, side, device="meta"))
    assert [m.unique().tolist() for m in maps] == [[index + 1] for index in blocks]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_and_layouts(dtype: torch.dtype, tiny: dict[str, Tensor]) -> None:
    backbone = built(TINY, tiny)
    check_precision_and_layout(backbone, torch.randn(2, 3, 72, 64), dtype)


def test_training_mode_changes_nothing(tiny: dict[str, Tensor]) -> None:
    backbone = built(TINY, tiny)
    check_training_mode(backbone, torch.randn(2, 3, 64, 64))


def moco_v3_positions(side: int, width: int) -> Tensor:
    """As `vits.py` of MoCo v3 names things: its "w" runs down the rows."""
    grid_w, grid_h = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    omega = 1.0 / 10000.0 ** (torch.arange(width // 4) / (width // 4))
    out_w, out_h = grid_w.reshape(-1, 1) * omega, grid_h.reshape(-1, 1) * omega
    table = torch.cat([out_w.sin(), out_w.cos(), out_h.sin(), out_h.cos()], dim=1)
    return torch.cat([torch.zeros(1, 1, width), table[None]], dim=1)


def mae_positions(side: int, width: int) -> Tensor:
    """As `util/pos_embed.py` of MAE names things: its "h" runs along the columns."""
    grid_h, grid_w = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy")
    omega = 1.0 / 10000.0 ** (torch.arange(width // 4) / (width / 4))
    halves = [grid.reshape(-1, 1) * omega for grid in (grid_h, grid_w)]
    table = torch.cat([torch.cat([x.sin(), x.cos()], dim=1) for x in halves], dim=1)
    return torch.cat([torch.zeros(1, 1, width), table[None]], dim=1)


def test_fixed_positions() -> None:
    moco, mae = moco_v3_positions(14, 384), mae_positions(14, 384)
    torch.testing.assert_close(sincos_positions((14, 14), 384), moco, rtol=0, atol=1e-5)
    torch.testing.assert_close(sincos_positions((14, 14), 384, "mae"), mae, rtol=0, atol=1e-5)
    assert (moco - mae).abs().max() > 1
    # row 2, column 3 of a 4 x 5 grid, slowest-turning last: sin, cos of the row, then the column
    row_first = sincos_positions((4, 5), 8)[0, 1 + 2 * 5 + 3]
    angles = torch.tensor([2.0, 0.02, 3.0, 0.03])
    expected = torch.cat([angles[:2].sin(), angles[:2].cos(), angles[2:].sin(), angles[2:].cos()])
    torch.testing.assert_close(row_first, expected)
    with pytest.raises(ConfigError, match="multiple of 4"):
        sincos_positions((2, 2), 6)


def test_kind_of_positions(tiny: dict[str, Tensor]) -> None:
    for table in (moco_v3_positions(14, 384), mae_positions(16, 1280)):
        assert positions_kind(table) == "fixed"
        assert positions_kind(table[:, 1:]) == "fixed"  # without class position
        assert positions_kind(table + 1e-3) == "learned"
        assert positions_kind(table[:, :-1]) == "learned"  # no square grid
    assert positions_kind(tiny["pos_embed"]) == "learned"


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = (random_state(TINY, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["pos_embed"], other["pos_embed"])
    # timm: truncated normal of standard deviation 0.02
    assert float(one["blocks.3.mlp.fc1.weight"].std()) == pytest.approx(0.02, rel=0.02)


def test_impossible_options() -> None:
    with pytest.raises(ConfigError, match="vit_tiny_patch16"):
        build_vit("vit_tiny")
    with pytest.raises(ConfigError, match=r"196 positions .* class position; a 224 px .* 197"):
        build_vit(TINY, 196)
    with pytest.raises(ConfigError, match="1370 positions"):
        build_vit("vit_small_patch14_reg4_dinov2", 1370)  # the class position was not merged
    with pytest.raises(ConfigError, match="avg, cls"):
        build_vit(TINY, pooling="max")  # type: ignore[arg-type]
