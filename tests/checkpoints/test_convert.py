import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor

from tests.checkpoints.layouts import prefixed
from tests.checkpoints.names.peers import (
    SWIN_SIDE,
    assert_same,
    canonical_states,
    resnet,
    swin,
    vit,
)
from vicregl_bench.checkpoints.convert import FORMATS, convert_state, save_converted
from vicregl_bench.checkpoints.names import find_dialect
from vicregl_bench.errors import CheckpointError

CARD = {"method": "vicregl", "arch": "resnet50", "mean": [123.675, 116.28, 103.53]}
STATES = canonical_states()

POSSIBLE = {
    "resnet": ("torchvision", "timm", "mmseg", "mmdet", "detectron2", "released"),
    "convnext": ("torchvision", "timm", "mmseg", "mmdet"),
    "convnext plain": ("timm", "mmseg", "mmdet", "released"),
    "vit": ("torchvision", "timm", "mmseg"),
    "vit dinov2": ("timm",),
    "swin": ("torchvision", "timm", "mmseg", "mmdet"),
}
PAIRS = [(name, to) for name, formats in POSSIBLE.items() for to in formats]
IMPOSSIBLE = [(name, to) for name in POSSIBLE for to in FORMATS if to not in POSSIBLE[name]]


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("name", "to"), PAIRS)
def test_every_possible_pair_is_written_and_read_back(name: str, to: str, tmp_path: Path) -> None:
    family = name.partition(" ")[0]
    out = tmp_path / ("out.pkl" if to == "detectron2" else "out.pth")
    save_converted(convert_state(STATES[name], family, to), to, out, card=CARD)
    if to == "detectron2":
        arrays = pickle.loads(out.read_bytes())["model"]
        state = {key: torch.from_numpy(value) for key, value in arrays.items()}
        expected = {k: v for k, v in STATES[name].items() if "num_batches" not in k}
        assert_same(find_dialect("detectron2", "resnet").read(state), expected)
        return
    loaded = _load(out)
    state = loaded["state_dict"] if to in ("mmseg", "mmdet") else loaded
    readings = [
        found.read(state)
        for found in (find_dialect(n, family) for n in _dialects(family))
        if found.read(state) is not None
    ]
    prefix = "backbone." if (family, to) == ("swin", "mmdet") else ""
    assert_same(readings[0] if readings else state, prefixed(STATES[name], prefix))


def _dialects(family: str) -> tuple[str, ...]:
    others = () if family == "resnet" else ("torchvision", "openmmlab")
    return (*others, "released") if family == "convnext" else others


@pytest.mark.parametrize(("name", "to"), IMPOSSIBLE)
def test_every_other_pair_is_refused_with_what_is_possible(name: str, to: str) -> None:
    family = name.partition(" ")[0]
    with pytest.raises(CheckpointError, match=r"(written as|write it as one of) .*timm") as caught:
        convert_state(STATES[name], family, to)
    assert "\n" not in str(caught.value)


def test_mmdet_has_no_vit() -> None:
    message = "^mmdet has no vit here; a vit can be written as torchvision, timm, mmseg$"
    with pytest.raises(CheckpointError, match=message):
        convert_state(STATES["vit"], "vit", "mmdet")


def test_the_released_layout_refuses_layer_scale() -> None:
    message = (
        r"^VICRegL's released ConvNeXt has no place for LayerScale \(stages.0.blocks.0.gamma\); "
        "write it as one of torchvision, timm, mmseg, mmdet$"
    )
    with pytest.raises(CheckpointError, match=message):
        convert_state(STATES["convnext"], "convnext", "released")


@pytest.mark.parametrize(
    ("family", "to", "message"),
    [
        ("mlp", "timm", "unknown family 'mlp'; known: resnet, convnext, vit, swin"),
        ("swin", "onnx", "unknown format 'onnx'; a swin can be written as torchvision, timm"),
    ],
)
def test_unknown_names(family: str, to: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert_state({}, family, to)


def test_bare_state_dicts_load_strictly(tmp_path: Path) -> None:
    out = tmp_path / "timm.pth"
    save_converted(convert_state(STATES["vit"], "vit", "timm"), "timm", out)
    model = timm.models.VisionTransformer(
        64, 16, embed_dim=16, depth=3, num_heads=2, mlp_ratio=4, num_classes=0
    )
    model.load_state_dict(_load(out))
    out = tmp_path / "torchvision.pth"
    save_converted(convert_state(STATES["resnet"], "resnet", "torchvision"), "torchvision", out)
    resnet().load_state_dict(_load(out))


def test_detectron2_pickle(tmp_path: Path) -> None:
    """The layout of detectron2's tools/convert-torchvision-to-d2.py."""
    out = tmp_path / "r50.pkl"
    save_converted(convert_state(STATES["resnet"], "resnet", "detectron2"), "detectron2", out)
    raw = out.read_bytes()
    assert raw[:2] == b"\x80\x02"  # protocol 2
    content = pickle.loads(raw, encoding="latin1")
    assert set(content) == {"model", "__author__", "matching_heuristics"}
    assert content["__author__"] == "vicregl-bench"
    assert content["matching_heuristics"] is True
    stem = content["model"]["stem.conv1.weight"]
    assert isinstance(stem, np.ndarray)
    assert np.array_equal(stem, STATES["resnet"]["conv1.weight"].numpy())


@pytest.mark.parametrize("to", ["mmseg", "mmdet"])
@torch.inference_mode()
def test_openmmlab_loads_its_file_into_its_swin(to: str, tmp_path: Path) -> None:
    from mmengine.config import ConfigDict

    from tests.checkpoints.names.test_swin import openmmlab

    ours = swin()
    out = tmp_path / "swin.pth"
    save_converted(convert_state(ours.state_dict(), "swin", to), to, out, card=CARD)
    assert _load(out)["meta"] == {"author": "vicregl-bench", "card": CARD}
    peer = openmmlab(to, init_cfg=ConfigDict(type="Pretrained", checkpoint=str(out)))
    peer.init_weights()
    peer.eval()
    images = torch.randn(1, 3, SWIN_SIDE, SWIN_SIDE)
    expected = ours.forward_features(images).permute(0, 3, 1, 2)
    torch.testing.assert_close(peer(images)[-1], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_mmseg_loads_its_file_into_its_vit(tmp_path: Path) -> None:
    from mmseg.models.backbones import VisionTransformer

    ours = vit()
    out = tmp_path / "vit.pth"
    save_converted(convert_state(ours.state_dict(), "vit", "mmseg"), "mmseg", out)
    peer = VisionTransformer(
        img_size=64,
        embed_dims=16,
        num_layers=3,
        num_heads=2,
        patch_bias=True,
        final_norm=True,
        norm_cfg={"type": "LN", "eps": 1e-6},
        init_cfg={"type": "Pretrained", "checkpoint": str(out)},
    )
    peer.init_weights()
    peer.eval()
    images = torch.randn(1, 3, 64, 64)
    expected = ours.forward_features(images)[:, 1:].transpose(1, 2)
    torch.testing.assert_close(peer(images)[-1].flatten(2), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_mmseg_loads_its_file_into_its_resnet(tmp_path: Path) -> None:
    import torchvision
    from mmseg.models.backbones import ResNet

    peer = torchvision.models.resnet18().eval()
    state = {key: value for key, value in peer.state_dict().items() if not key.startswith("fc.")}
    out = tmp_path / "resnet.pth"
    save_converted(convert_state(state, "resnet", "mmseg"), "mmseg", out)
    theirs = ResNet(18, init_cfg={"type": "Pretrained", "checkpoint": str(out)})
    theirs.init_weights()
    assert_same(theirs.state_dict(), state)


def test_safetensors_carry_the_card(tmp_path: Path) -> None:
    out = tmp_path / "swin.safetensors"
    converted = convert_state(STATES["swin"], "swin", "torchvision")
    save_converted(converted, "torchvision", out, card=CARD)
    assert_same(safetensors.torch.load_file(out), converted)
    with safetensors.safe_open(out, "pt") as stream:
        metadata = stream.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["card"]) == CARD


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("detectron2", "out.pth", "end it in .pkl"),
        ("mmseg", "out.safetensors", "end it in .pth"),
        ("mmdet", "out.safetensors", "end it in .pth"),
        ("onnx", "out.pth", "unknown format 'onnx'; known: torchvision, timm"),
    ],
)
def test_names_of_files_suit_their_format(to: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_converted({}, to, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    out = tmp_path / "out.pth"
    out.write_bytes(b"precious")
    state = {"norm.weight": torch.ones(3)}
    with pytest.raises(CheckpointError, match=r"out.pth exists; .*--force"):
        save_converted(state, "timm", out)
    assert out.read_bytes() == b"precious"
    save_converted(state, "timm", out, force=True)
    assert_same(_load(out), state)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cannot be written: .*; choose another place"):
        save_converted({"norm.weight": torch.ones(3)}, "timm", tmp_path / "file" / "out.pth")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="is a folder"):
        save_converted({"norm.weight": torch.ones(3)}, "timm", folder, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_views_are_written_without_what_surrounds_them(name: str, tmp_path: Path) -> None:
    whole = torch.arange(1_000_000, dtype=torch.float32)
    state: dict[str, Tensor] = {
        "a.weight": whole[:4],
        "b.weight": whole[:4],
        "c.weight": whole[:6].view(2, 3).T,
        "d.weight": torch.nn.Parameter(torch.ones(2)),
    }
    out = tmp_path / name
    save_converted(state, "timm", out)
    assert out.stat().st_size < 10_000
    loaded = safetensors.torch.load_file(out) if name.endswith("safetensors") else _load(out)
    assert_same(loaded, state)
    assert all(value.is_contiguous() for value in loaded.values())
