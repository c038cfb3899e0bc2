import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from tests.checkpoints.layouts import (
    Shapes,
    make_state,
    prefixed,
    resnet_shapes,
    vicreg_full,
    vicregl_full,
    with_namespace,
)
from vicregl_bench.checkpoints import file_sha256, load_checkpoint
from vicregl_bench.errors import CheckpointError

Layout = Callable[[Mapping[str, Tensor]], dict[str, Any]]

FORMATS: dict[str, tuple[Layout, str, str]] = {
    "bare": (dict, "bare", ""),
    "torchvision": (lambda state: {**state, "fc.weight": torch.ones(9, 8)}, "torchvision", ""),
    "vicreg": (vicreg_full, "vicreg", "model.module.backbone."),
    "vicregl": (vicregl_full, "vicregl", "model.module.backbone."),
    "namespace": (with_namespace, "bare", "model.module."),
    "state_dict": (
        lambda s: {"state_dict": prefixed(s, "backbone.")},
        "bare",
        "state_dict.backbone.",
    ),
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format(
    tmp_path: Path, targets: dict[str, Shapes], layout: str, is_zip: bool
) -> None:
    build, method, address = FORMATS[layout]
    state = make_state(targets["resnet50"])
    path = tmp_path / "any_name.bin"
    torch.save(build(state), path, _use_new_zipfile_serialization=is_zip)
    checkpoint = load_checkpoint(path, targets)
    assert (checkpoint.method, checkpoint.card.method) == (method, method)
    assert (checkpoint.arch, checkpoint.also_fits) == ("resnet50", ("resnet50_v1",))
    assert checkpoint.coverage.address == address
    assert checkpoint.coverage.complete
    assert list(checkpoint.state_dict) == list(targets["resnet50"])
    assert all(torch.equal(checkpoint.state_dict[key], state[key]) for key in state)
    assert checkpoint.file_sha256 == file_sha256(path)


def test_hash_of_the_weights_is_the_same_in_every_container_and_precision(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    half = {key: v.half() if v.is_floating_point() else v for key, v in resnet18.items()}
    hashes, files = set(), set()
    for number, state in enumerate((resnet18, half)):
        for layout, (build, _, _) in FORMATS.items():
            path = tmp_path / f"{number}_{layout}"
            torch.save(build(state), path)
            checkpoint = load_checkpoint(path, targets)
            hashes.add(checkpoint.weights_sha256)
            files.add(checkpoint.file_sha256)
    assert (len(hashes), len(files)) == (1, 2 * len(FORMATS))
    torch.save(make_state(targets["resnet18"], seed=5), tmp_path / "other")
    assert load_checkpoint(tmp_path / "other", targets).weights_sha256 not in hashes


def test_backbone_only_release_takes_the_method_given(
    tmp_path: Path, targets: dict[str, Shapes], resnet50: dict[str, Tensor]
) -> None:
    torch.save(resnet50, tmp_path / "resnet50_alpha0.75.pth")
    path = tmp_path / "resnet50_alpha0.75.pth"
    assert load_checkpoint(path, targets).method == "bare"
    checkpoint = load_checkpoint(path, targets, method="vicregl", arch="resnet50_v1")
    assert (checkpoint.method, checkpoint.detected) == ("vicregl", "bare")
    assert checkpoint.card.title == "VICRegL"
    assert (checkpoint.arch, checkpoint.also_fits) == ("resnet50_v1", ("resnet50",))


def test_missing_counters_are_filled_with_zero(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    del resnet18["bn1.num_batches_tracked"]
    torch.save(resnet18, tmp_path / "f.pth")
    checkpoint = load_checkpoint(tmp_path / "f.pth", targets)
    assert checkpoint.coverage.missing_harmless == ("bn1.num_batches_tracked",)
    assert checkpoint.state_dict["bn1.num_batches_tracked"].item() == 0
    kept = checkpoint.state_dict["layer1.0.bn1.num_batches_tracked"]
    assert (kept.item(), kept.dtype) == (1, torch.int64)


def test_torchvision_resnet18_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    torch.save(model.state_dict(), tmp_path / "f.pth")
    trunk = torchvision.models.resnet18()
    trunk.fc = torch.nn.Identity()
    shapes = {key: tuple(value.shape) for key, value in trunk.state_dict().items()}
    checkpoint = load_checkpoint(tmp_path / "f.pth", {"resnet18": shapes})
    assert checkpoint.method == "torchvision"
    assert checkpoint.coverage.unexpected == ("fc.weight", "fc.bias")
    trunk.load_state_dict(dict(checkpoint.state_dict), strict=True)
    model.fc = torch.nn.Identity()
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(trunk.eval()(picture), model.eval()(picture))


def test_weights_outlive_the_file(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    path = tmp_path / "f.pth"
    torch.save(resnet18, path)
    checkpoint = load_checkpoint(path, targets)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(checkpoint.state_dict["conv1.weight"], resnet18["conv1.weight"])


def test_nan_names_file_and_tensor(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    resnet18["layer3.0.bn1.running_var"][1] = float("nan")
    path = tmp_path / "f.pth"
    torch.save({"model": prefixed(resnet18, "module.")}, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, targets)
    named = f"{path}: model.module.layer3.0.bn1.running_var: 1 of 16 values are NaN"
    assert str(caught.value).startswith(named)


def test_nan_outside_the_backbone_is_no_matter(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    torch.save(resnet18 | {"fc.weight": torch.full((2, 2), float("nan"))}, tmp_path / "f.pth")
    assert load_checkpoint(tmp_path / "f.pth", targets).arch == "resnet18"


def test_foreign_object_needs_trust(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    path = tmp_path / "f.pth"
    torch.save({"model": resnet18, "rng": random.Random(0)}, path)
    with pytest.raises(CheckpointError, match=r"random\.Random.*--trust-pickle"):
        load_checkpoint(path, targets)
    assert load_checkpoint(path, targets, trust_pickle=True).arch == "resnet18"


@pytest.mark.parametrize(
    ("option", "known"), [("arch", "ls architectures"), ("method", "torchvision")]
)
def test_unknown_names_say_what_is_known(
    tmp_path: Path, targets: dict[str, Shapes], option: str, known: str
) -> None:
    with pytest.raises(CheckpointError, match=f"unknown .*'nope'.*{known}"):
        load_checkpoint(tmp_path / "none.pth", targets, **{option: "nope"})  # type: ignore[arg-type]


def test_report_is_json(
    tmp_path: Path, targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    torch.save(vicregl_full(resnet18), tmp_path / "f.pth")
    report = json.loads(json.dumps(load_checkpoint(tmp_path / "f.pth", targets).to_dict()))
    assert report["method"] == report["card"]["method"] == "vicregl"
    assert report["coverage"]["dropped"]["module.maps_projector"] == 8
    assert "state_dict" not in report


def test_real_resnet50(shared: Path) -> None:
    real = shared / "weights" / "resnet50_v1_imagenet_fp16.pth"

    def shapes(arch: str) -> Shapes:
        with torch.device("meta"):
            state = getattr(torchvision.models, arch)().state_dict()
        return {key: tuple(v.shape) for key, v in state.items() if not key.startswith("fc.")}

    names = ("resnet18", "resnet34", "resnet50", "resnet101")
    targets = {arch: shapes(arch) for arch in names}
    targets["resnet50_v1"] = targets["resnet50"]
    checkpoint = load_checkpoint(real, targets)
    assert (checkpoint.arch, checkpoint.also_fits) == ("resnet50", ("resnet50_v1",))
    assert (checkpoint.method, checkpoint.coverage.address) == ("torchvision", "")
    assert checkpoint.coverage.unexpected == ("fc.weight", "fc.bias")
    assert len(checkpoint.coverage.matched) == 318
    assert checkpoint.state_dict["conv1.weight"].dtype == torch.float32
    with pytest.raises(CheckpointError, match="pass --arch resnet50"):
        load_checkpoint(real, targets, arch="resnet101")


def test_shapes_of_the_fixtures_tell_the_archs_apart() -> None:
    assert resnet_shapes("resnet18")["layer4.1.conv2.weight"] == (32, 32, 3, 3)
    assert resnet_shapes("resnet50")["layer4.2.conv3.weight"] == (128, 32, 1, 1)
