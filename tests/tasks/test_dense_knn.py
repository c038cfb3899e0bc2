"""Segmentation by nearest patches through `run_task`: known answers, resuming, bad input."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.features import knn as knn_module
from vicregl_bench.records import read_record
from vicregl_bench.records.predictions import load_predictions
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task
from vicregl_bench.tasks.segmentation import dense_knn
from vicregl_bench.tasks.segmentation.dense_knn import label_map

SMALL: dict[str, Any] = {
    "data.side": 64,
    "memory.size": 240,
    "knn.ks": [1, 5],
    "search.queries": 32,
    "search.vectors": 64,
}


def request(root: Path, out: Path, arch: str = "resnet18x0.25", **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    task = changes.pop("task", "voc_dense_knn")
    return ask(task, overrides, root, out, arch, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


@pytest.mark.parametrize("arch", ["resnet18x0.25", "vit_tiny_patch16"])
def test_a_run_leaves_a_whole_record(tiny_voc: Path, tmp_path: Path, arch: str) -> None:
    outcome = run(tiny_voc, tmp_path, arch, pictures=2)
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.metric) == ("complete", "miou")
    assert [one.options for one in record.results] == [{"k": 1}, {"k": 5}]
    assert all(one.scores["pixel_accuracy"] for one in record.results)
    assert record.frozen_hash_unchanged is True
    best = record.best
    assert best is not None and best.interval[0] <= best.score <= best.interval[1]
    kept = load_predictions(tmp_path / str(record.predictions_file))
    assert len(kept) == 2 and kept[0].labels.shape == kept[0].truth.shape == (120, 160)
    with np.load(tmp_path / str(record.pictures_file)) as areas:
        assert areas["intersect"].shape == (6, 2, 21)
        # a kept map is the one that was scored
        best_k = [1, 5].index(best.options["k"])
        row = [str(name) for name in areas["names"]].index(Path(kept[0].image).name)
        right = (kept[0].labels == kept[0].truth).sum()
        assert areas["intersect"][row, best_k].sum() == right
    assert not list(tmp_path.rglob("memory"))
    assert run(tiny_voc, tmp_path, arch, pictures=2).skipped


def two_colours(root: Path, out: Path) -> Path:
    """Every picture in two colours, its annotation the same halves; val is train."""
    shutil.copytree(root, out)
    folder = out / "VOC2012"
    names = (folder / "ImageSets/Segmentation/val.txt").read_text().split()
    names += (folder / "ImageSets/Segmentation/train.txt").read_text().split()
    for number, name in enumerate(names):
        edge = 16 * (2 + number % 5)
        picture = np.full((128, 128, 3), (200, 30, 30), np.uint8)
        picture[:, edge:] = (30, 30, 200)
        Image.fromarray(picture).save(folder / f"JPEGImages/{name}.jpg", quality=95)
        mask = np.full((128, 128), 1, np.uint8)
        mask[:, edge:] = 2
        path = folder / f"SegmentationClass/{name}.png"
        palette = Image.open(path).getpalette()
        image = Image.fromarray(mask, "P")
        image.putpalette(palette or [])
        image.save(path)
    return out


def test_two_colours_are_told_apart(tiny_voc: Path, tmp_path: Path) -> None:
    root = two_colours(tiny_voc, tmp_path / "voc")
    settings = {"memory.size": 100_000, "data.side": 128, "search.queries": 1000}
    record = run(root, tmp_path / "out", overrides=settings).record
    # edges lie between patches, so that a patch is of one class; upsampling is right to the pixel
    assert all((one.score or 0) > 90 for one in record.results)
    swapped = tmp_path / "voc/VOC2012/SegmentationClass"
    names = (root / "VOC2012/ImageSets/Segmentation/train.txt").read_text().split()
    for name in names:
        mask = Image.open(swapped / f"{name}.png")
        image = Image.fromarray(3 - np.asarray(mask), "P")
        image.putpalette(mask.getpalette() or [])
        image.save(swapped / f"{name}.png")
    other = run(root, tmp_path / "other", overrides=settings).record
    assert all((one.score or 0) < 10 for one in other.results)


def test_a_label_map_is_the_largest_of_two_resizings(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0))
    square = F.interpolate(votes[None], size=32, mode="bilinear", align_corners=False)
    expected = F.interpolate(square, size=(50, 41), mode="bilinear", align_corners=False)[0]
    assert torch.equal(label_map(votes, 32, (50, 41)), expected.argmax(dim=0))
    monkeypatch.setattr(dense_knn, "_BAND", 5 * 41 * 7)
    assert torch.equal(label_map(votes, 32, (50, 41)), expected.argmax(dim=0))


def test_chunks_do_not_change_the_scores(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_voc, tmp_path / "a", overrides={"search.queries": 1000}).record
    sizes: list[tuple[int, int]] = []
    original = knn_module._nearest

    def watched(similarities: torch.Tensor, k: int) -> Any:
        sizes.append((similarities.shape[0], similarities.shape[1]))
        return original(similarities, k)

    monkeypatch.setattr(knn_module, "_nearest", watched)
    chunks = {"search.queries": 20, "search.vectors": 50}
    parts = run(tiny_voc, tmp_path / "b", overrides=chunks).record
    assert parts.results == whole.results
    assert max(sizes)[0] <= 20 and max(size[1] for size in sizes) <= 50


def test_a_memory_is_no_larger_than_asked(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks: list[tuple[int, ...]] = []
    original = dense_knn.build_bank

    def watched(*args: Any, **kwargs: Any) -> Any:
        bank = original(*args, **kwargs)
        banks.append(bank.shape)
        return bank

    monkeypatch.setattr(dense_knn, "build_bank", watched)
    run(tiny_voc, tmp_path, overrides={"memory.size": 40})
    assert banks == [(36, 128)]  # 3 of each of 12 pictures


@pytest.mark.parametrize(("stage", "step"), [("memory", 8), ("scoring val", 2), ("scoring val", 4)])
def test_a_resumed_run_ends_where_it_would_have(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    whole = run(tiny_voc, tmp_path / "whole").record
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunInterruptedError, match="after 0 of 2 points of the grid"),
    ):
        run(tiny_voc, tmp_path / "parts", reporter=stop_after(patch, stage, step))
    calls: list[int] = []
    original = FrozenTrunk.__call__

    def counted(self: FrozenTrunk, images: torch.Tensor) -> Any:
        calls.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FrozenTrunk, "__call__", counted)
    resumed = run(tiny_voc, tmp_path / "parts").record
    assert sum(calls) == {"memory": 12 + 6, "scoring val": 6 - step}[stage]
    assert resumed.results == whole.results and resumed.best == whole.best
    kept, expected = (
        load_predictions(tmp_path / name / str(one.predictions_file))
        for name, one in (("parts", resumed), ("whole", whole))
    )
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(kept, expected, strict=True))


def test_a_damaged_memory_is_made_anew(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_voc, tmp_path / "whole").record
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(tiny_voc, tmp_path / "parts", reporter=stop_after(patch, "scoring val", 2))
    (path,) = (tmp_path / "parts").rglob("memory/*.labels.npy")
    np.save(path, np.roll(np.load(path), 1, axis=1))
    reporter = Silent()
    resumed = run(tiny_voc, tmp_path / "parts", reporter=reporter).record
    assert resumed.results == whole.results
    assert any("labels.npy is missing or damaged" in text for text in reporter.warnings)


@pytest.mark.parametrize("side", [8, 40, 100])
def test_pictures_of_parts_of_patches_are_refused(
    tiny_voc: Path, tmp_path: Path, side: int
) -> None:
    with pytest.raises(ConfigError, match=f"{side} px are no whole patches of 16 px: --set"):
        make_plan(request(tiny_voc, tmp_path, overrides={"data.side": side}))


@pytest.mark.parametrize("side", [8, 40])
def test_vits_resize_to_whole_patches(tiny_voc: Path, tmp_path: Path, side: int) -> None:
    settings = {"data.side": side, "knn.ks": [1]}
    record = run(tiny_voc, tmp_path, "vit_tiny_patch16", overrides=settings).record
    assert record.status == "complete"


def test_held_out_pictures_choose(tiny_voc: Path, tmp_path: Path) -> None:
    record = run(tiny_voc, tmp_path, select="holdout").record
    assert record.data.holdout == 1 and record.data.train == 11
    best = max(record.results, key=lambda one: -1.0 if one.holdout is None else one.holdout)
    assert record.best is not None and record.best.options == best.options


def test_impossible_memories(tiny_voc: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="11 vectors has no place for 12 training pictures"):
        run(tiny_voc, tmp_path, overrides={"memory.size": 11})
    with pytest.raises(ConfigError, match=r"30 neighbours of 20 vectors: set memory\.size too"):
        run(tiny_voc, tmp_path, overrides={"memory.size": 20, "knn.ks": [30]})
    with pytest.raises(ConfigError, match="230 neighbours are impossible: the memory has"):
        run(tiny_voc, tmp_path, overrides={"knn.ks": [230]})


def test_ade20k_has_the_same_protocol(tiny_ade20k: Path, tmp_path: Path) -> None:
    record = run(tiny_ade20k, tmp_path, task="ade20k_dense_knn").record
    assert record.status == "complete" and len(record.results[0].by_class or {}) == 150


@pytest.mark.parametrize(
    ("name", "variant", "classes"),
    [("voc", "voc12aug", 21), ("ade20k", "challenge2016", 150)],
)
def test_protocols(name: str, variant: str, classes: int) -> None:
    task = load_task(f"{name}_dense_knn")
    assert task.settings.dump() == {
        "data": {"dataset": name, "variant": variant, "num_classes": classes, "side": 512},
        "backbone": {"output_stride": 16},
        "sweep": {"run_seed": 0, "holdout": 0.1},
        "memory": {"size": 10_240_000},
        "knn": {"ks": [30], "temperature": 0.02},
        "search": {"queries": 16384, "vectors": 16384},
    }
    assert task.info.frozen and task.info.probe
    assert load_task(f"{name}_dense_knn", family="vit").settings.backbone.output_stride is None
