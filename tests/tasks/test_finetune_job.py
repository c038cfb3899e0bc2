"""Fine-tuned tasks as lists of runs: one record, resuming one by one, several processes."""

import contextlib
import dataclasses
import functools
import gc
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from tests.reporter import Silent
from tests.tasks.stopping import (
    LATER,
    ROOT,
    command,
    kill_at,
    leave_record,
    stop_after,
    watch_flags,
)
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import BenchError, RunInterruptedError
from vicregl_bench.records import Cost, Record, find_record, read_record, write_record
from vicregl_bench.records.predictions import load_predictions
from vicregl_bench.tasks import finetune_job
from vicregl_bench.tasks.finetune_job import FinetuneJob
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task
from vicregl_bench.tasks.run_result import RunResult, load_result
from vicregl_bench.tasks.segmentation import domain
from vicregl_bench.tasks.segmentation.trained_segmentor import TrainedSegmentor, build_trained
from vicregl_bench.tasks.state import read_spent

SMALL = {
    "data.crop": [64, 64],
    "data.resize": [256, 64],
    "data.test_resize": [256, 64],
    "schedule.iters": 12,
    "schedule.batch_size": 4,
    "sweep.lrs": [0.5, 0.2],  # large, so that a dozen iterations tell the runs apart
    "sweep.seeds": 1,
}
NARROW = {"fcn.channels": 16, "fcn.auxiliary.channels": 8}
FIRST, SECOND = "training lr 0.5, seed 0 (1 of 2)", "training lr 0.2, seed 0 (2 of 2)"
STEPS = range(1, 13)

Whole = Callable[..., RunOutcome]


def request(root: Path, out: Path, task: str = "voc_linear_ft", **changes: Any) -> RunRequest:
    arch = changes.pop("arch", "resnet18x0.25")
    source = read_backbone(f"random:{arch}")
    overrides = SMALL | changes.pop("overrides", {})
    made = RunRequest(
        task=load_task(task, "ci", overrides, family=source.architecture.family, arch=arch),
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


def folders(asked: RunRequest) -> list[Path]:
    return sorted((make_plan(asked).work / "runs").iterdir())


def pictures(cost: Cost) -> Any:
    """Pictures that a cost counts, as exactly as its rounding to hundredths tells."""
    assert cost.pictures_per_second is not None
    rounding = 0.006 * (cost.pictures_per_second + cost.train_s)
    return pytest.approx(cost.pictures_per_second * cost.train_s, abs=rounding)


class Steps(Silent):
    """A reporter that keeps the steps of training, as (stage, step)."""

    def __init__(self, then: Callable[[str, int], None] = lambda name, done: None) -> None:
        self.trained: list[tuple[str, int]] = []

        def on_step(name: str, done: int) -> None:
            if name.startswith("training"):
                self.trained.append((name, done))
            then(name, done)

        super().__init__(on_step)

    def warned(self, text: str) -> int:
        """How many warnings say so."""
        return sum(text in warning for warning in self.warnings)


@pytest.fixture(scope="module")
def whole(tiny_voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The outcome of a task that nothing interrupts, made once; its folder is to be left alone."""

    @functools.cache
    def made(task: str) -> RunOutcome:
        small = NARROW if "fcn" in task else {}
        return run(tiny_voc, tmp_path_factory.mktemp(task), task, overrides=small)

    return lambda task="voc_linear_ft": made(task)


def test_a_list_of_runs_leaves_one_record(tiny_voc: Path, tmp_path: Path) -> None:
    outcome = run(tiny_voc, tmp_path, overrides={"sweep.seeds": 2})
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.name) == ("complete", "voc_linear_ft")
    assert [(r.lr, r.seed) for r in record.results] == [
        (0.5, 0),
        (0.5, 1),
        (0.2, 0),
        (0.2, 1),
    ]
    assert len({str(result.by_class) for result in record.results}) == 4
    assert (record.progress.iterations, record.progress.of) == (48, 48)
    assert record.frozen_hash_unchanged is None
    assert record.environment.precision == "fp32"
    assert record.best is not None and record.best.seeds == 2
    assert record.cost.train_s > 0 and record.cost.pictures_per_second
    with np.load(tmp_path / str(record.pictures_file)) as areas:
        assert areas["intersect"].shape == (6, 4, 21)
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("result.npz"))
    assert run(tiny_voc, tmp_path, overrides={"sweep.seeds": 2}).skipped


@pytest.mark.parametrize(
    ("task", "arch", "changes"),
    [
        ("voc_linear_ft", "convnext_atto", {"slide.crop": 64, "slide.stride": 43}),
        ("voc_fcn_ft", "resnet18x0.25", NARROW),
        ("voc_fcn", "resnet18x0.25", NARROW),
        ("voc_linear_ft", "resnet18x0.25", {"test.flip": True, "test.scales": [0.5, 1]}),
        ("voc_fcn", "resnet18x0.25", {"fcn.channels": 16, "test.scales": [0.5, 1]}),
        ("voc_linear_ft", "resnet18x0.25", {"schedule.accumulate": 2}),
    ],
)
def test_every_kind_of_task_runs(
    task: str, arch: str, changes: dict[str, Any], tiny_voc: Path, tmp_path: Path
) -> None:
    record = run(tiny_voc, tmp_path, task, arch=arch, overrides=changes).record
    assert record.status == "complete" and record.best is not None
    assert record.frozen_hash_unchanged is (None if task.endswith("_ft") else True)
    assert len(record.results) == 2
    for key in changes:
        assert any(deviation.startswith(key) for deviation in record.deviations)


@pytest.mark.parametrize("task", ["voc_linear_ft", "voc_fcn_ft"])
@pytest.mark.parametrize(
    ("stage", "step", "done"),
    [(FIRST, 3, 3), (SECOND, 2, 14), ("validating lr 0.2, seed 0 (2 of 2)", 2, 24)],
)
def test_an_interrupted_list_resumes_to_the_same_numbers(
    task: str,
    stage: str,
    step: int,
    done: int,
    whole: Whole,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = NARROW if "fcn" in task else {}
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, stage, step)
        with pytest.raises(RunInterruptedError, match=f"after {done} of 24"):
            run(tiny_voc, tmp_path, task, overrides=small, reporter=reporter)
    kept = read_record(next(tmp_path.glob("*.json")))
    assert (kept.status, kept.progress.iterations, kept.progress.of) == ("interrupted", done, 24)
    steps = Steps()
    resumed = run(tiny_voc, tmp_path, task, overrides=small, reporter=steps)
    assert len(steps.trained) == 24 - done  # it did resume
    assert scores(resumed) == scores(whole(task))
    assert resumed.record.cost.wall_s > kept.cost.wall_s
    assert resumed.record.progress.iterations == 24


def test_a_killed_list_resumes_to_the_same_numbers(
    whole: Whole, tiny_voc: Path, tmp_path: Path
) -> None:
    """What was trained after the last checkpoint is made again, and counts once."""
    kill_at(__name__, tiny_voc, tmp_path, "voc_linear_ft", SECOND, 11)
    assert not list(tmp_path.glob("*.json"))
    first, second = folders(request(tiny_voc, tmp_path))[::-1]
    assert (first / "result.npz").exists() and not (second / "result.npz").exists()
    before = [read_spent(folder) for folder in (first, second)]
    assert [(spent.iterations, spent.pictures) for spent in before] == [(12, 48), (10, 40)]
    steps = Steps()
    resumed = run(tiny_voc, tmp_path, reporter=steps)
    assert steps.trained == [(SECOND, 11), (SECOND, 12)]
    assert scores(resumed) == scores(whole())
    cost = resumed.record.cost
    assert cost.train_s > sum(spent.train_s for spent in before)
    assert cost.wall_s > sum(spent.wall_s for spent in before) > 0
    assert pictures(cost) == 96


@pytest.mark.parametrize("damage", ["torn", "empty note", "moved"])
def test_a_state_that_was_damaged_or_moved(
    damage: str, whole: Whole, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    one = {"sweep.lrs": [0.5]}
    stage = "training lr 0.5, seed 0 (1 of 1)"
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(tiny_voc, out, overrides=one, reporter=stop_after(patch, stage, 5))
    (folder,) = folders(request(tiny_voc, out, overrides=one))
    state = folder / "iter_5.pth"
    match damage:
        case "torn":
            state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
        case "empty note":
            (folder / "last_checkpoint").write_text("")
        case "moved":
            out = out.rename(tmp_path / "elsewhere")
    steps = Steps()
    resumed = run(tiny_voc, out, overrides=one, reporter=steps)
    assert steps.trained[0] == (stage, 1 if damage == "torn" else 6)
    assert steps.warned("begins again") == (damage == "torn")
    assert steps.warned("goes on from iter_5.pth") == (damage == "empty note")
    assert (tmp_path / "out").exists() == (damage != "moved")
    assert steps.trained[-1] == (stage, 12)
    assert resumed.record.results[0] == whole().record.results[0]


@pytest.mark.parametrize(("wanted", "found"), [(4, [0, 3]), ([3, 1], [3]), ([5], [])])
def test_other_pictures_after_a_resume_leave_out_what_was_not_kept(
    wanted: int | list[int],
    found: list[int],
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best run was finished with `--pictures 2`; the data root is spelled anew, too."""
    lost = {"sweep.lrs": [0.5, 1e30]}
    stage = "training lr 1e+30, seed 0 (2 of 2)"
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        reporter = stop_after(patch, stage, 1)
        run(tiny_voc, tmp_path, overrides=lost, pictures=2, reporter=reporter)
    val = make_plan(request(tiny_voc, tmp_path)).dataset.val
    names = [pair.image.stem for pair in val]
    changes = wanted if isinstance(wanted, int) else tuple(names[k] for k in wanted)
    monkeypatch.chdir(tiny_voc.parent)
    steps = Steps()
    record = run(
        Path(tiny_voc.name), tmp_path, overrides=lost, pictures=changes, reporter=steps
    ).record
    assert all(name == stage for name, _ in steps.trained)  # the first run is not made again
    assert record.best is not None and record.best.lr == 0.5
    count = wanted if isinstance(wanted, int) else len(wanted)
    assert steps.warned("no prediction of") == count - len(found)
    if not found:
        assert record.predictions_file is None
        return
    kept = load_predictions(tmp_path / str(record.predictions_file))
    assert [one.name for one in kept] == [names[k] for k in found]
    with np.load(tmp_path / str(record.pictures_file)) as areas:
        for k, one in zip(found, kept, strict=True):
            # what was scored, not a blank map
            counted = np.bincount(one.labels[one.truth != 255], minlength=21)
            assert counted.tolist() == areas["predicted"][k, 0].tolist()
            assert (tiny_voc / one.image).is_file()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_record_that_another_process_completes_is_the_outcome(
    stopped: bool,
    force: bool,
    whole: Whole,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if force:
        shutil.copytree(whole().path.parent, tmp_path, dirs_exist_ok=True)
    flags = watch_flags(monkeypatch)
    left: list[Record] = []

    def complete(name: str, done: int) -> None:
        if (name, done) == (FIRST, 2):
            left.append(leave_record(whole().path, tmp_path))
            flags[-1].requested = stopped

    whole()
    steps = Steps(complete)
    outcome = run(tiny_voc, tmp_path, force=force, reporter=steps)
    assert outcome.record == left[0] == read_record(outcome.path)
    assert len(steps.trained) == (2 if stopped else 12)  # the second run is not begun


def test_an_interrupted_repeat_goes_on_where_it_stopped(
    whole: Whole, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = leave_record(whole().path, tmp_path)
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, SECOND, 2)
        with pytest.raises(RunInterruptedError, match=r"14 of 24 .*earlier record stays.*--force"):
            run(tiny_voc, tmp_path, force=True, reporter=reporter)
    assert run(tiny_voc, tmp_path).record == earlier
    assert list(tmp_path.glob("work/*/repeats"))
    steps = Steps()
    repeated = run(tiny_voc, tmp_path, force=True, reporter=steps)
    assert len(steps.trained) == 10
    assert not repeated.skipped and repeated.record.created < LATER
    assert scores(repeated) == scores(whole())
    assert read_record(repeated.path) == repeated.record
    assert not list(tmp_path.glob("work/*/repeats"))


@pytest.mark.parametrize("kept", [True, False])
def test_force_without_a_complete_record_keeps_finished_runs(
    kept: bool, whole: Whole, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(tiny_voc, tmp_path, reporter=stop_after(patch, SECOND, 2))
    if not kept:
        next(tmp_path.glob("*.json")).unlink()
    steps = Steps()
    assert scores(run(tiny_voc, tmp_path, force=True, reporter=steps)) == scores(whole())
    assert len(steps.trained) == 10
    assert not list(tmp_path.glob("work/*/repeats"))


def test_rates_that_differ_in_the_seventh_digit_are_two_runs(
    tiny_voc: Path, tmp_path: Path
) -> None:
    rates = [0.1234567, 0.1234568]

    def end(name: str, done: int) -> None:
        assert len(steps.trained) <= 4, "a run is made again and again"

    steps = Steps(end)
    few = {"sweep.lrs": rates, "schedule.iters": 2}
    outcome = run(tiny_voc, tmp_path, overrides=few, reporter=steps)
    assert [result.lr for result in outcome.record.results] == rates
    assert all(result.score is not None for result in outcome.record.results)
    assert len(steps.trained) == 4 and steps.warned("made again") == 0
    names = [folder.name for folder in folders(request(tiny_voc, tmp_path, overrides=few))]
    assert names == ["lr0.1234567-seed0", "lr0.1234568-seed0"]


def test_bf16_is_for_training_alone(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward: set[tuple[bool, torch.dtype]] = set()
    backward: set[torch.dtype] = set()

    def watched(*args: Any, **kwargs: Any) -> TrainedSegmentor:
        model = build_trained(*args, **kwargs)
        layer = [part for part in model.backbone.modules() if isinstance(part, nn.Conv2d)][-1]
        layer.register_forward_hook(lambda m, _, made: forward.add((m.training, made.dtype)))
        layer.register_full_backward_hook(lambda m, _, grads: backward.add(grads[0].dtype))
        return model

    monkeypatch.setattr(domain, "build_trained", watched)
    few = {"sweep.lrs": [0.5], "schedule.iters": 2}
    record = run(tiny_voc, tmp_path, overrides=few, precision="bf16").record
    assert (record.status, record.environment.precision) == ("complete", "bf16")
    assert "precision: bf16 instead of fp32" in record.deviations
    assert forward == {(True, torch.bfloat16), (False, torch.float32)}
    assert backward == {torch.bfloat16}


def test_a_finished_runs_model_is_freed_before_the_next(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[weakref.ref[TrainedSegmentor]] = []
    alive: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> TrainedSegmentor:
        alive.append(sum(reference() is not None for reference in built))
        model = build_trained(*args, **kwargs)
        built.append(weakref.ref(model))
        return model

    monkeypatch.setattr(domain, "build_trained", watched)
    gc.disable()  # by chance it would run between the two
    try:
        run(tiny_voc, tmp_path, overrides={"schedule.iters": 2})
    finally:
        gc.enable()
    assert alive == [0, 0]


def test_a_run_that_diverges_leaves_the_others(tiny_voc: Path, tmp_path: Path) -> None:
    reporter = Silent()
    outcome = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [1e30, 0.5]}, reporter=reporter)
    good = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [0.5]})
    lost, kept = outcome.record.results
    assert lost.score is None and lost.diverged_at is not None
    assert kept == good.record.results[0]
    assert outcome.record.best and outcome.record.best.lr == 0.5
    assert any("lr 1e+30" in warning for warning in reporter.warnings)
    all_lost = run(tiny_voc, tmp_path, overrides={"sweep.lrs": [1e30]}).record
    assert (all_lost.status, all_lost.best) == ("diverged", None)


def test_a_damaged_result_is_found_out_and_made_again(
    whole: Whole, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tiny_voc, tmp_path)
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, SECOND, 1)
        with pytest.raises(RunInterruptedError):
            run_task(asked, reporter)
    result = make_plan(asked).work / "runs" / "lr0.5-seed0" / "result.npz"
    result.write_bytes(result.read_bytes()[:300])
    reporter = Silent()
    assert scores(run(tiny_voc, tmp_path, reporter=reporter)) == scores(whole())
    assert any("damaged" in warning for warning in reporter.warnings)


def test_holdout_selects_on_a_slice_of_train(tiny_voc: Path, tmp_path: Path) -> None:
    record = run(tiny_voc, tmp_path, select="holdout").record
    assert (record.data.train, record.data.holdout) == (11, 1)
    held = {result.lr: result.holdout for result in record.results}
    assert None not in held.values()
    assert record.best and record.best.lr == max(held, key=lambda lr: held[lr] or 0.0)


def test_force_repeats_it_and_gives_way_to_another_process(
    whole: Whole, tiny_voc: Path, tmp_path: Path
) -> None:
    earlier = leave_record(whole().path, tmp_path)
    asked = request(tiny_voc, tmp_path, force=True)
    first = make_plan(asked).work / "runs" / "lr0.5-seed0"
    first.mkdir(parents=True)
    with FileLock(first / "lock"), pytest.raises(BenchError, match="wait for it"):
        run_task(asked, Silent())
    again = run_task(asked, Silent())
    assert not again.skipped and again.record.created != earlier.created
    assert scores(again) == scores(whole())


@pytest.mark.parametrize("at_work", [False, True])
def test_force_of_several_processes_begins_again_once(
    at_work: bool, whole: Whole, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second asks before the first has begun again, and gets the locks after it."""
    monkeypatch.setattr(finetune_job, "_POLL_S", 0.01)
    leave_record(whole().path, tmp_path)
    plan = make_plan(request(tiny_voc, tmp_path, force=True))
    found = find_record(tmp_path, plan.key)
    assert found is not None
    first, second = (FinetuneJob(plan, Silent(), found[1]) for _ in range(2))
    assert first.begins_again() and second.begins_again()
    first._begin_again()
    done = first.folders[0] / "result.npz"
    done.touch()
    lock = FileLock(first.folders[1] / "lock")
    with lock if at_work else contextlib.nullcontext():
        second._begin_again()
    assert done.exists()


def test_force_leaves_what_another_process_has_completed(
    whole: Whole, tiny_voc: Path, tmp_path: Path
) -> None:
    leave_record(whole().path, tmp_path)
    plan = make_plan(request(tiny_voc, tmp_path, force=True))
    found = find_record(tmp_path, plan.key)
    assert found is not None
    job = FinetuneJob(plan, Silent(), found[1])
    newer = found[1].model_copy(update={"created": "3999-01-01T00:00:00+00:00"})
    write_record(tmp_path, newer)
    done = job.folders[0] / "result.npz"
    done.parent.mkdir(parents=True)
    done.touch()
    job._begin_again()
    assert done.exists() and not list(tmp_path.glob("work/*/repeats"))


def test_a_finished_runs_result_is_read_once(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def watched(path: Path, *args: Any) -> RunResult:
        result = load_result(path, *args)
        read.append(path.parent.name)
        return result

    monkeypatch.setattr(finetune_job, "load_result", watched)
    rates = {"sweep.lrs": [0.5, 0.2, 0.1], "schedule.iters": 1}
    assert len(run(tiny_voc, tmp_path, overrides=rates).record.results) == 3
    assert read == ["lr0.5-seed0", "lr0.2-seed0", "lr0.1-seed0"]


def test_a_second_ctrl_c_counts_what_checkpoints_have(
    whole: Whole, tiny_voc: Path, tmp_path: Path
) -> None:
    def end(name: str, done: int) -> None:
        if (name, done) == (SECOND, 11):
            raise KeyboardInterrupt

    with pytest.raises(RunInterruptedError, match="after 22 of 24"):
        run(tiny_voc, tmp_path, reporter=Silent(end))
    steps = Steps()
    assert scores(run(tiny_voc, tmp_path, reporter=steps)) == scores(whole())
    assert steps.trained == [(SECOND, 11), (SECOND, 12)]


def test_processes_share_the_runs_and_wait_for_each_other(
    whole: Whole, tiny_voc: Path, tmp_path: Path
) -> None:
    """A process beside one that has the first run, which then ends without a result."""
    first = make_plan(request(tiny_voc, tmp_path)).work / "runs" / "lr0.5-seed0"
    first.mkdir(parents=True)
    told: list[str] = []
    with FileLock(first / "lock") as taken:
        other = subprocess.Popen(
            command(__name__, tiny_voc, tmp_path, "voc_linear_ft"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        guard = threading.Timer(300, other.kill)
        guard.start()
        assert other.stdout is not None
        for line in other.stdout:
            told.append(line.strip())
            if "waiting" in line:
                break
        assert [line for line in told if "training" in line] == [f"{SECOND}|{k}" for k in STEPS]
        assert told[-1] == "waiting for other processes to end their runs: lr0.5-seed0"
        assert other.poll() is None
        assert not list(tmp_path.glob("*.json"))
        taken.release()
        rest, _ = other.communicate(timeout=300)
        guard.cancel()
    assert other.returncode == 0
    trained = [line for line in rest.splitlines() if "training" in line]
    assert trained == [f"{FIRST}|{k}" for k in STEPS]
    assert "waiting" not in rest
    (path,) = tmp_path.glob("*.json")
    record = read_record(path)
    assert record.status == "complete"
    assert [result.by_class for result in record.results] == scores(whole())
