"""Files that carry their card inside, as `pretrain` leaves them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints.layouts import make_state, prefixed, resnet_shapes
from vicregl_bench.checkpoints import load_checkpoint
from vicregl_bench.errors import CheckpointError

SHAPES = resnet_shapes("resnet18")
TARGETS = {"resnet18": SHAPES, "resnet18_v1": SHAPES}


def card(**changes: Any) -> dict[str, Any]:
    return {
        "format": "vicregl-bench card 1",
        "method": "vicregl",
        "title": "VICRegL",
        "arch": "resnet18_v1",
        "source": "recipe tiny",
        "mean": [1.0, 2.0, 3.0],
        "std": [4.0, 5.0, 6.0],
        "channel_order": "rgb",
        "note": "5 epochs",
    } | changes


def save(tmp_path: Path, content: dict[str, Any]) -> Path:
    path = tmp_path / "backbone.pth"
    torch.save(content, path)
    return path


def test_the_card_in_the_file_names_method_architecture_and_normalisation(tmp_path: Path) -> None:
    path = save(tmp_path, {"card": card(), "state_dict": make_state(SHAPES)})
    loaded = load_checkpoint(path, TARGETS)
    assert (loaded.method, loaded.detected, loaded.arch) == ("vicregl", "own", "resnet18_v1")
    assert loaded.card.mean == (1.0, 2.0, 3.0) and loaded.card.std == (4.0, 5.0, 6.0)
    assert torch.equal(loaded.state_dict["conv1.weight"], make_state(SHAPES)["conv1.weight"])


def test_the_first_branch_is_taken_from_a_whole_model(tmp_path: Path) -> None:
    first, second = make_state(SHAPES, 1), make_state(SHAPES, 2)
    state = prefixed(first, "first.backbone.") | prefixed(second, "second.backbone.")
    path = save(tmp_path, {"card": card(), "state_dict": state})
    loaded = load_checkpoint(path, TARGETS)
    assert torch.equal(loaded.state_dict["conv1.weight"], first["conv1.weight"])


def test_method_and_architecture_given_win_over_the_card(tmp_path: Path) -> None:
    path = save(tmp_path, {"card": card(), "state_dict": make_state(SHAPES)})
    loaded = load_checkpoint(path, TARGETS, method="bare", arch="resnet18")
    assert (loaded.method, loaded.arch) == ("bare", "resnet18")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mean": [1.0]}, r"damaged \(mean: three numbers are needed\); export"),
        ({"std": "abc"}, "std: three numbers are needed"),
        ({"std": [0.0, 5.0, 6.0]}, "std.0: Input should be greater than 0"),
        ({"std": [0.229, 0.224, 0.225]}, "std.0: the scale is 0 to 255: multiply by 255"),
        ({"mean": [0.485, 0.456, 0.406]}, "mean.0: the scale is 0 to 255: multiply by 255"),
        ({"mean": [1.0, float("nan"), 3.0]}, "mean.1: Input should be a finite number"),
        ({"mean": [1.0, 10**400, 3.0]}, "mean.1: "),
        ({"channel_order": "RGB"}, "channel_order: Input should be 'rgb' or 'bgr'"),
        ({"detection_preset": "sgd"}, "detection_preset: Input should be 'moco' or 'lars'"),
        ({"method": "two\nlines"}, "method: String should match"),
        ({"title": ["VICRegL"]}, "title: Input should be a valid string"),
        ({"arch": "convnext_small"}, "convnext_small, which "),
        ({"note": None}, "note is missing"),
    ],
)
def test_a_damaged_card_is_an_error(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = save(tmp_path, {"card": card(**changes), "state_dict": make_state(SHAPES)})
    with pytest.raises(CheckpointError, match=text) as caught:
        load_checkpoint(path, TARGETS)
    assert "\n" not in str(caught.value)


def test_fields_of_later_versions_are_read_or_left_out(tmp_path: Path) -> None:
    later = card(pooling="cls", output_norm=True, detection_preset="lars", licence="MIT")
    path = save(tmp_path, {"card": later, "state_dict": make_state(SHAPES)})
    loaded = load_checkpoint(path, TARGETS).card
    assert (loaded.pooling, loaded.output_norm, loaded.detection_preset) == ("cls", True, "lars")


def test_a_card_without_a_field_is_an_error(tmp_path: Path) -> None:
    damaged = card()
    del damaged["title"]
    path = save(tmp_path, {"card": damaged, "state_dict": make_state(SHAPES)})
    with pytest.raises(CheckpointError, match=r"damaged \(title is missing\)"):
        load_checkpoint(path, TARGETS)
