"""Every method's layout, from a file as it is published to features, other formats and a score.

The backbones are random ones of real architectures; a file's features must be those of the module
that it was made from.
"""

import contextlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import LAYOUTS, Layout
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.zoo import build_backbone, find_architecture, random_state
from vicregl_bench.checkpoints.convert import FORMATS
from vicregl_bench.cli.main import _guarded
from vicregl_bench.errors import CheckpointError

ONE_EACH = {layout.method: name for name, layout in reversed(LAYOUTS.items())}
QUICK = [
    "--profile", "ci", "--workers", "0", "--seeds", "1", "--lrs", "0.1", "--device", "cpu",
    "--set", "schedule.iters=1", "--set", "schedule.batch_size=2", "--set", "data.crop=64,64",
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
    backbone.eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
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
    read = dict(source.state_dict)
    options = {"pooling": source.card.pooling, "output_norm": source.card.output_norm}
    wanted = features(layout.arch, state_of(layout.arch), **options)
    for got, want in zip(features(source.arch, read, **options), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


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


def test_every_method_has_a_layout() -> None:
    from vicregl_bench.checkpoints import READERS

    assert {reader.card.method for reader in READERS} - set(ONE_EACH) <= {"own", "bare"}


def test_existing_files_are_kept(tmp_path: Path) -> None:
    layout = LAYOUTS["moco_v2"]
    path = saved(layout, tmp_path)
    words = ["convert", "--ckpt", str(path), "--to", "timm", "--out", str(path)]
    before = path.read_bytes()
    assert _guarded(words) == 2
    assert path.read_bytes() == before
    assert _guarded([*words, "--force"]) == 0
    with pytest.raises(CheckpointError):
        read_backbone(str(path), prefix="state_dict.module.encoder_q.")
