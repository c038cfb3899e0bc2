import importlib
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from tests.checkpoints.layouts import prefixed
from tests.checkpoints.names.peers import (
    SWIN_SIDE,
    assert_same,
    randomise,
    shapes,
    swin,
    without,
)
from vicregl_bench.checkpoints.names import Dialect, find_dialect
from vicregl_bench.errors import CheckpointError

ORIGINAL = find_dialect("original", "swin")
TORCHVISION = find_dialect("torchvision", "swin")
OPENMMLAB = find_dialect("openmmlab", "swin")


@pytest.fixture()
def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, SWIN_SIDE, SWIN_SIDE, generator=generator)


def openmmlab(project: str, **options: Any) -> nn.Module:
    """Module of mmseg or mmdet of the size of `peers.swin`, with the last map's norm alone."""
    if project == "mmseg":
        from mmseg.models.backbones import SwinTransformer
    else:
        from mmdet.models.backbones import SwinTransformer
    module: nn.Module = SwinTransformer(
        pretrain_img_size=SWIN_SIDE,
        window_size=2,
        embed_dims=8,
        depths=(2, 2, 2, 2),
        num_heads=(1, 1, 2, 2),
        **{"out_indices": (3,), **options},
    )
    return module


@torch.inference_mode()
def test_torchvision_weights_give_torchvision_features(images: Tensor) -> None:
    peer = randomise(TorchvisionSwin([4, 4], 8, [2, 2, 2, 2], [1, 1, 2, 2], [2, 2]))
    state = without(peer.state_dict(), "head.")
    read = TORCHVISION.read(state)
    assert read is not None
    ours = swin()
    ours.load_state_dict(read)
    expected = peer.norm(peer.features(images))
    torch.testing.assert_close(ours.forward_features(images), expected, atol=1e-4, rtol=1e-4)
    assert TORCHVISION.write is not None
    assert_same(TORCHVISION.write(ours.state_dict()), state)


def test_torchvision_names_of_the_published_sizes() -> None:
    with torch.device("meta"):
        peer = torchvision.models.swin_t()
        ours = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    read = TORCHVISION.read(without(peer.state_dict(), "head."))
    assert read is not None
    assert shapes(read) == shapes(ours.state_dict())


def test_position_index_of_the_published_window() -> None:
    peer = torchvision.models.swin_transformer.ShiftedWindowAttention(8, [7, 7], [0, 0], 2)
    assert TORCHVISION.write is not None
    table = {"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(169, 2)}
    written = TORCHVISION.write(table)
    index = written["features.1.0.attn.relative_position_index"]
    assert torch.equal(index, peer.relative_position_index)


@pytest.mark.parametrize("project", ["mmseg", "mmdet"])
@torch.inference_mode()
def test_openmmlab_weights_give_openmmlab_features(project: str, images: Tensor) -> None:
    peer = randomise(openmmlab(project))
    read = OPENMMLAB.read(prefixed(peer.state_dict(), "backbone."))
    assert read is not None
    ours = swin()
    ours.load_state_dict({key.removeprefix("backbone."): value for key, value in read.items()})
    expected = peer(images)[-1].permute(0, 2, 3, 1)
    torch.testing.assert_close(ours.forward_features(images), expected, atol=1e-4, rtol=1e-4)
    assert OPENMMLAB.write is not None
    assert_same(OPENMMLAB.write(ours.state_dict()), peer.state_dict())


def test_norms_of_other_maps_are_handed_through() -> None:
    peer = randomise(openmmlab("mmseg", out_indices=(0, 1, 2, 3)))
    read = OPENMMLAB.read(peer.state_dict())
    assert read is not None
    assert set(read) - set(swin().state_dict()) == {
        f"norm{i}.{leaf}" for i in (0, 1, 2) for leaf in ("weight", "bias")
    }


def _original() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """microsoft/Swin-Transformer's state dict and timm's, of the same model."""
    state = swin().state_dict()
    theirs: dict[str, Tensor] = {}
    for key, value in state.items():
        for stage in (1, 2, 3):
            start = f"layers.{stage}.downsample."
            if key.startswith(start):
                key = key.replace(start, f"layers.{stage - 1}.downsample.")
                break
        theirs[key] = value
    for stage in range(4):
        for block in range(2):
            attention = f"layers.{stage}.blocks.{block}.attn"
            theirs[f"{attention}.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
        theirs[f"layers.{stage}.blocks.1.attn_mask"] = torch.zeros(4, 4, 4)
    return theirs, dict(state)


def test_original_names() -> None:
    theirs, state = _original()
    assert theirs["layers.0.downsample.reduction.weight"].shape == (16, 32)
    assert not any(key.startswith("layers.3.downsample") for key in theirs)
    head = {"head.weight": torch.ones(10, 64)}
    assert_same(ORIGINAL.read(theirs | head), state | head)
    assert ORIGINAL.write is not None
    buffers = ("relative_position_index", "attn_mask")
    kept = {key: value for key, value in theirs.items() if not key.endswith(buffers)}
    assert_same(ORIGINAL.write(state), kept)


def test_timm_reads_the_original_names_as_we_do() -> None:
    from timm.models.swin_transformer import checkpoint_filter_fn

    theirs, _ = _original()
    assert_same(ORIGINAL.read(theirs), checkpoint_filter_fn(dict(theirs), swin()))


def test_mmdet_converts_the_original_names_as_we_do() -> None:
    """Their converter is written for the files of microsoft/Swin-Transformer."""
    swin_converter = importlib.import_module("mmdet.models.backbones.swin").swin_converter

    theirs, state = _original()
    index = "relative_position_index"
    kept = {k: v for k, v in theirs.items() if not k.endswith((index, "attn_mask"))}
    expected = {
        key.removeprefix("backbone.").replace("norm.", "norm3.", 1)
        if key.startswith("backbone.norm.")
        else key.removeprefix("backbone."): value
        for key, value in swin_converter(kept).items()
    }
    assert OPENMMLAB.write is not None
    written = OPENMMLAB.write(state)
    assert_same({k: v for k, v in written.items() if not k.endswith(index)}, expected)


@pytest.mark.parametrize("shape", [(), (7,), (16, 7)])
def test_merging_norms_of_other_sizes_are_handed_through(shape: tuple[int, ...]) -> None:
    """OpenMMLab's order is turned in quarters, which seven channels do not have."""
    assert OPENMMLAB.write is not None
    written = OPENMMLAB.write(swin().state_dict())
    odd = torch.ones(shape)
    for part in ("norm", "reduction"):
        read = OPENMMLAB.read({**written, f"stages.0.downsample.{part}.weight": odd})
        assert read is not None
        assert read[f"layers.1.downsample.{part}.weight"] is odd


@pytest.mark.parametrize("shape", [(0,), (0, 8), (16, 0)])
def test_empty_merging_norms_stay_empty(shape: tuple[int, ...]) -> None:
    assert OPENMMLAB.write is not None
    written = OPENMMLAB.write(swin().state_dict())
    read = OPENMMLAB.read({**written, "stages.0.downsample.norm.weight": torch.ones(shape)})
    assert read is not None
    assert read["layers.1.downsample.norm.weight"].shape == shape


def test_merging_orders_differ() -> None:
    """Reading another order would load without an error."""
    state = dict(swin().state_dict())
    assert OPENMMLAB.write is not None
    written = OPENMMLAB.write(state)
    reduction = state["layers.1.downsample.reduction.weight"]
    theirs = written["stages.0.downsample.reduction.weight"]
    # channel 3 of the pixel at row 1, column 0: second of four in both, (4C) and (C, 2, 2)
    assert torch.equal(theirs[:, 3 * 4 + 2], reduction[:, 8 + 3])
    # row 0, column 1
    assert torch.equal(theirs[:, 3 * 4 + 1], reduction[:, 2 * 8 + 3])


@pytest.mark.parametrize("dialect", [ORIGINAL, TORCHVISION, OPENMMLAB])
def test_absolute_positions_have_no_place(dialect: Dialect) -> None:
    state = {**swin().state_dict(), "absolute_pos_embed": torch.zeros(1, 1024, 8)}
    assert dialect.write is not None
    with pytest.raises(CheckpointError, match="has no place for absolute_pos_embed"):
        dialect.write(state)
