"""Whole runs on made-up pictures: the record, resuming, divergence, selection."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image

from tests.reporter import Silent
from tests.tasks.stopping import kill_at, leave_record, stop_after, watch_flags
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import BenchError, DataError, RecordError, RunInterruptedError
from vicregl_bench.records import Record, read_record
from vicregl_bench.records.predictions import load_predictions
from vicregl_bench.tasks import run as run_module
from vicregl_bench.tasks.frozen_job import FrozenJob
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task
from vicregl_bench.tasks.state import read_spent

TINY = "resnet18x0.25"
SMALL = {
    "data.crop": [64, 64],
    "data.resize": [256, 64],
    "data.test_resize": [256, 64],
    "schedule.iters": 12,
    "schedule.batch_size": 4,
    "sweep.lrs": [0.1, 0.01],
    "sweep.seeds": 2,
}


def request(root: Path, out: Path, task: str = "voc_linear", **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    source = read_backbone(f"random:{changes.pop('arch', 'resnet18')}")
    made = RunRequest(
        task=load_task(task, "ci", overrides),
        source=source,
        data_root=root,
        out=out,
        workers=0,
        device="cpu",
    )
    return dataclasses.replace(made, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def scores(outcome: RunOutcome) -> list[Any]:
    return [result.by_class for result in outcome.record.results]


@pytest.mark.parametrize("task", ["voc_linear", "voc_linear_released"])
def test_a_run_leaves_a_whole_record(task: str, tiny_voc: Path, tmp_path: Path) -> None:
    outcome = run(tiny_voc, tmp_path, task, pictures=2)
    record = read_record(outcome.path)
    assert record == outcome.record
    assert record.status == "complete"
    assert (record.task.name, record.task.version, record.task.profile) == (task, 1, "ci")
    assert [(r.lr, r.seed) for r in record.results] == [(0.1, 0), (0.1, 1), (0.01, 0), (0.01, 1)]
    assert record.frozen_hash_unchanged is True
    assert record.checkpoint.name == "random:resnet18"
    assert (record.data.train, record.data.val, record.data.variant) == (12, 6, "voc12")
    assert any(d.startswith("schedule.iters: 12") for d in record.deviations)
    assert any("SegmentationClassAug" in d for d in record.deviations)
    best = record.best
    assert best is not None and best.seeds == 2
    of_best = [r.score for r in record.results if r.lr == best.lr]
    assert best.score == pytest.approx(np.mean(of_best), abs=1e-3)
    assert best.std == pytest.approx(np.std(of_best), abs=1e-3)
    for lr in (0.1, 0.01):
        assert best.score >= np.mean([r.score for r in record.results if r.lr == lr]) - 1e-3
    assert best.interval[0] <= best.score <= best.interval[1]
    assert record.cost.pictures_per_second and record.cost.peak_memory_mib > 100
    kept = load_predictions(tmp_path / str(record.predictions_file))
    assert len(kept) == 2
    assert kept[0].labels.shape == kept[0].truth.shape == (120, 160)
    assert (tiny_voc / kept[0].image).is_file()
    with np.load(tmp_path / str(record.pictures_file)) as areas:
        assert areas["intersect"].shape == (6, 4, 21)
        miou = np.nanmean(
            100
            * areas["intersect"].sum(0)[0]
            / np.maximum(
                1e-9,
                (
                    areas["predicted"].sum(0)[0]
                    + areas["labelled"].sum(0)
                    - areas["intersect"].sum(0)[0]
                ),
            ),
            where=(areas["predicted"].sum(0)[0] + areas["labelled"].sum(0)) > 0,
        )
    assert miou == pytest.approx(record.results[0].score, abs=1e-3)


def test_it_learns_what_can_be_learnt(tiny_voc: Path, tmp_path: Path) -> None:
    """With pictures painted in their labels' colours even random features must do well."""
    root = tmp_path / "voc"
    shutil.copytree(tiny_voc, root)
    for mask in (root / "VOC2012/SegmentationClass").glob("*.png"):
        picture = Image.open(mask).convert("RGB")
        picture.save(root / "VOC2012/JPEGImages" / f"{mask.stem}.jpg", quality=95)
    begun, trained = (
        run(root, tmp_path / "out", "voc_linear_released", overrides={"schedule.iters": n})
        for n in (1, 80)
    )
    assert begun.record.best and trained.record.best
    assert trained.record.best.score > begun.record.best.score + 10


def test_the_same_again_is_skipped_and_force_repeats_it(tiny_voc: Path, tmp_path: Path) -> None:
    first = run(tiny_voc, tmp_path)
    again = run(tiny_voc, tmp_path)
    assert again.skipped and again.record == first.record
    forced = run(tiny_voc, tmp_path, force=True)
    assert not forced.skipped
    assert scores(forced) == scores(first)
    assert forced.path == first.path


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": {"schedule.iters": 13}},
        {"precision": "bf16"},
        {"select": "holdout"},
        {"source": read_backbone("random:resnet18", seed=1)},
    ],
)
def test_whatever_changes_the_result_changes_the_key(
    change: dict[str, Any], tiny_voc: Path, tmp_path: Path
) -> None:
    one, other = request(tiny_voc, tmp_path), request(tiny_voc, tmp_path, **change)
    assert make_plan(one).key != make_plan(other).key


@pytest.mark.parametrize(
    "card",
    [
        {"pooling": "cls"},
        {"output_norm": True},
        {"mean": (0.0, 0.0, 0.0)},
        {"channel_order": "bgr"},
    ],
)
def test_what_the_card_says_of_features_changes_the_key(
    card: dict[str, Any], tiny_voc: Path, tmp_path: Path
) -> None:
    one = request(tiny_voc, tmp_path)
    source = dataclasses.replace(one.source, card=dataclasses.replace(one.source.card, **card))
    assert make_plan(one).key != make_plan(dataclasses.replace(one, source=source)).key


@pytest.mark.parametrize(("stage", "step", "done"), [("training", 5, 5), ("validating", 2, 12)])
@pytest.mark.parametrize("task", ["voc_linear", "voc_linear_released"])
def test_an_interrupted_run_resumes_to_the_same_numbers(
    stage: str,
    step: int,
    done: int,
    task: str,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(tiny_voc, tmp_path / "whole", task)
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, stage, step)
        with pytest.raises(RunInterruptedError, match=f"after {done} of 12"):
            run(tiny_voc, out, task, reporter=reporter)
    kept = read_record(next(out.glob("*.json")))
    assert (kept.status, kept.progress.iterations) == ("interrupted", done)
    steps: list[int] = []
    resumed = run(
        tiny_voc,
        out,
        task,
        reporter=Silent(lambda name, at: steps.append(at) if name == "training" else None),
    )
    assert steps == list(range(done + 1, 13))  # it did resume
    assert scores(resumed) == scores(whole)
    assert resumed.record.status == "complete"
    assert resumed.record.cost.wall_s > kept.cost.wall_s
    assert len(list(out.glob("*.json"))) == 1


def test_diverged_heads_are_marked_and_the_rest_counts(tiny_voc: Path, tmp_path: Path) -> None:
    reporter = Silent()
    outcome = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [1e30, 0.1]}, reporter=reporter)
    good = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [0.1]})
    lost = outcome.record.results[:2]
    assert all(r.score is None and r.diverged_at is not None for r in lost)
    assert scores(outcome)[2:] == scores(good)
    assert outcome.record.best and outcome.record.best.lr == 0.1
    assert len([w for w in reporter.warnings if "lr 1e+30" in w]) == 2
    assert "NaN" not in outcome.path.read_text()


def test_all_heads_diverged_is_a_record_without_a_best(tiny_voc: Path, tmp_path: Path) -> None:
    outcome = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [1e30]})
    assert outcome.record.status == "diverged"
    assert outcome.record.best is None
    assert outcome.record.progress.iterations < 12  # it did not go on for nothing


def test_holdout_selects_on_a_slice_of_train(tiny_voc: Path, tmp_path: Path) -> None:
    outcome = run(tiny_voc, tmp_path, select="holdout")
    record = outcome.record
    assert (record.data.train, record.data.holdout) == (11, 1)
    assert all(r.holdout is not None for r in record.results)
    assert any("held out" in d for d in record.deviations)
    means = {lr: np.mean([r.holdout for r in record.results if r.lr == lr]) for lr in (0.1, 0.01)}
    assert record.best and record.best.lr == max(means, key=lambda lr: means[lr])


def test_damaged_data_stops_before_training(tiny_voc: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(tiny_voc, root)
    picture = next((root / "VOC2012/JPEGImages").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:500])
    stages: list[str] = []
    with pytest.raises(DataError, match=picture.name):
        run(root, tmp_path / "out", reporter=Silent(lambda name, _: stages.append(name)))
    assert "training" not in stages
    assert not list((tmp_path / "out").glob("*.json"))


def test_a_full_disk_is_one_clear_error(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.fileio.backends import LocalBackend

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "put", full)
        with pytest.raises(RecordError, match="No space left on device"):
            run(tiny_voc, tmp_path)
    assert run(tiny_voc, tmp_path).record.status == "complete"  # nothing stands in the way


def ends_with(patch: pytest.MonkeyPatch, error: Exception, stopped: bool = False) -> None:
    """Every frozen task's computing ends with an error, after Ctrl-C or without it."""

    def measure(self: FrozenJob, stop: StopFlag) -> None:
        stop.requested = stopped
        raise error

    patch.setattr(FrozenJob, "measure", measure)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.ENOTDIR])
@pytest.mark.parametrize("folder", ["elsewhere", "out", "."])
def test_what_cannot_be_read_is_told_from_what_cannot_be_written(
    folder: str, code: int, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the records are: apart from the data, in a folder above it, in the same one."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "out" / "voc"
    shutil.copytree(tiny_voc, root)
    picture = next(root.rglob("*.jpg"))
    asked = request(root, Path(folder), arch=TINY)
    ends_with(monkeypatch, OSError(code, os.strerror(code), str(picture)))
    with pytest.raises(DataError, match=picture.name):
        run_task(asked, Silent())
    for written in (Path(folder, "a.json"), Path(folder, "work", "a", "iter_5.pth")):
        ends_with(monkeypatch, OSError(code, os.strerror(code), str(written)))
        with pytest.raises(RecordError, match="cannot write under"):
            run_task(asked, Silent())


def test_a_folder_that_cannot_be_made_is_one_clear_error(tiny_voc: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot write under"):
        run(tiny_voc, tmp_path / "file" / "out", arch=TINY)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate "
            "memory)"
        ),
    ],
)
def test_memory_that_ran_out_gives_one_advice(
    error: Exception, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, error)
    with pytest.raises(BenchError, match=r"^out of memory on cpu: fewer --seeds or --lrs at once"):
        run(tiny_voc, tmp_path, arch=TINY)


def test_torch_says_that_memory_of_the_cpu_ran_out_as_we_expect() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator: "):
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/tmp/pymp-x/listener"),
        RuntimeError("DataLoader worker (pid 7) exited unexpectedly"),
        EOFError(),
        Timeout("lock"),
    ],
)
def test_data_loading_processes_that_die_of_a_stop_are_an_interruption(
    error: Exception, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, error, stopped=True)
    with pytest.raises(RunInterruptedError, match=r"^interrupted"):
        run(tiny_voc, tmp_path, arch=TINY)


def test_a_state_that_could_not_be_saved_is_told_after_a_stop_too(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device"), stopped=True)
    with pytest.raises(RecordError, match="No space left on device"):
        run(tiny_voc, tmp_path, arch=TINY)


def test_an_interruption_does_not_wait_for_another_process(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_LOCK_S", 0.01)
    asked = request(tiny_voc, tmp_path, arch=TINY)
    work = make_plan(asked).work
    work.mkdir(parents=True)
    ends_with(monkeypatch, ConnectionResetError(errno.ECONNRESET, "reset"), stopped=True)
    with FileLock(work / "lock"), pytest.raises(RunInterruptedError, match="another process"):
        run_task(asked, Silent())
    assert not list(tmp_path.glob("*.json"))


def test_a_second_ctrl_c_counts_what_checkpoints_have(tiny_voc: Path, tmp_path: Path) -> None:
    def end(name: str, done: int) -> None:
        if (name, done) == ("training", 11):
            raise KeyboardInterrupt

    with pytest.raises(RunInterruptedError, match="after 10 of 12"):
        run(tiny_voc, tmp_path, arch=TINY, reporter=Silent(end))
    kept = read_record(next(tmp_path.glob("*.json")))
    assert (kept.progress.iterations, kept.progress.of) == (10, 12)
    steps: list[int] = []
    reporter = Silent(lambda name, at: steps.append(at) if name == "training" else None)
    assert run(tiny_voc, tmp_path, arch=TINY, reporter=reporter).record.progress.iterations == 12
    assert steps == [11, 12]


def test_a_renamed_checkpoint_leaves_one_record(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted as a.pth, completed as b.pth, repeated as c.pth."""
    source = read_backbone(f"random:{TINY}")
    a, b, c = (dataclasses.replace(source, name=f"{name}.pth") for name in "abc")
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(tiny_voc, tmp_path, source=a, reporter=stop_after(patch, "training", 11))
    outcome = run(tiny_voc, tmp_path, source=b)
    for again in (a, b):
        assert run(tiny_voc, tmp_path, source=again) == dataclasses.replace(outcome, skipped=True)
    repeated = run(tiny_voc, tmp_path, source=c, force=True)
    assert run(tiny_voc, tmp_path, source=b).path == repeated.path
    assert {path.name.split(".", 1)[0] for path in tmp_path.glob("*.*")} == {repeated.path.stem}


def test_the_record_is_plain_json_of_a_known_shape(tiny_voc: Path, tmp_path: Path) -> None:
    tree = json.loads(run(tiny_voc, tmp_path).path.read_text())
    assert tree["schema_version"] == 2
    assert {
        "task",
        "checkpoint",
        "data",
        "deviations",
        "results",
        "best",
        "cost",
        "environment",
        "command",
    } <= set(tree)
    assert tree["environment"]["versions"]["torch"]


def test_the_protocol_is_what_runs() -> None:
    """Learning rates, optimiser, heads and transforms of a run are those of the task."""
    from mmengine.optim import PolyLR

    from vicregl_bench.backbones.zoo import find_architecture
    from vicregl_bench.data.voc import MASKS as VOC_MASKS
    from vicregl_bench.tasks.grid import learning_rate_schedule
    from vicregl_bench.tasks.segmentation.dataset import test_pipeline, train_pipeline
    from vicregl_bench.tasks.segmentation.sweeps import build_sweep
    from vicregl_bench.tasks.training import build_optimizer

    task = load_task("voc_linear_released", "paper", {"sweep.lrs": [0.1, 0.01]})
    sweep = build_sweep(task.settings, find_architecture("resnet50"))
    assert (sweep.batch_norm, sweep.dropout, sweep.ignore_index) == (True, 0.1, 255)
    assert sweep.weights[0].shape == (21, 2048)
    assert [(h.lr, h.seed) for h in sweep.heads] == [(r, s) for r in (0.1, 0.01) for s in range(3)]
    wrapper = build_optimizer(task, sweep.param_groups())
    groups = wrapper.optimizer.param_groups
    assert all((g["momentum"], g["weight_decay"]) == (0.9, 5e-4) for g in groups)
    (config,) = learning_rate_schedule(task.settings)
    assert config.pop("type") == "PolyLR"
    scheduler = PolyLR(wrapper.optimizer, **config)
    for _ in range(10_000):
        wrapper.optimizer._step_count = 1
        scheduler.step()
    for group, head in zip(groups, sweep.heads, strict=True):
        # mmengine's PolyLR reaches its end with the last of 40,000 iterations, the 39,999th step
        expected = (head.lr - 1e-4) * (1 - 10_000 / 39_999) ** 0.9 + 1e-4
        assert group["lr"] == pytest.approx(expected, rel=1e-6)
    data = task.settings.data
    train = {step["type"]: step for step in train_pipeline(data, VOC_MASKS)}
    # mmsegmentation's pascal_voc12_aug base
    assert list(train) == [
        "LoadImageFromFile", "LoadLabels", "RandomResize", "RandomCrop", "RandomFlip",
        "PhotoMetricDistortion", "PackSegInputs",
    ]  # fmt: skip
    assert train["RandomResize"]["scale"] == (2048, 512)
    assert train["RandomResize"]["ratio_range"] == (0.5, 2.0)
    assert train["RandomCrop"] == {
        "type": "RandomCrop", "crop_size": (512, 512), "cat_max_ratio": 0.75,
    }  # fmt: skip
    assert train["RandomFlip"]["prob"] == 0.5
    changed = data.model_copy(update={"test_resize": (999, 333)})
    assert test_pipeline(changed, VOC_MASKS)[1] == {
        "type": "Resize", "scale": (999, 333), "keep_ratio": True,
    }  # fmt: skip


def test_a_trunk_that_changed_gives_no_record(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vicregl_bench.backbones.frozen import FrozenTrunk

    forward = FrozenTrunk.__call__

    def drifting(self: FrozenTrunk, images: Any) -> Any:
        next(iter(self._module.parameters())).data += 1e-4
        return forward(self, images)

    monkeypatch.setattr(FrozenTrunk, "__call__", drifting)
    with pytest.raises(RuntimeError, match="frozen backbone changed"):
        run(tiny_voc, tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_head_broken_by_its_last_step_is_diverged(tiny_voc: Path, tmp_path: Path) -> None:
    outcome = run(tiny_voc, tmp_path, overrides={"schedule.iters": 1, "sweep.lrs": [3e38, 0.1]})
    assert [r.diverged_at for r in outcome.record.results] == [0, 0, None, None]


def test_force_does_not_replace_a_complete_record_by_less(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_voc, tmp_path)
    reporter = stop_after(monkeypatch, "training", 3)
    with pytest.raises(RunInterruptedError, match="earlier record stays"):
        run(tiny_voc, tmp_path, force=True, reporter=reporter)
    assert read_record(whole.path) == whole.record


def test_an_interrupted_repeat_goes_on_where_it_stopped(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_voc, tmp_path, arch=TINY)
    earlier = leave_record(whole.path, tmp_path)
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, "training", 3)
        with pytest.raises(RunInterruptedError, match=r"earlier record stays.*--force resumes"):
            run(tiny_voc, tmp_path, arch=TINY, force=True, reporter=reporter)
    assert read_record(whole.path) == earlier
    assert list(tmp_path.glob("work/*/repeats"))
    steps: list[int] = []
    reporter = Silent(lambda name, at: steps.append(at) if name == "training" else None)
    repeated = run(tiny_voc, tmp_path, arch=TINY, force=True, reporter=reporter)
    assert steps == list(range(4, 13))
    assert read_record(whole.path) == repeated.record
    assert repeated.record.created != earlier.created
    assert scores(repeated) == scores(whole)
    assert not list(tmp_path.glob("work/*/repeats"))


def test_a_killed_run_resumes_to_the_same_numbers(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained after the last checkpoint is made again, and counts once."""
    whole = run(tiny_voc, tmp_path / "whole", arch=TINY)
    out = tmp_path / "killed"
    kill_at(__name__, tiny_voc, out, "voc_linear", "training", 11, arch=TINY, pictures=2)
    assert not list(out.glob("*.json"))
    (work,) = (out / "work").iterdir()
    before = read_spent(work)
    assert (before.iterations, before.pictures) == (10, 40)
    steps: list[int] = []
    reporter = Silent(lambda name, at: steps.append(at) if name == "training" else None)
    monkeypatch.chdir(tiny_voc.parent)
    resumed = run(Path(tiny_voc.name), out, arch=TINY, pictures=4, reporter=reporter)
    assert steps == [11, 12]
    assert not any("begins again" in warning for warning in reporter.warnings)
    assert scores(resumed) == scores(whole)
    cost = resumed.record.cost
    assert cost.train_s > before.train_s and cost.wall_s > before.wall_s > 0
    assert cost.pictures_per_second is not None
    rounding = 0.006 * (cost.pictures_per_second + cost.train_s)
    assert cost.pictures_per_second * cost.train_s == pytest.approx(48, abs=rounding)
    kept = load_predictions(out / str(resumed.record.predictions_file))
    assert len(kept) == 4 and all((tiny_voc / one.image).is_file() for one in kept)


@pytest.mark.parametrize("force", [False, True])
def test_a_record_completed_by_the_time_of_a_stop_is_the_outcome(
    force: bool, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    whole = run(tiny_voc, out if force else tmp_path / "whole", arch=TINY)
    flags = watch_flags(monkeypatch)
    left: list[Record] = []

    def complete(name: str, done: int) -> None:
        if (name, done) == ("training", 2):
            left.append(leave_record(whole.path, out))
            flags[-1].requested = True

    outcome = run(tiny_voc, out, arch=TINY, force=force, reporter=Silent(complete))
    assert outcome.record == left[0] == read_record(outcome.path)


def test_foreign_files_never_reach_mmengines_loader(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It falls back to full unpickling; only what a run itself wrote may go there."""
    from mmengine.runner import checkpoint

    seen: list[str] = []
    load = checkpoint._load_checkpoint

    def watched(filename: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(str(filename))
        return load(filename, *args, **kwargs)

    monkeypatch.setattr(checkpoint, "_load_checkpoint", watched)
    monkeypatch.setattr("mmengine.runner.runner._load_checkpoint", watched)
    foreign = tmp_path / "foreign.pth"
    torch.save(dict(read_backbone("random:resnet18").state_dict), foreign)
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, "training", 5)
        with pytest.raises(RunInterruptedError):
            run(tiny_voc, tmp_path / "out", source=read_backbone(str(foreign)), reporter=reporter)
    run(tiny_voc, tmp_path / "out", source=read_backbone(str(foreign)))
    assert seen, "the resumed run reads its own state"
    assert all(str(tmp_path / "out" / "work") in name for name in seen)
    assert str(foreign) not in seen


def test_a_pretrained_backbone_beats_a_random_one(shared: Path, tmp_path: Path) -> None:
    """By a wide margin, on real pictures; 15 iterations are enough for that."""
    weights = shared / "weights/resnet50_v1_imagenet_fp16.pth"
    root = shared / "data/voc2012_seg/VOCdevkit"
    few = {"schedule.iters": 15, "sweep.lrs": [0.05], "sweep.seeds": 1}
    ci = {
        k: load_task("voc_linear", "ci").settings.model_dump()["data"][k.split(".")[1]]
        for k in ("data.crop", "data.resize", "data.test_resize")
    }
    sources = [read_backbone(str(weights), arch="resnet50_v1"), read_backbone("random:resnet50")]
    scores_ = []
    for source in sources:
        record = run(root, tmp_path, source=source, overrides=few | ci).record
        assert record.best
        scores_.append(record.best.score)
    assert scores_[0] > 15
    assert scores_[1] < 6
