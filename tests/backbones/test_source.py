from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from vicregl_bench.backbones.source import BackboneSource, read_backbone
from vicregl_bench.backbones.vit import sincos_positions
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.errors import CheckpointError, ConfigError


def read(content: Any, tmp_path: Path, card: str = "", **options: Any) -> BackboneSource:
    torch.save(content, tmp_path / "weights.pth")
    (tmp_path / "weights.pth.card.yaml").write_text(card or "{}")
    return read_backbone(str(tmp_path / "weights.pth"), **options)


def test_the_command_line_goes_before_the_card_file(tmp_path: Path) -> None:
    state = random_state("resnet50x0.25", 0)
    card = "method: mine\nstd: [200, 200, 200]"
    assert read(state, tmp_path, card).card.method == "mine"
    source = read(state, tmp_path, card, method="simclr")
    assert (source.card.method, source.card.mean) == ("simclr", (0.0, 0.0, 0.0))
    assert source.card.std == (200.0, 200.0, 200.0)


def test_cards_may_use_aliases(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit resnet50x2_narrow"):
        read(random_state("resnet50", 0), tmp_path, "arch: wide_resnet50_2")
    with pytest.raises(CheckpointError, match="names the architecture resnet51"):
        read(random_state("resnet50", 0), tmp_path, "arch: resnet51")


def test_a_method_of_other_architectures_is_doubted(tmp_path: Path) -> None:
    source = read(random_state("resnet18x0.25", 0), tmp_path, method="mae")
    assert any("is --method mae right?" in note for note in source.notes)
    source = read(random_state("vit_tiny_patch16", 0), tmp_path, method="mae")
    assert not any("right?" in note for note in source.notes)


@pytest.mark.parametrize(("key", "told"), [("gate.weight", True), ("head_dist.weight", False)])
def test_unknown_tensors_beside_the_backbone_are_said(tmp_path: Path, key: str, told: bool) -> None:
    source = read({**random_state("vit_tiny_patch16", 0), key: torch.ones(2)}, tmp_path)
    assert any("more beside the backbone" in note for note in source.notes) is told


@pytest.mark.parametrize("rows", [1 + 14 * 28 + 1, 196, 199])
def test_positions_that_are_no_square_grid_stop_at_reading(tmp_path: Path, rows: int) -> None:
    state = random_state("vit_tiny_patch16", 0)
    state["pos_embed"] = torch.zeros(1, rows, 192)
    with pytest.raises(ConfigError, match="no square grid"):
        read(state, tmp_path)


def test_heads_and_positions_are_said(tmp_path: Path) -> None:
    state = random_state("vit_small_patch16", 0)
    state["pos_embed"] = sincos_positions((14, 14), 384)
    source = read(state, tmp_path)
    assert source.facts[0].startswith("fixed positions of 14 x 14")
    assert source.facts[1].startswith("6 attention heads")
    assert any("mark of MoCo v3" in note for note in source.notes)


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    state = random_state("resnet18x0.25", 0)
    state["layer1.0.bn1.running_var"] -= 2
    with pytest.raises(CheckpointError, match="variance is negative"):
        read(state, tmp_path)


def test_random_weights_and_contradictions() -> None:
    assert read_backbone("random:resnet50", arch="resnet50_v1").arch == "resnet50_v1"
    with pytest.raises(ConfigError, match="contradict"):
        read_backbone("random:resnet50", arch="resnet18")


def test_plain_timm_weights_of_a_small_convnext_are_read(tmp_path: Path) -> None:
    path = tmp_path / "convnext_atto.pth"
    torch.save(timm.create_model("convnext_atto").state_dict(), path)
    assert read_backbone(str(path)).arch == "convnext_atto"


@pytest.mark.parametrize("option", [{"method": "vicregl"}, {"prefix": "backbone."}])
def test_random_weights_have_no_method(option: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no --method and no --prefix"):
        read_backbone("random:resnet18", **option)
