import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vicregl_bench.backbones.fit import doubts, normalise, statistics_gap
from vicregl_bench.backbones.pictures import centre_crops, find_pictures
from vicregl_bench.backbones.source import BackboneSource, read_backbone
from vicregl_bench.checkpoints import Card
from vicregl_bench.errors import DataError

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "resnet50_v1_imagenet_fp16.pth"
PICTURES = SHARED / "data" / "imagenette224"
real = pytest.mark.skipif(
    not (WEIGHTS.exists() and PICTURES.exists()), reason="../shared has no weights or no pictures"
)

SCALED = Card("x", "X", "", mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


def trained_on(pictures: Tensor, card: Card, arch: str) -> BackboneSource:
    """Random weights whose BatchNorm has seen the pictures through a card."""
    source = read_backbone(f"random:{arch}")
    backbone = source.build()
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over batches
    with torch.no_grad():
        for _ in range(2):
            backbone(normalise(pictures, card))
    return dataclasses.replace(source, card=card, coverage={}, state_dict=backbone.state_dict())


def smooth_pictures(seed: int) -> Tensor:
    noise = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    tint = torch.tensor([1.0, 0.8, 0.4]).view(1, 3, 1, 1)
    large = nn.functional.interpolate(noise, size=96, mode="bicubic").clamp(0, 1)
    return 255 * tint * large


def test_gap_is_zero_on_the_pictures_of_training() -> None:
    pictures = smooth_pictures(0)
    source = trained_on(pictures, SCALED, "resnet18x0.25")
    gap = statistics_gap(source.build(), normalise(pictures, SCALED))
    assert gap is not None and gap < 0.02
    assert doubts(source, pictures) == ()


def test_the_other_stride_placement_is_told() -> None:
    pictures = smooth_pictures(0)
    source = trained_on(pictures, SCALED, "resnet50_v1")
    wrong = dataclasses.replace(source, arch="resnet50")
    (said,) = doubts(wrong, pictures)
    assert "fit resnet50_v1 better than resnet50" in said and "--arch resnet50_v1" in said
    assert doubts(source, pictures) == ()


def test_another_input_is_told() -> None:
    """Weights of [0, 1] pixels without mean and std, read with ImageNet's normalisation."""
    pictures = smooth_pictures(0)
    source = trained_on(pictures, SCALED, "resnet18x0.25")
    wrong = dataclasses.replace(source, card=Card("x", "X", ""))
    (said,) = doubts(wrong, pictures)
    assert "[0, 1] without mean and std" in said


def test_random_weights_and_networks_without_batch_norm_raise_none() -> None:
    pictures = smooth_pictures(0)
    assert doubts(read_backbone("random:resnet18x0.25"), pictures) == ()
    assert statistics_gap(nn.Conv2d(3, 3, 1), pictures) is None


@real
def test_the_real_resnet_with_wrong_strides_is_told() -> None:
    crops = centre_crops(find_pictures(PICTURES / "train", 8), 224)
    right = read_backbone(str(WEIGHTS), arch="resnet50_v1")
    assert doubts(right, crops) == ()
    (said,) = doubts(read_backbone(str(WEIGHTS)), crops)
    assert "fit resnet50_v1 better" in said


@real
def test_the_real_resnet_with_caffe_input_is_told() -> None:
    crops = centre_crops(find_pictures(PICTURES / "train", 8), 224)
    right = read_backbone(str(WEIGHTS), arch="resnet50_v1")
    card = dataclasses.replace(
        right.card, mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"
    )
    (said,) = doubts(dataclasses.replace(right, card=card), crops)
    assert "RGB by ImageNet's mean and std" in said


def test_pictures_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_pictures(tmp_path / "none", 3)
    with pytest.raises(DataError, match="no pictures"):
        find_pictures(tmp_path, 3)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        centre_crops(find_pictures(tmp_path, 3), 32)


def test_statistics_that_fit_nothing_known_are_told() -> None:
    pictures = smooth_pictures(0)
    source = trained_on(pictures, SCALED, "resnet18x0.25")
    state = {
        key: value * 30 if key.endswith("running_var") else value
        for key, value in source.state_dict.items()
    }
    (said,) = doubts(dataclasses.replace(source, state_dict=state), pictures)
    assert "fit neither these pictures nor any known input" in said
