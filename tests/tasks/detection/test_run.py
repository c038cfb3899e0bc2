"""Whole runs of detection on made-up VOC and COCO: the record, the grid, resuming, bad input."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import base_dataset
from mmengine.optim import OptimWrapper
from torch import nn

from tests.reporter import Silent
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.data import make_coco, make_voc_boxes, read_detection
from vicregl_bench.errors import ConfigError, DataError, RunInterruptedError
from vicregl_bench.records import Record, read_record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.records.detections import load_detections
from vicregl_bench.tasks import finetune_job, frozen_job
from vicregl_bench.tasks.detection import domain
from vicregl_bench.tasks.detection.frozen_detector import FrozenSweepDetector
from vicregl_bench.tasks.detection.outcome import DetectionOutcome
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task
from vicregl_bench.tasks.training import build_optimizer

SIZE = (80, 64)  # of the pictures, width and height
TINY, CONVNEXT, VIT = "resnet18x0.25", "convnext_atto", "vit_tiny_patch16"
SHORT: dict[str, Any] = {
    "data.short_sides": [64],
    "data.test_short_side": 64,
    "data.longest": 128,
    "schedule.batch_size": 2,
    "detector.anchors": 32,
    "detector.proposals_train": [60, 30],
    "detector.proposals_test": [60, 20],
    "detector.regions": 16,
    "detector.score_threshold": 0.01,  # so that untrained heads find something
    "detector.detections": 20,
}
LINEAR: dict[str, Any] = SHORT | {
    "schedule.iters": 4,
    "schedule.steps.milestones": [3],
    "schedule.warmup.iters": 2,
    "sweep.lrs": [0.002, 0.0005],
    "sweep.seeds": 2,
}
BRIEF, LONG = {"iters": 2, "start_factor": 0.1}, {"iters": 2, "start_factor": 0.5}
C4: dict[str, Any] = SHORT | {
    "schedule.iters": 3,
    "schedule.steps.milestones": [2],
    "precise_bn": 2,
    "sweep.lrs": [0.02],
    "sweep.warmups": [BRIEF],
    "sweep.seeds": 1,
}
MASKS: dict[str, Any] = SHORT | {
    "schedule.iters": 3,
    "schedule.steps.milestones": [2],
    "schedule.warmup.iters": 2,
}
SMALL = {
    "voc_det_linear": LINEAR,
    "voc_det_frcnn_c4": C4,
    "coco_maskrcnn": MASKS,
    "coco_semi_maskrcnn": MASKS,
}
VOC_SCORES = {"ap", "ap50", "ap75", "map07", "coco_ap", "coco_ap50", "coco_ap75"}

Whole = Callable[[], RunOutcome]


@pytest.fixture(autouse=True)
def no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mmengine collects garbage once for every data set: half the time of so small a run."""
    monkeypatch.setattr(base_dataset, "gc", SimpleNamespace(collect=lambda: 0))


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 8 training and 4 test pictures."""
    folder = tmp_path_factory.mktemp("boxes") / "voc"
    return make_voc_boxes(folder, train=8, val=4, seed=0, size=SIZE, classes=3)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 20 training and 3 val pictures, some with a crowd."""
    folder = tmp_path_factory.mktemp("objects") / "coco"
    return make_coco(folder, train=20, val=3, seed=2, size=SIZE, classes=3)


def request(root: Path, out: Path, task: str, **changes: Any) -> RunRequest:
    source = read_backbone(f"random:{changes.pop('arch', TINY)}")
    source = dataclasses.replace(
        source,
        card=dataclasses.replace(source.card, detection_preset=changes.pop("suggested", None)),
    )
    loaded = load_task(  # as the command line does
        task,
        "ci",
        SMALL.get(task, {}) | changes.pop("overrides", {}),
        family=source.architecture.family,
        arch=source.arch,
        preset=changes.pop("preset", None),
        suggested=source.card.detection_preset,
    )
    made = RunRequest(task=loaded, source=source, data_root=root, out=out, workers=0, device="cpu")
    return dataclasses.replace(made, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def kept_outcome(outcome: RunOutcome) -> DetectionOutcome:
    """The detections of the best heads, beside the record."""
    file = outcome.path.parent / str(outcome.record.pictures_file)
    return DetectionOutcome.from_arrays(read_arrays(file))


def assert_same(one: RunOutcome, other: RunOutcome) -> None:
    """That two runs have the same scores, to the last digit, and found the same boxes."""
    assert one.record.results == other.record.results
    assert one.record.best == other.record.best
    first, second = (
        read_arrays(run.path.parent / str(run.record.pictures_file)) for run in (one, other)
    )
    assert first.keys() == second.keys()
    assert len(first["found_scores"]) > 0
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


def assert_kept(outcome: RunOutcome, root: Path, pictures: int) -> None:
    """That both files beside a record say what the record says."""
    record, kept = outcome.record, kept_outcome(outcome)
    best = record.best
    assert best is not None
    heads = [
        result
        for result in record.results
        if (result.lr, result.options) == (best.lr, best.options) and result.score is not None
    ]
    assert len(kept.found) == len(heads) == best.seeds
    for k, result in enumerate(heads):
        again = kept.head(k)
        assert result.score == pytest.approx(again.score, abs=1e-4)  # rounded so
        for name, value in again.scores.items():
            expected = None if value is None else pytest.approx(value, abs=1e-4)
            assert result.scores[name] == expected
    assert best.interval == pytest.approx(kept.interval(range(len(heads))), abs=1e-4)
    drawn, classes = load_detections(outcome.path.parent / str(record.predictions_file))
    assert len(drawn) == pictures and set(classes) == set(best.by_class)
    index = {name: i for i, name in enumerate(kept.names)}
    for one in drawn:
        assert (root / one.image).is_file() and one.size == SIZE[::-1]
        found, there = kept.found[0][index[one.name]], kept.truth[index[one.name]]
        assert np.array_equal(one.scores, found.scores.astype(np.float32))
        assert np.array_equal(one.boxes, found.boxes.astype(np.float32))
        assert np.array_equal(one.truth_boxes, there.boxes.astype(np.float32))
        assert np.array_equal(one.ignored, there.ignore)


@pytest.fixture
def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
    """Models and optimisers of the fine-tuned runs begun from now on."""
    made: list[tuple[nn.Module, torch.optim.Optimizer]] = []
    original = finetune_job._optimizer

    def watched(plan: Any, model: nn.Module, head: Any) -> OptimWrapper:
        wrapper = original(plan, model, head)
        made.append((model, wrapper.optimizer))
        return wrapper

    monkeypatch.setattr(finetune_job, "_optimizer", watched)
    return made


@dataclasses.dataclass
class Sweeps:
    """What the frozen runs begun since had: their heads, optimisers and losses (iterations, K)."""

    models: list[FrozenSweepDetector] = dataclasses.field(default_factory=list)
    optimizers: list[torch.optim.Optimizer] = dataclasses.field(default_factory=list)
    losses: list[torch.Tensor] = dataclasses.field(default_factory=list)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    """Filled by the frozen runs begun from now on."""
    kept = Sweeps()
    make_model = domain.Detection.sweep_model
    loss = FrozenSweepDetector.loss

    def sweep_model(self: Any, trunk: Any) -> FrozenSweepDetector:
        kept.models.append(make_model(self, trunk))
        return kept.models[-1]

    def watched_optimizer(*args: Any) -> OptimWrapper:
        wrapper = build_optimizer(*args)
        kept.optimizers.append(wrapper.optimizer)
        return wrapper

    def watched_loss(self: FrozenSweepDetector, *args: Any) -> dict[str, torch.Tensor]:
        found = loss(self, *args)
        kept.losses.append(found["loss_per_head"].clone())
        return found

    monkeypatch.setattr(domain.Detection, "sweep_model", sweep_model)
    monkeypatch.setattr(frozen_job, "build_optimizer", watched_optimizer)
    monkeypatch.setattr(FrozenSweepDetector, "loss", watched_loss)
    return kept


@pytest.fixture(scope="module")
def linear(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The outcome of `voc_det_linear` that nothing interrupts, made once."""
    return cache(lambda: run(voc, tmp_path_factory.mktemp("linear"), "voc_det_linear", pictures=3))


def test_a_linear_run_leaves_a_whole_record(linear: Whole, voc: Path) -> None:
    outcome = linear()
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.name, record.task.version) == (
        "complete",
        "voc_det_linear",
        1,
    )
    assert (record.task.metric, record.task.tables, record.task.preset) == ("ap", ("9",), None)
    assert [(r.lr, r.seed) for r in record.results] == [
        (0.002, 0),
        (0.002, 1),
        (0.0005, 0),
        (0.0005, 1),
    ]
    classes = read_detection("voc_boxes", voc).classes
    for result in record.results:
        assert set(result.scores) >= VOC_SCORES and not any("mask" in n for n in result.scores)
        assert result.score == result.scores["ap"] is not None
        assert result.scores["map07"] == result.scores["ap50"]
        assert tuple(result.by_class or ()) == classes
        values = [value for value in (result.by_class or {}).values() if value is not None]
        assert result.score == pytest.approx(np.mean(values), abs=1e-3)
    assert (record.data.train, record.data.val, record.data.variant) == (8, 4, "voc07")
    assert record.frozen_hash_unchanged is True
    assert record.best is not None and record.best.seeds == 2 and record.best.options == {}
    assert any(d.startswith("schedule.iters: 4 instead of 60") for d in record.deviations)
    assert any("8 train pictures, voc07 has 5,011" in d for d in record.deviations)
    assert (record.progress.iterations, record.progress.of) == (4, 4)
    assert_kept(outcome, voc, pictures=3)


def test_all_that_is_trained_of_a_linear_detector_is_linear(
    sweeps: Sweeps, voc: Path, tmp_path: Path
) -> None:
    record = run(voc, tmp_path, "voc_det_linear").record
    anchors, classes, proposals, regions = 15, 20, 64, 128  # res4 and res5 of a quarter's width
    of_weights = {
        "objectness": ("Conv2d", (anchors, proposals, 1, 1)),
        "anchor_deltas": ("Conv2d", (4 * anchors, proposals, 1, 1)),
        "classes": ("Linear", (classes + 1, regions)),
        "region_deltas": ("Linear", (4 * classes, regions)),
    }
    assert {(one.name, one.layer, one.shape) for one in record.trained} == {
        (f"linears.0.{name}.{kind}", layer, shape if kind == "weight" else shape[:1])
        for name, (layer, shape) in of_weights.items()
        for kind in ("weight", "bias")
    }
    (model,), (optimizer,) = sweeps.models, sweeps.optimizers
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    of_heads = [p for k in range(4) for p in model.sweep.head_parameters(k)]
    assert [id(p) for p in stepped] == [id(p) for p in of_heads]
    assert {id(p) for p in model.parameters()} == {id(p) for p in of_heads}  # the trunk is no part
    assert len(stepped) == 4 * len(record.trained)
    assert set(optimizer.state) == set(stepped)
    assert all(state["momentum_buffer"].any() for state in optimizer.state.values())
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    assert rates == [result.lr for result in record.results]
    assert all((g["momentum"], g["weight_decay"]) == (0.9, 1e-4) for g in optimizer.param_groups)


@pytest.mark.parametrize(("stage", "step", "done"), [("training", 2, 2), ("validating", 2, 4)])
def test_an_interrupted_linear_run_resumes_to_the_same_numbers(
    stage: str,
    step: int,
    done: int,
    linear: Whole,
    voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, stage, step)
        with pytest.raises(RunInterruptedError, match=f"after {done} of 4"):
            run(voc, tmp_path, "voc_det_linear", reporter=reporter)
    kept = read_record(next(tmp_path.glob("*.json")))
    assert (kept.status, kept.progress.iterations) == ("interrupted", done)
    steps: list[int] = []
    reporter = Silent(lambda name, at: steps.append(at) if name == "training" else None)
    resumed = run(voc, tmp_path, "voc_det_linear", reporter=reporter)
    assert steps == list(range(done + 1, 5))
    assert_same(resumed, linear())


def test_a_grid_in_one_forward_equals_runs_of_one_head(
    sweeps: Sweeps, voc: Path, tmp_path: Path
) -> None:
    """But for rounding: products of all heads are stacked."""
    together = run(voc, tmp_path / "grid", "voc_det_linear").record
    losses = torch.stack(sweeps.losses)
    assert losses.shape == (4, 4)
    for k, lr in ((0, 0.002), (2, 0.0005)):  # the first seed of each rate
        sweeps.losses.clear()
        overrides = {"sweep.lrs": [lr], "sweep.seeds": 1}
        alone = run(voc, tmp_path / str(lr), "voc_det_linear", overrides=overrides).record
        torch.testing.assert_close(
            torch.stack(sweeps.losses)[:, 0], losses[:, k], rtol=1e-5, atol=0
        )
        for one, own in zip(
            sweeps.models[0].sweep.head_parameters(k),
            sweeps.models[-1].sweep.head_parameters(0),
            strict=True,
        ):
            assert (one - own).norm() <= 1e-5 * own.norm()
        (result,), in_grid = alone.results, together.results[k]
        assert (result.lr, result.seed) == (in_grid.lr, in_grid.seed)
        assert_near(result.scores, in_grid.scores)
    assert losses[:, 0].ne(losses[:, 1]).all()  # seeds differ
    assert losses[1:, 0].ne(losses[1:, 2]).all()  # and rates, from their first step on


def assert_near(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> None:
    """Equal up to the rounding of detections' scores."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name] == (None if value is None else pytest.approx(value, abs=1e-2))


@pytest.mark.parametrize("arch", [CONVNEXT, VIT])
@pytest.mark.parametrize("task", ["voc_det_linear", "voc_det_frcnn_c4"])
def test_other_backbones(
    task: str, arch: str, optimizers: list[Any], voc: Path, tmp_path: Path
) -> None:
    few = {"sweep.lrs": [1e-3], "sweep.seeds": 1}
    outcome = run(voc, tmp_path, task, arch=arch, overrides=few, pictures=2)
    record = outcome.record
    assert record.status == "complete" and record.best is not None
    assert record.frozen_hash_unchanged is (True if task == "voc_det_linear" else None)
    assert_kept(outcome, voc, pictures=2)
    if task == "voc_det_linear":
        assert {one.layer for one in record.trained} == {"Conv2d", "Linear"}
        assert all(one.shape[2:] in ((), (1, 1)) for one in record.trained)
        return
    ((model, optimizer),) = optimizers
    assert isinstance(optimizer, torch.optim.AdamW) and record.task.preset is None
    assert_norms_are_not_decayed(model, optimizer, 0.05)
    assert any(isinstance(module, nn.LayerNorm) for module in model.modules())


def assert_norms_are_not_decayed(
    model: nn.Module, optimizer: torch.optim.Optimizer, decay: float
) -> None:
    """That all parameters are in two groups, scales and shifts of norms in that without decay."""
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (decay, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    grouped = [names[id(p)] for group in (decayed, plain) for p in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    kinds = {
        f"{prefix}.{name}": type(module).__name__
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    without = {kinds[names[id(p)]] for p in plain["params"]}
    assert without and all("Norm" in kind for kind in without)
    assert not any("Norm" in kinds[names[id(p)]] for p in decayed["params"])
    moved = [p for group in (decayed, plain) for p in group["params"] if p in optimizer.state]
    assert len(moved) == len(grouped)  # all of it is trained


def test_a_grid_of_rates_warm_ups_and_seeds_is_in_the_record(
    optimizers: list[Any], voc: Path, tmp_path: Path
) -> None:
    grid = {
        "schedule.iters": 3,
        "sweep.lrs": [0.02, 0.005],
        "sweep.warmups": [BRIEF, LONG],
        "sweep.seeds": 2,
    }
    outcome = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=grid, pictures=2)
    record = outcome.record
    brief, long = (
        {f"warmup.{name}": value for name, value in one.items()} for one in (BRIEF, LONG)
    )
    assert [(r.lr, r.options, r.seed) for r in record.results] == [
        (lr, options, seed) for lr in (0.02, 0.005) for options in (brief, long) for seed in (0, 1)
    ]
    assert (record.progress.iterations, record.progress.of) == (24, 24)
    best = record.best
    assert best is not None and best.seeds == 2 and best.options in (brief, long)
    means = {
        (lr, str(options)): np.mean(
            [r.score for r in record.results if (r.lr, r.options) == (lr, options)]
        )
        for lr in (0.02, 0.005)
        for options in (brief, long)
    }
    assert means[best.lr, str(best.options)] == max(means.values())
    assert record.task.metric == "ap" and set(best.scores) >= VOC_SCORES
    assert_kept(outcome, voc, pictures=2)
    first = [next(model.parameters()) for model, _ in optimizers]
    assert len({float(weight.detach().abs().sum()) for weight in first}) == 8  # no two end alike
    model, optimizer = optimizers[0]
    assert_norms_are_not_decayed(model, optimizer, 1e-4)


@pytest.mark.parametrize(
    ("suggested", "preset", "chosen", "weight"),
    [(None, None, "moco", 1.0), ("lars", None, "lars", 0.2), ("lars", "moco", "moco", 1.0)],
)
def test_presets(
    suggested: str | None,
    preset: str | None,
    chosen: str,
    weight: float,
    optimizers: list[Any],
    voc: Path,
    tmp_path: Path,
) -> None:
    changes = {"suggested": suggested, "preset": preset}
    record = run(voc, tmp_path, "voc_det_frcnn_c4", **changes).record
    assert record.status == "complete" and record.task.preset == chosen
    assert record.task.settings["detector"]["rpn_loss_weight"] == weight
    assert not any("rpn" in deviation for deviation in record.deviations)
    ((model, _),) = optimizers
    rpn: Any = model.get_submodule("rpn_head")
    assert (rpn.loss_cls.loss_weight, rpn.loss_bbox.loss_weight) == (weight, weight)
    keys = {
        make_plan(request(voc, tmp_path, "voc_det_frcnn_c4", preset=name)).key
        for name in ("moco", "lars")
    }
    assert len(keys) == 2 and record.key in keys


def test_norms_are_decayed_where_that_is_asked_for(
    optimizers: list[Any], voc: Path, tmp_path: Path
) -> None:
    overrides = {"schedule.optimizer.norm_decay": None}
    record = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=overrides).record
    ((_, optimizer),) = optimizers
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 1e-4
    assert "schedule.optimizer.norm_decay: none instead of false" in record.deviations


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}


@pytest.mark.parametrize("batches", [2, None])
def test_precise_statistics_are_what_is_tested(
    batches: int | None, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[dict[str, torch.Tensor]] = []
    tested: list[dict[str, torch.Tensor]] = []
    seen: list[list[str]] = []
    before, stand_in = domain.Detection.before_scoring, domain.Detection.tested

    def watched(self: Any, model: Any, loader: Any, stage: Any) -> None:
        trained.append(statistics(model))
        seen.extend(
            [sample.img_id for sample in batch["data_samples"]]
            for batch, _ in zip(loader(), range(2), strict=False)
        )
        before(self, model, loader, stage)

    def tested_model(self: Any, model: nn.Module) -> nn.Module:
        tested.append(statistics(model))
        return stand_in(self, model)

    monkeypatch.setattr(domain.Detection, "before_scoring", watched)
    monkeypatch.setattr(domain.Detection, "tested", tested_model)
    stages: list[tuple[str, int]] = []
    reporter = Silent(lambda name, done: stages.append((name, done)))
    overrides = {"precise_bn": batches}
    outcome = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=overrides, reporter=reporter)
    precise = [done for name, done in stages if name.startswith("precise BatchNorm")]
    (first,), (second,) = trained, tested
    assert first.keys() == second.keys() and len(first) > 20
    changed = [not torch.equal(first[name], second[name]) for name in first]
    if batches is None:
        assert precise == [] and not any(changed)
        assert "precise_bn: none instead of 10" in outcome.record.deviations
    else:
        assert precise == [1, 2] and all(changed)
        assert len(seen) == 2 and seen[0] != seen[1]


@pytest.fixture(scope="module")
def c4(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The outcome of two runs of `voc_det_frcnn_c4` that nothing interrupts, made once."""
    return cache(lambda: run(voc, tmp_path_factory.mktemp("c4"), "voc_det_frcnn_c4", overrides=TWO))


TWO = {"sweep.warmups": [BRIEF, LONG]}
FIRST = "lr 0.02, warmup.iters 2, warmup.start_factor 0.1, seed 0 (1 of 2)"
SECOND = "lr 0.02, warmup.iters 2, warmup.start_factor 0.5, seed 0 (2 of 2)"


@pytest.mark.parametrize(
    ("stage", "step", "done"),
    [
        (f"training {SECOND}", 2, 5),
        (f"precise BatchNorm {FIRST}", 1, 3),
        (f"validating {SECOND}", 2, 6),
    ],
)
def test_an_interrupted_c4_run_resumes_to_the_same_numbers(
    stage: str,
    step: int,
    done: int,
    c4: Whole,
    voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, stage, step)
        with pytest.raises(RunInterruptedError, match=f"after {done} of 6"):
            run(voc, tmp_path, "voc_det_frcnn_c4", overrides=TWO, reporter=reporter)
    trained: list[tuple[str, int]] = []
    reporter = Silent(
        lambda name, at: trained.append((name, at)) if name.startswith("training") else None
    )
    resumed = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=TWO, reporter=reporter)
    assert len(trained) == 6 - done  # it did resume
    assert_same(resumed, c4())


def test_a_batch_in_parts_is_a_deviation(optimizers: list[Any], voc: Path, tmp_path: Path) -> None:
    overrides = {"schedule.accumulate": 2}
    record = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=overrides).record
    assert record.status == "complete" and record.best is not None
    assert "schedule.accumulate: 2 instead of none" in record.deviations
    ((model, _),) = optimizers
    assert model.accumulate == 2


def test_runs_that_break_have_no_score(voc: Path, tmp_path: Path) -> None:
    """One of them by its last step, which only precise BatchNorm's forward shows."""
    warmups = [{"iters": 2, "start_factor": 1e-30}, {"iters": 2, "start_factor": 1.0}]
    overrides = {"sweep.lrs": [1e30, 1e-3], "sweep.warmups": warmups}
    record = run(voc, tmp_path, "voc_det_frcnn_c4", overrides=overrides).record
    assert [(r.score is None, r.diverged_at) for r in record.results] == [
        (True, 2),
        (True, 1),
        (False, None),
        (False, None),
    ]
    assert record.status == "complete" and record.best is not None and record.best.lr == 1e-3


def test_heads_that_break_have_no_score(voc: Path, tmp_path: Path) -> None:
    overrides = {"sweep.lrs": [1e30, 0.01], "sweep.seeds": 1}
    record = run(voc, tmp_path, "voc_det_linear", overrides=overrides).record
    lost, kept = record.results
    assert lost.score is None and lost.diverged_at is not None and kept.score is not None
    assert record.best is not None and record.best.lr == 0.01


@pytest.mark.parametrize("task", ["coco_maskrcnn", "coco_semi_maskrcnn"])
def test_mask_rcnn(task: str, coco: Path, tmp_path: Path) -> None:
    outcome = run(coco, tmp_path, task, pictures=2)
    record = read_record(outcome.path)
    assert record == outcome.record and record.status == "complete"
    variant = record.task.settings["data"]["variant"]
    dataset = read_detection("coco", coco, variant)
    crowds = [dataset.annotations(picture).crowd.any() for picture in dataset.train]
    assert any(crowds) and any(dataset.annotations(one).crowd.any() for one in dataset.val)
    assert record.task.metric == "ap"
    (result,) = record.results
    assert {"ap", "ap50", "ap75", "mask_ap", "mask_ap50", "mask_ap75"} <= set(result.scores)
    assert result.scores["mask_ap"] is not None and result.score == result.scores["ap"]
    assert "map07" not in result.scores and "coco_ap" not in result.scores
    assert len(result.by_class or {}) == 80
    assert record.frozen_hash_unchanged is None
    assert_kept(outcome, coco, pictures=2)
    kept = kept_outcome(outcome)
    for picture, there in zip(dataset.val, kept.truth, strict=True):
        assert np.array_equal(there.ignore, dataset.annotations(picture).crowd)
        assert there.masks is not None and len(there.masks) == len(there.boxes)
    assert (record.data.variant, record.data.val) == (variant, 3)
    if task == "coco_maskrcnn":
        assert record.data.train == 20 and not any("sha256" in d for d in record.deviations)
        return
    assert record.data.train == len(dataset.train) == 2
    assert_list_is_in_the_record(record, [picture.name for picture in dataset.train])


def assert_list_is_in_the_record(record: Record, names: list[str]) -> None:
    import hashlib

    digest = hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()
    (said,) = [deviation for deviation in record.deviations if "sha256" in deviation]
    assert digest in said and "10 % of train" in said and "seed 0" in said


@pytest.mark.parametrize("task", ["voc_det_linear", "voc_det_frcnn_c4"])
def test_holdout_selects_on_a_slice_of_train(task: str, voc: Path, tmp_path: Path) -> None:
    overrides = {"sweep.holdout": 0.25, "sweep.lrs": [0.02, 0.005], "sweep.seeds": 1}
    record = run(voc, tmp_path, task, select="holdout", overrides=overrides).record
    assert (record.data.train, record.data.holdout, record.data.val) == (6, 2, 4)
    assert any("held out" in deviation for deviation in record.deviations)
    held = {result.lr: result.holdout for result in record.results}
    assert len(held) == 2 and all(value is not None for value in held.values())
    assert record.best is not None
    assert held[record.best.lr] == max(value for value in held.values() if value is not None)
    (best,) = [result for result in record.results if result.lr == record.best.lr]
    assert record.best.score == best.score  # of val


def test_boxes_are_wanted_of_the_data_root(tiny_voc: Path, voc: Path, tmp_path: Path) -> None:
    for task in ("voc_det_linear", "voc_det_frcnn_c4"):
        with pytest.raises(DataError, match="VOC2007") as error:
            run(tiny_voc, tmp_path / "out", task)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="COCO"):
        run(voc, tmp_path / "out", "coco_maskrcnn")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "arch"),
    [
        ("voc_det_linear", "swin_tiny_patch4_window7"),
        ("voc_det_frcnn_c4", "swin_tiny_patch4_window7"),
        ("coco_maskrcnn", VIT),
    ],
)
def test_families_without_such_a_detector(task: str, arch: str, voc: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"task {task} is for .* backbones, not"):
        run(voc, tmp_path / "out", task, arch=arch)
    assert not (tmp_path / "out").exists()


def test_detectron2_is_wanted_before_anything_is_computed(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    stages: list[str] = []
    reporter = Silent(lambda name, done: stages.append(name))
    arch = "resnet50x0.25"
    with pytest.raises(ConfigError, match="--engine detectron2 needs detectron2"):
        asked = {"arch": arch, "engine": "detectron2", "reporter": reporter}
        run(voc, tmp_path / "out", "voc_det_frcnn_c4", **asked)
    assert stages == [] and not (tmp_path / "out").exists()
    plans = [
        make_plan(request(voc, tmp_path, "voc_det_frcnn_c4", arch=arch, engine=engine))
        for engine in ("mmdet", "detectron2")
    ]
    assert plans[0].key != plans[1].key


@pytest.mark.parametrize("task", ["voc_det_linear", "coco_maskrcnn", "voc_linear", "voc_linear_ft"])
def test_detectron2_is_for_one_task(
    task: str, voc: Path, coco: Path, tiny_voc: Path, tmp_path: Path
) -> None:
    root = {"voc_det_linear": voc, "coco_maskrcnn": coco}.get(task, tiny_voc)
    with pytest.raises(ConfigError, match=rf"--engine detectron2 is for .*, not for {task}"):
        run(root, tmp_path / "out", task, engine="detectron2")
    assert not (tmp_path / "out").exists()
