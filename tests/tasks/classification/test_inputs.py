"""Inputs of the linear heads as part of the grid; mean per-class accuracy as the metric."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from tests.reporter import Silent
from tests.tasks.asking import ask
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.cli.output import print_record
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record, read_record
from vicregl_bench.tables.frames import learning_rate_curve
from vicregl_bench.tables.pictures import draw_curve
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import run_task

SMALL: dict[str, Any] = {
    "data.crop": 48,
    "data.resize": [56, 56],
    "schedule.epochs": 2,
    "schedule.batch_size": 8,
    "sweep.lrs": [0.3, 0.03],
    "sweep.seeds": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 18 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=18, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, arch: str = "resnet18x0.25", **overrides: Any) -> RunRequest:
    return ask("folder_linear", SMALL | overrides, root, out, arch)


def run(*args: Any, **overrides: Any) -> Record:
    return run_task(request(*args, **overrides), Silent()).record


def trained(asked: RunRequest) -> Any:
    """The heads after three iterations."""
    plan = make_plan(asked)
    model = plan.training.sweep_model(FrozenTrunk(asked.source.build()))
    optimizer = torch.optim.SGD(model.sweep.param_groups(), momentum=0.9)
    batches = iter(Runner.build_dataloader(plan.training.train_loader(plan.train, workers=0)))
    for _ in range(3):
        batch = model.data_preprocessor(next(batches), True)
        model.loss(**batch)
        optimizer.step()
    return model.sweep


GRIDS = {
    "resnet18x0.25": ["pooled", "stages"],
    "convnext_atto": ["stages", "avg", "pooled"],
    "swin_tiny_patch4_window7": ["avg", "stages"],
    "vit_tiny_patch16": ["pooled", "pooled+avg", "blocks", "blocks+avg"],
}
WIDTHS = {
    "resnet18x0.25": [128, 240],
    "convnext_atto": [600, 320, 320],
    "swin_tiny_patch4_window7": [768, 1440],
    "vit_tiny_patch16": [192, 384, 768, 960],
}


@pytest.mark.parametrize(
    ("arch", "batch_norm"), [*((arch, False) for arch in GRIDS), ("vit_tiny_patch16", True)]
)
def test_heads_are_those_of_separate_runs(
    folder: Path, tmp_path: Path, arch: str, batch_norm: bool
) -> None:
    names, norm = GRIDS[arch], {"classifier.batch_norm": batch_norm}
    grid = trained(request(folder, tmp_path, arch, **{"classifier.inputs": names}, **norm))
    assert [(head.lr, head.options, head.seed) for head in grid.heads] == [
        (lr, (("input", name),), seed) for lr in (0.3, 0.03) for name in names for seed in (0, 1)
    ]
    for name, width in zip(names, WIDTHS[arch], strict=True):
        alone = trained(request(folder, tmp_path, arch, **{"classifier.inputs": [name]}, **norm))
        of_grid = [k for k, each in enumerate(grid.inputs) if each == name]
        assert [grid.heads[k].lr for k in of_grid] == [head.lr for head in alone.heads]
        assert all(head.options == () for head in alone.heads)
        for k, j in zip(of_grid, range(len(alone.heads)), strict=True):
            ours, theirs = grid.weights[k], alone.weights[j]
            assert ours.shape == (6, width)
            scale = float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * scale)
            torch.testing.assert_close(grid.biases[k], alone.biases[j], rtol=1e-5, atol=1e-5)


def test_a_run_over_inputs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["pooled", "stages"]
    outcome = run_task(request(folder, tmp_path, **{"classifier.inputs": names}), Silent())
    record = read_record(outcome.path)
    assert record == outcome.record and record.status == "complete"
    assert 'classifier.inputs: ["pooled", "stages"] instead of none' in record.deviations
    assert [result.options["input"] for result in record.results[:4]] == [
        "pooled",
        "pooled",
        "stages",
        "stages",
    ]
    assert [one.shape for one in record.trained] == [(6, 128), (6, 240), (6,), (6,)]
    assert record.best is not None and record.best.options["input"] in names
    curve = learning_rate_curve(record)
    assert list(curve["point"]) == [
        f"lr {lr}, input {name}" for lr in ("0.3", "0.03") for name in names
    ]
    draw_curve(record, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").is_file()
    print_record(record)
    printed = capsys.readouterr().out
    assert printed.count("input stages") >= 2 and printed.count("input pooled") >= 2
    for name in names:
        alone = run(folder, tmp_path, **{"classifier.inputs": [name]})
        same = [one for one in record.results if one.options["input"] == name]
        assert [one.scores for one in same] == [one.scores for one in alone.results]


def test_the_pooled_vector_alone_is_the_protocol(folder: Path, tmp_path: Path) -> None:
    plain = request(folder, tmp_path)
    for given in (["pooled"], "pooled"):
        asked = request(folder, tmp_path, **{"classifier.inputs": given, "data.metric": "top1"})
        assert asked.task.settings.dump() == plain.task.settings.dump()
        assert make_plan(asked).key == make_plan(plain).key
    assert "inputs" not in plain.task.settings.dump()["classifier"]
    assert "metric" not in plain.task.settings.dump()["data"]


@pytest.mark.parametrize(
    ("arch", "inputs", "message"),
    [
        ("resnet18x0.25", ["blocks"], r"no blocks of a resnet backbone.*pooled, avg, stages"),
        ("convnext_atto", ["pooled", "blocks+avg"], r"no blocks\+avg of a convnext backbone"),
        ("vit_tiny_patch16", ["stages"], r"no stages of a vit backbone.*pooled, avg, blocks"),
        ("resnet18x0.25", ["avg", "avg"], "an input stands twice"),
        ("resnet18x0.25", ["last"], r"classifier\.inputs\.0 = \"last\""),
        ("resnet18x0.25", [], r"classifier\.inputs = \[\]"),
    ],
)
def test_impossible_inputs(
    folder: Path, tmp_path: Path, arch: str, inputs: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_plan(request(folder, tmp_path, arch, **{"classifier.inputs": inputs}))
    assert "\n" not in str(caught.value)


def unbalanced(metric: str) -> LabelRanks:
    """Nine of class 0 and one of class 2; head 0 knows class 0, head 1 knows class 2 and two."""
    ranks = np.ones((10, 2), dtype=np.int64)
    ranks[:9, 0] = 0
    ranks[[0, 1, 9], 1] = 0
    labels = np.array([0] * 9 + [2])
    return LabelRanks(tuple("abcdefghij"), labels, ranks, 3, metric)


def test_mean_per_class_may_be_the_score() -> None:
    plain, mean = unbalanced("top1"), unbalanced("mean_per_class")
    assert [plain.head(k).score for k in (0, 1)] == pytest.approx([90.0, 30.0])
    assert [mean.head(k).score for k in (0, 1)] == pytest.approx([50.0, 100 * (2 / 9 + 1) / 2])
    assert mean.head(0).scores == plain.head(0).scores
    again = LabelRanks.from_arrays(mean.to_arrays([1]))
    assert again.metric == "mean_per_class" and again.head(0).score == mean.head(1).score
    older = {name: array for name, array in plain.to_arrays().items() if name != "metric"}
    assert LabelRanks.from_arrays(older).head(0).score == pytest.approx(90.0)
    joined = LabelRanks.together([None, LabelRanks.from_arrays(mean.to_arrays([0]))])
    assert joined is not None and joined.metric == "mean_per_class"
    assert [joined.head(k).score for k in (0, 1)] == [0.0, mean.head(0).score]


def test_the_interval_is_of_the_metric() -> None:
    mean = unbalanced("mean_per_class")
    assert mean.interval([0]) == pytest.approx((50.0, 50.0))  # both classes are certain
    generator = np.random.default_rng(0)
    weights = generator.exponential(size=(1000, 10))
    shares = weights[:, :2].sum(axis=1) / weights[:, :9].sum(axis=1)
    expected = np.percentile(100 * (shares + 1) / 2, [2.5, 97.5])
    assert mean.interval([1]) == pytest.approx(tuple(expected))
    both = np.percentile(100 * ((1 + shares) / 2 + 0.5) / 2, [2.5, 97.5])
    assert mean.interval([0, 1]) == pytest.approx(tuple(both))


@pytest.mark.parametrize("task", ["folder_linear", "folder_knn"])
def test_the_metric_of_a_run(folder: Path, tmp_path: Path, task: str) -> None:
    source = read_backbone("random:resnet18x0.25")
    overrides = SMALL if task == "folder_linear" else {"data.crop": 48, "knn.ks": [1, 2, 3]}
    loaded = load_task(task, "ci", {**overrides, "data.metric": "mean_per_class"})
    asked = RunRequest(
        task=loaded, source=source, data_root=folder, out=tmp_path, workers=0, device="cpu"
    )
    record = run_task(asked, Silent()).record
    assert record.task.metric == "mean_per_class"
    assert 'data.metric: "mean_per_class" instead of none' in record.deviations
    assert all(one.score == one.scores["mean_per_class"] for one in record.results)
    best = record.best
    assert best is not None and best.score == pytest.approx(best.scores["mean_per_class"], abs=1e-3)
    assert best.interval[0] <= best.score <= best.interval[1]
    with np.load(tmp_path / str(record.pictures_file)) as arrays:
        assert LabelRanks.from_arrays(dict(arrays)).metric == "mean_per_class"
