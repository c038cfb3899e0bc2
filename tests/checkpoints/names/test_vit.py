from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

from tests.checkpoints.layouts import prefixed
from tests.checkpoints.names.peers import assert_same, randomise, shapes, vit, without
from vicregl_bench.checkpoints.names import Dialect, find_dialect
from vicregl_bench.checkpoints.weights import weights_sha256
from vicregl_bench.errors import CheckpointError

TORCHVISION = find_dialect("torchvision", "vit")
OPENMMLAB = find_dialect("openmmlab", "vit")
DINOV2 = find_dialect("dinov2", "vit")


@pytest.fixture()
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
def test_torchvision_weights_give_torchvision_features(images: Tensor) -> None:
    peer = randomise(TorchvisionViT(64, 16, 3, 2, 16, 64))
    state = without(peer.state_dict(), "heads.")
    read = TORCHVISION.read(state)
    assert read is not None
    ours = vit()
    ours.load_state_dict(read)
    patches = peer._process_input(images)
    expected = peer.encoder(torch.cat([peer.class_token.expand(2, -1, -1), patches], 1))
    torch.testing.assert_close(ours.forward_features(images), expected, atol=1e-4, rtol=1e-4)
    assert TORCHVISION.write is not None
    assert_same(TORCHVISION.write(ours.state_dict()), state)


def test_torchvision_names_before_0_13() -> None:
    assert TORCHVISION.write is not None
    state = vit().state_dict()
    older = {
        key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for key, value in TORCHVISION.write(state).items()
    }
    assert_same(TORCHVISION.read(older), state)


def test_torchvision_names_of_the_published_sizes() -> None:
    with torch.device("meta"):
        peer = torchvision.models.vit_b_16()
        ours = timm.create_model("vit_base_patch16_224", num_classes=0)
    read = TORCHVISION.read(without(peer.state_dict(), "heads."))
    assert read is not None
    assert shapes(read) == shapes(ours.state_dict())


@torch.inference_mode()
def test_mmseg_weights_give_mmseg_features(images: Tensor) -> None:
    from mmseg.models.backbones import VisionTransformer as MmsegViT

    peer = randomise(
        MmsegViT(
            img_size=64,
            patch_size=16,
            embed_dims=16,
            num_layers=3,
            num_heads=2,
            mlp_ratio=4,
            patch_bias=True,
            final_norm=True,
            norm_cfg={"type": "LN", "eps": 1e-6},
        )
    )
    read = OPENMMLAB.read(peer.state_dict())
    assert read is not None
    ours = vit()
    ours.load_state_dict(read)
    expected = peer(images)[-1].flatten(2).transpose(1, 2)
    found = ours.forward_features(images)[:, 1:]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert OPENMMLAB.write is not None
    assert_same(OPENMMLAB.write(ours.state_dict()), peer.state_dict())


def _dinov2() -> tuple[dict[str, Tensor], VisionTransformer]:
    """Weights in DINOv2's layout, and timm's module made to compute what DINOv2 does.

    The module adds positions to all tokens; those of the registers are zero.
    """
    model = vit(init_values=1.0, reg_tokens=4)
    assert model.pos_embed is not None
    positions = model.pos_embed.data
    positions[:, 1:5] = 0
    state = dict(model.state_dict())
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([positions[:, :1], positions[:, 5:]], 1)
    state["mask_token"] = torch.zeros(1, 16)
    return state, model


@torch.inference_mode()
def test_dinov2_registers_give_the_same_features(images: Tensor) -> None:
    state, peer = _dinov2()
    read = DINOV2.read(prefixed(state, "teacher.backbone."))
    assert read is not None
    ours = vit(init_values=1.0, reg_tokens=4, no_embed_class=True)
    start = "teacher.backbone."
    assert f"{start}mask_token" in read
    ours.load_state_dict(
        {key.removeprefix(start): read[key] for key in read if "mask_token" not in key}
    )
    expected = peer.forward_features(images)
    torch.testing.assert_close(ours.forward_features(images), expected, atol=1e-5, rtol=1e-5)


def test_timm_reads_dinov2_registers_as_we_do() -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    state, _ = _dinov2()
    ours = vit(init_values=1.0, reg_tokens=4, no_embed_class=True)
    read = DINOV2.read(state)
    assert read is not None
    del read["mask_token"]
    assert_same(read, checkpoint_filter_fn(state, ours))


def test_half_precision_and_its_float32_cast_give_the_same_weights() -> None:
    """The class token and its position are added in float32, which their half cannot hold."""
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in _dinov2()[0].items()
    }
    read = [DINOV2.read(state), DINOV2.read({key: value.float() for key, value in state.items()})]
    assert read[0] is not None and read[1] is not None
    token, position = state["cls_token"].double(), state["pos_embed"][:, :1].double()
    torch.testing.assert_close(
        read[0]["cls_token"].double(), token + position, rtol=2**-24, atol=0.0
    )
    assert weights_sha256(read[0]) == weights_sha256(read[1])


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("pos_embed", ()),
        ("pos_embed", (17,)),
        ("pos_embed", (17, 16)),
        ("pos_embed", (1, 0, 16)),
        ("pos_embed", (1, 17, 8)),
        ("pos_embed", (2, 17, 16)),
        ("pos_embed", (1, 17, 4, 4)),
        ("cls_token", ()),
        ("cls_token", (16,)),
        ("cls_token", (1, 16)),
        ("cls_token", (1, 2, 16)),
        ("cls_token", (2, 1, 16)),
    ],
)
def test_dinov2_tokens_of_other_shapes_are_handed_through(key: str, shape: tuple[int, ...]) -> None:
    state = _dinov2()[0] | {key: torch.ones(shape)}
    read = DINOV2.read(state)
    assert read is not None and "reg_token" in read
    for name in ("cls_token", "pos_embed"):
        assert read[name] is state[name]


@pytest.mark.parametrize("key", ["cls_token", "pos_embed"])
def test_dinov2_tokens_that_cannot_be_added_are_handed_through(key: str) -> None:
    state = _dinov2()[0]
    for odd in (state[key].to_sparse(), state[key].int(), state[key].to("meta")):
        held = state | {key: odd}
        read = DINOV2.read(held)
        assert read is not None and "reg_token" in read
        assert read["cls_token"] is held["cls_token"] and read["pos_embed"] is held["pos_embed"]


def test_dinov2_blocks_in_chunks_are_numbered_through() -> None:
    """Each chunk begins with placeholders, so its blocks keep their numbers (BlockChunk)."""
    state = vit(init_values=1.0).state_dict()
    chunks = {"blocks.0.": "blocks.0.0.", "blocks.1.": "blocks.0.1.", "blocks.2.": "blocks.1.2."}
    chunked = {
        key.replace(key[:9], chunks[key[:9]]) if key[:9] in chunks else key: value
        for key, value in state.items()
    }
    assert "blocks.1.2.attn.qkv.weight" in chunked
    assert_same(DINOV2.read(prefixed(chunked, "backbone.")), prefixed(state, "backbone."))


def test_dinov2_without_registers_is_canonical() -> None:
    assert (
        DINOV2.read({**vit(init_values=1.0).state_dict(), "mask_token": torch.ones(1, 16)}) is None
    )


def test_dinov2_is_only_read() -> None:
    assert DINOV2.write is None


@pytest.mark.parametrize("dialect", [TORCHVISION, OPENMMLAB])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_values": 1.0}, r"no place for LayerScale \(blocks.0.ls1.gamma\)"),
        (
            {"reg_tokens": 4, "no_embed_class": True},
            r"no place for register tokens \(reg_token\)",
        ),
        ({"qkv_bias": False}, "always has biases of queries, keys and values"),
        ({"class_token": False, "global_pool": "avg"}, "always has a class token"),
    ],
)
def test_what_has_no_place_is_refused(
    dialect: Dialect, options: dict[str, Any], message: str
) -> None:
    assert dialect.write is not None
    with pytest.raises(CheckpointError, match=message):
        dialect.write(vit(**options).state_dict())
