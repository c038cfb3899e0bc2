import errno
import resource
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.export import (
    CARD_FORMAT,
    backbone_checkpoint,
    card_of,
    released_checkpoint,
    save_atomic,
)
from pretrain.recipe import Recipe, load_recipe
from pretrain.trainee import build_network
from tests.pretrain.conftest import small_recipe
from vicregl_bench.backbones.zoo import targets
from vicregl_bench.checkpoints import load_checkpoint


def branch(recipe: Recipe) -> Any:
    torch.manual_seed(0)
    return build_network(recipe).first


class Original(nn.Module):
    """ConvNeXt as Liu et al. 2022 name its parts, without LayerScale: names and shapes alone."""

    def __init__(self, depths: tuple[int, ...], dims: tuple[int, ...]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), nn.LayerNorm(dims[0]))
        self.downsample_layers = nn.ModuleList([stem])
        for narrow, wide in pairwise(dims):
            between = nn.Sequential(nn.LayerNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2))
            self.downsample_layers.append(between)
        self.stages = nn.ModuleList(
            nn.Sequential(*(self.block(dim) for _ in range(depth)))
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1])

    @staticmethod
    def block(dim: int) -> nn.Module:
        return nn.ModuleDict(
            {
                "dwconv": nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
                "norm": nn.LayerNorm(dim),
                "pwconv1": nn.Linear(dim, 4 * dim),
                "pwconv2": nn.Linear(4 * dim, dim),
            }
        )


def test_card() -> None:
    card = card_of(load_recipe("resnet50_released", {"criterion.alpha": 0.9}), 300.0)
    assert card.pop("mean") == pytest.approx([123.675, 116.28, 103.53])
    assert card.pop("std") == pytest.approx([58.14, 57.12, 57.375])
    assert card == {
        "format": CARD_FORMAT,
        "method": "vicregl",
        "title": "VICRegL",
        "arch": "resnet50",
        "source": "recipe resnet50_released: facebookresearch/VICRegL, README and "
        "main_vicregl.py (values only)",
        "channel_order": "rgb",
        "detection_preset": "lars",
        "alpha": 0.9,
        "epochs": 300.0,
        "note": (
            "300 epochs, alpha 0.9, preset released, views of 224 px; changed: criterion.alpha=0.9"
        ),
    }


def test_without_matching_alpha_is_1() -> None:
    recipe = small_recipe(criterion__matching=[], criterion__alpha=0.75)
    assert card_of(recipe, 2.0)["alpha"] == 1.0


def test_card_tells_the_list_of_a_subset_and_only_that() -> None:
    recipe = small_recipe(data__subset=20)
    note = card_of(recipe, 2.0, "ab12")["note"]
    assert "data.subset=20.0" in note and note.endswith("; pictures ab12")
    assert "pictures" not in card_of(small_recipe(), 2.0, "ab12")["note"]


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"criterion__alpha": 1}, "VICReg"),
        ({"criterion__name": "simclr"}, "SimCLR-L"),
        ({"criterion__name": "simclr", "criterion__alpha": 1}, "SimCLR"),
        ({"criterion__name": "barlow_twins", "criterion__alpha": 1}, "Barlow Twins"),
    ],
)
def test_card_of_other_methods(settings: dict[str, Any], title: str) -> None:
    recipe = small_recipe(**settings)
    card = card_of(recipe, 0.5)
    assert (card["title"], card["method"]) == (title, recipe.method)
    assert card["note"].startswith("0.5 epochs")
    assert card["std"] == pytest.approx([58.395, 57.12, 57.375])


def test_backbone_has_torchvisions_keys_and_the_branchs_values() -> None:
    import torchvision

    made = branch(small_recipe())
    checkpoint = backbone_checkpoint(made, small_recipe(), 2.0)
    assert set(checkpoint) == {"card", "state_dict"}
    peer = torchvision.models.resnet18()
    missing = peer.load_state_dict(checkpoint["state_dict"], strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    weight = checkpoint["state_dict"]["conv1.weight"]
    assert torch.equal(weight, made.backbone.state_dict()["conv1.weight"])
    assert not weight.requires_grad
    with torch.no_grad():
        made.backbone.conv1.weight.zero_()
    assert weight.abs().sum() > 0  # a copy


def test_memory_format_of_the_run_is_left_behind() -> None:
    made = branch(small_recipe()).to(memory_format=torch.channels_last)
    state = backbone_checkpoint(made, small_recipe(), 2.0)["state_dict"]
    assert all(value.is_contiguous() for value in state.values())


def test_released_resnet() -> None:
    recipe = small_recipe()
    made = branch(recipe)
    checkpoint = released_checkpoint(made, recipe, 2.0)
    assert checkpoint["epoch"] == 2 and set(checkpoint) == {"epoch", "model", "card"}
    expected = {}
    for name, part in (
        ("backbone", made.backbone),
        ("projector", made.expander),
        ("maps_projector", made.projector),
    ):
        expected |= {f"module.{name}.{key}": v for key, v in part.state_dict().items()}
    assert checkpoint["model"].keys() == expected.keys()
    assert all(torch.equal(v, expected[key]) for key, v in checkpoint["model"].items())


@pytest.mark.parametrize(("alpha", "absent"), [(0, "projector"), (1, "maps_projector")])
def test_released_without_a_head(alpha: float, absent: str) -> None:
    recipe = small_recipe(criterion__alpha=alpha)
    model = released_checkpoint(branch(recipe), recipe, 2.0)["model"]
    groups = {key.split(".")[1] for key in model}
    assert groups == {"backbone", "projector", "maps_projector"} - {absent}


def test_released_convnext_has_its_original_names() -> None:
    recipe = small_recipe(model__backbone="convnext_tiny")
    model = released_checkpoint(branch(recipe), recipe, 2.0)["model"]
    prefix = "module.backbone."
    found = {k.removeprefix(prefix): tuple(v.shape) for k, v in model.items() if prefix in k}
    with torch.device("meta"):
        original = Original((3, 3, 9, 3), (96, 192, 384, 768))
    assert found == {key: tuple(v.shape) for key, v in original.state_dict().items()}


def test_released_convnext_keeps_every_value_in_its_place() -> None:
    recipe = small_recipe(model__backbone="convnext_tiny")
    made = branch(recipe)
    with torch.no_grad():
        for k, parameter in enumerate(made.backbone.parameters()):
            parameter.fill_(k)
    model = released_checkpoint(made, recipe, 2.0)["model"]
    ours = made.backbone.state_dict()
    for theirs, key in {
        "downsample_layers.0.0.weight": "stem.0.weight",
        "downsample_layers.0.1.bias": "stem.1.bias",
        "downsample_layers.3.1.weight": "stages.3.downsample.1.weight",
        "stages.2.8.dwconv.weight": "stages.2.blocks.8.conv_dw.weight",
        "stages.0.1.norm.bias": "stages.0.blocks.1.norm.bias",
        "stages.1.2.pwconv1.weight": "stages.1.blocks.2.mlp.fc1.weight",
        "stages.1.2.pwconv2.bias": "stages.1.blocks.2.mlp.fc2.bias",
        "norm.weight": "head.norm.weight",
    }.items():
        assert torch.equal(model[f"module.backbone.{theirs}"], ours[key])


@pytest.mark.parametrize("alpha", [0, 0.75])
def test_released_file_is_read_as_vicregls(tmp_path: Path, alpha: float) -> None:
    recipe = small_recipe(criterion__alpha=alpha)
    made = branch(recipe)
    save_atomic(released_checkpoint(made, recipe, 2.0), tmp_path / "released.pth")
    loaded = load_checkpoint(tmp_path / "released.pth", targets())
    assert (loaded.method, loaded.detected, loaded.arch) == ("vicregl", "own", "resnet18")
    ours = made.backbone.state_dict()
    assert loaded.state_dict.keys() == ours.keys()
    assert all(torch.equal(v, ours[key]) for key, v in loaded.state_dict.items())


def test_backbone_file_is_read_with_its_card(tmp_path: Path) -> None:
    recipe = small_recipe(criterion__alpha=1, views__normalisation="released")
    save_atomic(backbone_checkpoint(branch(recipe), recipe, 2.0), tmp_path / "backbone.pth")
    loaded = load_checkpoint(tmp_path / "backbone.pth", targets())
    assert (loaded.method, loaded.arch) == ("vicreg", "resnet18")
    assert loaded.card.std == pytest.approx((58.14, 57.12, 57.375))


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("not this")


def test_saved_whole(tmp_path: Path) -> None:
    save_atomic({"x": torch.arange(3)}, tmp_path / "x.pth")
    save_atomic({"x": torch.arange(4)}, tmp_path / "x.pth")
    assert torch.load(tmp_path / "x.pth")["x"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    save_atomic({"x": 1}, tmp_path / "x.pth")
    before = (tmp_path / "x.pth").read_bytes()
    if error is KeyboardInterrupt:

        def interrupted(content: Any, stream: Any) -> None:
            stream.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr("torch.save", interrupted)
    with pytest.raises(error):
        save_atomic({"x": torch.zeros(10), "y": Unpicklable()}, tmp_path / "x.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    assert (tmp_path / "x.pth").read_bytes() == before


@pytest.fixture()
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("numbers", [30_000, 500_000])
def test_a_full_disk_is_an_os_error(tmp_path: Path, small_disk: None, numbers: int) -> None:
    """And not the RuntimeError that torch makes of it."""
    save_atomic({"x": 1}, tmp_path / "x.pth")
    before = (tmp_path / "x.pth").read_bytes()
    with pytest.raises(OSError) as caught:
        save_atomic({"x": torch.zeros(numbers)}, tmp_path / "x.pth")
    assert caught.value.errno == errno.EFBIG
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    assert (tmp_path / "x.pth").read_bytes() == before


def test_no_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_atomic({}, tmp_path / "missing" / "x.pth")
