"""Weights that load without an error and are wrong: the naive way beside ours.

Those of single families and readers stand with them; docs/checkpoints.md lists all with their test.
"""

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from mmseg.models.backbones import ResNet, ResNetV1c
from PIL import Image
from torch import Tensor, nn

from tests.checkpoints.layouts import LAYOUTS
from vicregl_bench.backbones.fit import normalise
from vicregl_bench.backbones.source import BackboneSource, read_backbone
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.checkpoints import find_reader
from vicregl_bench.errors import CheckpointError

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def different(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().mean()) > 0.02 * float(other.abs().mean())


def read(content: Any, tmp_path: Path, **options: Any) -> BackboneSource:
    torch.save(content, tmp_path / "weights.pth")
    return read_backbone(str(tmp_path / "weights.pth"), **options)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def test_a_plain_stem_into_a_deep_one(tmp_path: Path) -> None:
    """Mmseg's model zoo has ResNetV1c: three 3x3 convolutions where all of ours have one 7x7."""
    state = random_state("resnet50", 0)
    naive = ResNetV1c(depth=50)
    answer = naive.load_state_dict(state, strict=False)  # no error; the stem stays random
    assert "stem.0.weight" in answer.missing_keys and "conv1.weight" in answer.unexpected_keys
    assert "conv1.weight" in read(state, tmp_path).build().state_dict()
    with pytest.raises(CheckpointError, match=r"conv1\.weight is missing"):
        read(naive.state_dict(), tmp_path)


def test_a_nested_dict_with_strict_off(tmp_path: Path) -> None:
    state = random_state("resnet18", 0)
    naive = torchvision.models.resnet18()
    before = copy.deepcopy(naive.state_dict())
    nested: Any = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    naive.load_state_dict(nested, strict=False)  # no error; nothing matched
    assert all(torch.equal(before[key], value) for key, value in naive.state_dict().items())
    assert torch.equal(read(nested, tmp_path).state_dict["conv1.weight"], state["conv1.weight"])


def test_the_key_encoder_for_the_query(tmp_path: Path) -> None:
    layout = LAYOUTS["moco_v2"]
    state = random_state(layout.arch, 0)
    content = layout.make(state, 9)["state_dict"]
    prefix = "module.encoder_k."
    naive = {key.removeprefix(prefix): v for key, v in content.items() if key.startswith(prefix)}
    assert {key for key in naive if not key.startswith("fc.")} == set(state)  # loads as well
    assert not torch.equal(naive["conv1.weight"], state["conv1.weight"])
    source = read(layout.make(state, 9), tmp_path)
    assert torch.equal(source.state_dict["conv1.weight"], state["conv1.weight"])


def test_the_student_for_the_teacher(tmp_path: Path) -> None:
    layout = LAYOUTS["dino"]
    state = random_state(layout.arch, 0)
    content = layout.make(state, 9)
    naive = content["student"]["module.backbone.cls_token"]
    assert naive.shape == state["cls_token"].shape and not torch.equal(naive, state["cls_token"])
    source = read(content, tmp_path)
    assert torch.equal(source.state_dict["cls_token"], state["cls_token"])


def test_twelve_heads_in_six(tmp_path: Path) -> None:
    layout = LAYOUTS["moco_v3"]
    state = random_state(layout.arch, 0)
    naive = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=0)
    naive.load_state_dict(state, strict=True)  # no error
    twelve = timm.create_model(
        "vit_small_patch16_224", pretrained=False, num_classes=0, num_heads=12
    )
    twelve.load_state_dict(state, strict=True)
    ours = read(layout.make(state, 9), tmp_path).build().eval()
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        right, wrong = twelve.eval()(images), naive.eval()(images)
        torch.testing.assert_close(ours.pooled(images), right, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(wrong, right, rtol=1e-3, atol=1e-3)


def test_bare_vit_small_weights_are_said_to_be_open(tmp_path: Path) -> None:
    """The same file without its container tells no heads: the choice is said, never silent."""
    source = read(random_state("vit_small_patch16_12heads", 0), tmp_path)
    assert source.arch == "vit_small_patch16"
    assert source.open_choice == ("vit_small_patch16_12heads",)
    assert "pass --arch vit_small_patch16_12heads" in source.notes[0]


def test_simclr_with_mean_and_std() -> None:
    """Converted SimCLR takes [0, 1] pixels; ImageNet's normalisation shifts them threefold."""
    pixels = 255 * IMAGES
    ours = normalise(pixels, find_reader("simclr").card)
    torch.testing.assert_close(ours, IMAGES)
    assert different(normalise(pixels, find_reader("bare").card), ours)


def test_caffe_input_for_rgb() -> None:
    """detectron2's model zoo: BGR, 0 to 255, less the mean."""
    pixels = 255 * IMAGES
    ours = normalise(pixels, find_reader("detectron2").card)
    wanted = pixels.flip(1) - torch.tensor([103.53, 116.28, 123.675]).view(1, 3, 1, 1)
    torch.testing.assert_close(ours, wanted)
    rgb = normalise(pixels, find_reader("detectron2_rgb").card)
    assert float(ours.abs().mean()) > 20 * float(rgb.abs().mean())


def test_counters_missing_is_harmless(tmp_path: Path) -> None:
    state = random_state("resnet18x0.25", 0)
    bare = {key: value for key, value in state.items() if "num_batches" not in key}
    assert read(bare, tmp_path).weights_sha256 == read(state, tmp_path).weights_sha256


def test_a_statistic_missing_is_not(tmp_path: Path) -> None:
    state = random_state("resnet18", 0)
    del state["layer3.0.bn1.running_var"]
    naive = torchvision.models.resnet18()
    naive.load_state_dict(state, strict=False)  # no error
    with pytest.raises(CheckpointError, match=r"layer3\.0\.bn1\.running_var is missing"):
        read(state, tmp_path)


class HubModel(nn.Module):
    """VICRegL's hub model: (maps, pooled), the maps as (B, HW, C)."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.body = torchvision.models.resnet18()
        self.body.load_state_dict(state, strict=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        x = body.layer4(body.layer3(body.layer2(body.layer1(x))))
        return x.flatten(2).transpose(1, 2), x.mean(dim=(2, 3))


def test_hub_maps_have_their_channels_last(tmp_path: Path) -> None:
    state = random_state("resnet18", 0)
    images = torch.rand(2, 3, 128, 96)
    with torch.no_grad():
        maps, vector = HubModel(state).eval()(images)
        naive = maps.reshape(2, 512, 4, 3)  # no error: the number of elements is right
        backbone = read(state, tmp_path).build().eval()
        ours = backbone(images)[-1]
        torch.testing.assert_close(backbone.pooled(images), vector)
    torch.testing.assert_close(ours, maps.transpose(1, 2).unflatten(2, (4, 3)))
    assert different(naive, ours)


def test_batch_norm_moves_in_a_trunk_that_is_only_without_gradient() -> None:
    naive = ResNet(depth=18)
    naive.load_state_dict(random_state("resnet18", 0))
    naive.requires_grad_(False)
    naive.train()  # what every iteration of a training loop does
    before = naive.state_dict()["bn1.running_mean"].clone()
    naive(IMAGES)
    assert not torch.equal(before, naive.state_dict()["bn1.running_mean"])
    from vicregl_bench.backbones.openmmlab import BenchBackbone

    ours = BenchBackbone("random:resnet18")
    ours.train()
    ours(IMAGES)
    assert torch.equal(before, ours.body.state_dict()["bn1.running_mean"])


def test_palette_masks_read_as_colours(tiny_voc: Path) -> None:
    from vicregl_bench.data import read_voc_segmentation
    from vicregl_bench.tasks.segmentation.dataset import SegmentationPairs

    pair = read_voc_segmentation(tiny_voc, variant="voc12").val[0]
    with Image.open(pair.mask) as mask:
        wanted = np.array(mask)
    naive = cv2.imread(str(pair.mask), cv2.IMREAD_GRAYSCALE)  # no error: greys of the colours
    assert naive.shape == wanted.shape and not np.array_equal(naive, wanted)
    dataset = SegmentationPairs(
        (pair,),
        pipeline=[{"type": "LoadImageFromFile"}, {"type": "mmseg.LoadAnnotations"}],
        ignore_index=255,
        test_mode=True,
    )
    np.testing.assert_array_equal(dataset[0]["gt_seg_map"], wanted)
