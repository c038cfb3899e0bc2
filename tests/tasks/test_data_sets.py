"""Whole runs on made-up Cityscapes and ADE20k trees."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reporter import Silent
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.data import read_segmentation
from vicregl_bench.records import read_record
from vicregl_bench.records.predictions import load_predictions
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task

SIZES: dict[str, dict[str, Any]] = {
    "cityscapes": {"data.resize": [128, 64], "data.test_resize": [128, 64]},
    "ade20k": {"data.resize": [256, 64], "data.test_resize": [256, 64]},
}
SMALL = {"data.crop": [64, 64], "schedule.iters": 6, "schedule.batch_size": 4, "sweep.seeds": 2}
WINDOWS = {"slide.crop": 64, "slide.stride": 43}
FINE_TUNED = {"schedule.iters": 2, "sweep.lrs": [0.02], "sweep.seeds": 1}


def run(name: str, root: Path, out: Path, arch: str, task: str, **changes: Any) -> RunOutcome:
    source = read_backbone(f"random:{arch}")
    family = source.architecture.family
    overrides = SMALL | SIZES[name] | ({} if family == "resnet" else WINDOWS)
    overrides |= changes.pop("overrides", {})
    request = RunRequest(
        task=load_task(task, "ci", overrides, family=family, arch=arch),
        source=source,
        data_root=root,
        out=out,
        workers=0,
        device="cpu",
    )
    return run_task(dataclasses.replace(request, **changes), Silent())


@pytest.mark.parametrize(
    ("name", "arch", "task"),
    [
        ("cityscapes", "resnet18x0.25", "cityscapes_linear"),
        ("cityscapes", "convnext_atto_no_layerscale", "cityscapes_linear_released"),
        ("ade20k", "resnet18x0.25", "ade20k_linear_released"),
        ("ade20k", "vit_tiny_patch16", "ade20k_linear"),
        ("cityscapes", "resnet18x0.25", "cityscapes_linear_ft"),
        ("ade20k", "resnet18", "ade20k_linear_ft"),
    ],
)
def test_a_run_leaves_a_whole_record(
    name: str, arch: str, task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(f"tiny_{name}")
    frozen = not task.endswith("_ft")
    overrides = {} if frozen else FINE_TUNED
    outcome = run(name, root, tmp_path, arch, task, pictures=4, overrides=overrides)
    record, dataset = outcome.record, read_segmentation(name, root)
    assert read_record(outcome.path) == record
    assert record.status == "complete"
    assert (record.task.name, record.task.settings["data"]["dataset"]) == (task, name)
    assert (record.data.train, record.data.val, record.data.variant) == (8, 4, dataset.variant)
    assert record.frozen_hash_unchanged is (True if frozen else None)
    sweep = record.task.settings["sweep"]
    heads = len(sweep["lrs"]) * sweep["seeds"]
    assert len(record.results) == heads
    assert all(tuple(result.by_class or ()) == dataset.classes for result in record.results)
    assert record.best is not None and tuple(record.best.by_class) == dataset.classes
    assert any("train pictures" in deviation for deviation in record.deviations)
    truth = [dataset.read_labels(pair) for pair in dataset.val]
    with np.load(tmp_path / str(record.pictures_file)) as areas:
        assert areas["intersect"].shape == (4, heads, len(dataset.classes))
        for labels, labelled, predicted in zip(
            truth, areas["labelled"], areas["predicted"], strict=True
        ):
            counts = np.bincount(labels.flat, minlength=256)
            assert np.array_equal(labelled, counts[: len(dataset.classes)])
            assert (predicted.sum(axis=1) == (labels != 255).sum()).all()
    kept = load_predictions(tmp_path / str(record.predictions_file))
    assert [one.labels.shape for one in kept] == [labels.shape for labels in truth]
    assert all(np.array_equal(one.truth, labels) for one, labels in zip(kept, truth, strict=True))


def test_label_ids_alone_give_the_same_scores(tiny_cityscapes: Path, tmp_path: Path) -> None:
    bare = tmp_path / "cityscapes"
    shutil.copytree(tiny_cityscapes, bare)
    for mask in bare.glob("gtFine/*/*/*_labelTrainIds.png"):
        mask.unlink()
    roots = (tiny_cityscapes, bare)
    sets = [read_segmentation("cityscapes", root) for root in roots]
    assert [dataset.masks.kind for dataset in sets] == ["labelTrainIds", "labelIds"]
    for one, other in zip(sets[0].train, sets[1].train, strict=True):
        assert np.array_equal(sets[0].read_labels(one), sets[1].read_labels(other))
    records = [
        run("cityscapes", root, tmp_path / "out", "resnet18x0.25", "cityscapes_linear").record
        for root in roots
    ]
    assert records[0].results == records[1].results
    assert records[0].best == records[1].best and records[0].best is not None


def test_predictions_are_drawn_in_the_data_sets_colours(tiny_ade20k: Path, tmp_path: Path) -> None:
    from PIL import Image

    from vicregl_bench.tables.pictures import draw_predictions

    dataset = read_segmentation("ade20k", tiny_ade20k)
    pair = dataset.val[0]
    truth = dataset.read_labels(pair)
    draw_predictions([(pair.image, truth, truth)], dataset.colour_map(), tmp_path / "p.png")
    drawn = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).reshape(-1, 3)
    wall, ignored = dataset.palette[0], (224, 224, 192)
    for colour in (wall, ignored):
        assert (drawn == colour).all(axis=1).sum() > 20
