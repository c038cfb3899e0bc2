"""Every method's layout, from a file as it is published to features, other formats and a score.

The backbones are random ones of real architectures; a file's features must be those of the module
that it was made from.
"""

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import LAYOUTS, Layout
from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.zoo import build_backbone, find_architecture, random_state
from vicregl_bench.checkpoints.convert import FORMATS
from vicregl_bench.cli.main import _guarded

ONE_EACH = {layout.method: name for name, layout in reversed(LAYOUTS.items())}
QUICK = [
    "--profile", "ci", "--workers", "0", "--seeds", "1", "--lrs", "0.1", "--device", "cpu",
    "--set", "schedule.iters=3", "--set", "schedule.batch_size=2", "--set", "data.crop=64,64",
    "--set", "data.resize=256,64", "--set", "data.test_resize=256,64",
]  # fmt: skip


@cache
def state_of(arch: str) -> dict[str, Tensor]:
    """Random weights in which no tensor is constant, so that a swap of two keys shows."""
    generator = torch.Generator().manual_seed(5)
    return {
        key: value + 0.02 * torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in random_state(arch, 1).items()
    }


def features(arch: str, state: dict[str, Tensor], **options: Any) -> list[Tensor]:
    positions = state.get("pos_embed")
    backbone = build_backbone(
        arch, positions=None if positions is None else positions.shape[1], **options
    )
    backbone.load_state_dict(state)
    return features_of(backbone, images())


def images(side: int = 64) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def features_of(backbone: Backbone, images: Tensor) -> list[Tensor]:
    backbone.eval()
    return [*backbone(images), backbone.pooled(images)]


def saved(layout: Layout, folder: Path) -> Path:
    path = folder / f"weights{layout.suffix}"
    layout.save(layout.make(state_of(layout.arch), 9), path)
    return path


def named(layout: Layout) -> list[str]:
    """What a user has to add where the keys do not tell the method."""
    return [] if layout.detected == layout.method else ["--method", layout.method]


def call(*words: str) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert _guarded([*words, "--json"]) == 0
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_are_those_of_the_module(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    source = read_backbone(str(saved(layout, tmp_path)), method=layout.method)
    assert (source.arch, source.card.method) == (layout.arch, layout.method)
    assert source.coverage is not None and source.coverage["complete"]
    assert (source.card.pooling, source.card.output_norm) == (layout.pooling, layout.output_norm)
    wanted = features(
        layout.arch,
        state_of(layout.arch),
        pooling=layout.pooling,
        output_norm=layout.output_norm,
    )
    for got, want in zip(features_of(source.build(), images()), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def resnet_peer(arch: str, images: Tensor) -> list[Tensor]:
    import torchvision

    model = torchvision.models.get_model(arch)
    model.fc = torch.nn.Identity()
    model.load_state_dict(state_of(arch))
    model.eval()
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    maps = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        maps.append(x)
    return [*maps, model(images)]


def vit_peer(arch: str, images: Tensor) -> list[Tensor]:
    import timm

    model = timm.create_model(arch, num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict(state_of(arch))
    _, maps = model.forward_intermediates(images, indices=[3, 5, 7, 11], norm=True)
    return [*maps, model(images)]


def convnext_peer(arch: str, images: Tensor) -> list[Tensor]:
    from timm.models.convnext import ConvNeXt

    assert arch == "convnext_atto"
    model = ConvNeXt(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320), num_classes=0).eval()
    model.load_state_dict(state_of(arch))
    _, maps = model.forward_intermediates(images)
    return [*maps, model(images)]


@pytest.mark.parametrize(
    ("name", "arch", "peer"),
    [
        ("moco_v2", "resnet18", resnet_peer),  # torchvision has none of a quarter's width
        ("dinov2_registers", "vit_small_patch14_reg4_dinov2", vit_peer),
        ("bare_convnext", "convnext_atto", convnext_peer),
    ],
)
@torch.no_grad()
def test_features_are_those_of_another_projects_module(
    name: str, arch: str, peer: Callable[[str, Tensor], list[Tensor]], tmp_path: Path
) -> None:
    layout = dataclasses.replace(LAYOUTS[name], arch=arch)
    source = read_backbone(str(saved(layout, tmp_path)), method=layout.method)
    assert source.arch == arch
    pictures = images(70)  # a multiple of 14
    wanted = peer(arch, pictures)
    for got, want in zip(features_of(source.build(), pictures), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ONE_EACH.values())
def test_inspect_convert_and_run(name: str, tmp_path: Path, tiny_voc: Path) -> None:
    layout = LAYOUTS[name]
    path = str(saved(layout, tmp_path))
    report = call("inspect", "--ckpt", path, *named(layout))
    assert (report["method"], report["arch"]) == (layout.method, layout.arch)
    assert report["coverage"]["complete"] and not report["coverage"]["missing"]
    assert len(report["layers"]) > 5
    family = find_architecture(layout.arch).family
    possible = []
    for form in FORMATS:
        out = tmp_path / f"{form}{'.pkl' if form == 'detectron2' else '.pth'}"
        words = ["convert", "--ckpt", path, "--to", form, "--out", str(out), *named(layout)]
        if _guarded(words) == 0:
            possible.append(form)
            # other projects' names tell neither the method nor ViTs' heads
            back = read_backbone(str(out), arch=layout.arch)
            assert back.weights_sha256 == report["weights_sha256"], form
        else:
            assert not out.exists()
    assert {"torchvision", "timm", "mmseg"} <= set(possible) or layout.arch.endswith(
        ("dinov2", "no_layerscale")
    )
    assert ("detectron2" in possible) == (family == "resnet")
    record = call(
        "run", "--ckpt", path, "--task", "voc_linear", "--data-root", str(tiny_voc),
        "--out", str(tmp_path / "runs"), *QUICK, *named(layout),
    )  # fmt: skip
    assert record["status"] == "complete" and record["frozen_hash_unchanged"]
    assert record["checkpoint"]["weights_sha256"] == report["weights_sha256"]
    assert (record["checkpoint"]["method"], record["checkpoint"]["arch"]) == (
        layout.method,
        layout.arch,
    )


def test_existing_files_are_kept(tmp_path: Path) -> None:
    path, out = saved(LAYOUTS["moco_v2"], tmp_path), tmp_path / "out.pth"
    out.write_bytes(b"mine")
    words = ["convert", "--ckpt", str(path), "--to", "timm", "--out", str(out)]
    assert _guarded(words) == 2
    assert out.read_bytes() == b"mine"
    assert _guarded([*words, "--force"]) == 0
    assert read_backbone(str(out)).arch == LAYOUTS["moco_v2"].arch


def test_convert_says_what_no_tensor_carries(tmp_path: Path) -> None:
    torch.save(state_of("resnet50x0.25"), tmp_path / "w.pth")
    (tmp_path / "w.pth.card.yaml").write_text("mean: [0, 0, 0]\nstd: [255, 255, 255]")
    made = call(
        "convert", "--ckpt", str(tmp_path / "w.pth"), "--to", "timm",
        "--out", str(tmp_path / "o.pth"),
    )  # fmt: skip
    assert any("does not tell its input: rgb, mean [0.0" in note for note in made["notes"])


def test_convert_never_replaces_its_own_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": state_of("resnet18x0.25"), "optimizer": {}}, path)
    before = path.read_bytes()
    words = ["convert", "--ckpt", str(path), "--to", "timm", "--out", str(path), "--force"]
    assert _guarded(words) == 2
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert _guarded([*words[:-2], str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_inspect_says_what_is_constant(tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) for key, value in state_of("resnet18x0.25").items()}
    torch.save(state, tmp_path / "w.pth")
    report = call("inspect", "--ckpt", str(tmp_path / "w.pth"))
    assert any("weights are constant" in note for note in report["notes"])
    assert report["layers"][0]["dead"] == 1.0


def test_the_command_offers_every_format() -> None:
    """The enumeration stands in the command line so that `--help` need not import torch."""
    from vicregl_bench.cli.checkpoint_commands import _Format

    assert tuple(form.value for form in _Format) == FORMATS
