"""Fine-tuned tasks as lists of runs: one record, resuming one by one, several processes."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.reporter import Silent
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import BenchError, RunInterruptedError
from vicregl_bench.records import read_record
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.segmentation.plan import make_plan
from vicregl_bench.tasks.segmentation.run import RunOutcome, run_segmentation

SMALL = {
    "data.crop": [64, 64],
    "data.resize": [256, 64],
    "data.test_resize": [256, 64],
    "schedule.iters": 12,
    "schedule.batch_size": 4,
    "sweep.lrs": [0.5, 0.2],  # large, so that a dozen iterations tell the runs apart
    "sweep.seeds": 1,
}


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
    return run_segmentation(request(*args, **kwargs), reporter or Silent())


def scores(outcome: RunOutcome) -> list[Any]:
    return [result.by_class for result in outcome.record.results]


def folders(asked: RunRequest) -> list[Path]:
    return sorted((make_plan(asked).work / "runs").iterdir())


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
        ("voc_fcn_ft", "resnet18x0.25", {"fcn.channels": 16, "fcn.auxiliary.channels": 8}),
        ("voc_fcn", "resnet18x0.25", {"fcn.channels": 16, "fcn.auxiliary.channels": 8}),
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
    [
        ("training lr 0.5, seed 0 (1 of 2)", 3, 3),
        ("training lr 0.2, seed 0 (2 of 2)", 2, 14),
        ("validating lr 0.2, seed 0 (2 of 2)", 2, 24),
    ],
)
def test_an_interrupted_list_resumes_to_the_same_numbers(
    task: str,
    stage: str,
    step: int,
    done: int,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"fcn.channels": 16, "fcn.auxiliary.channels": 8} if "fcn" in task else {}
    whole = run(tiny_voc, tmp_path / "whole", task, overrides=small)
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, stage, step)
        with pytest.raises(RunInterruptedError, match=f"after {done} of 24"):
            run(tiny_voc, out, task, overrides=small, reporter=reporter)
    kept = read_record(next(out.glob("*.json")))
    assert (kept.status, kept.progress.iterations, kept.progress.of) == ("interrupted", done, 24)
    steps: list[str] = []
    resumed = run(
        tiny_voc,
        out,
        task,
        overrides=small,
        reporter=Silent(lambda name, at: steps.append(name) if "training" in name else None),
    )
    assert len(steps) == 24 - done  # it did resume
    assert scores(resumed) == scores(whole)
    assert resumed.record.cost.wall_s > kept.cost.wall_s
    assert resumed.record.progress.iterations == 24


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
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_voc, tmp_path / "whole")
    asked = request(tiny_voc, tmp_path)
    with monkeypatch.context() as patch:
        reporter = stop_after(patch, "training lr 0.2, seed 0 (2 of 2)", 1)
        with pytest.raises(RunInterruptedError):
            run_segmentation(asked, reporter)
    result = make_plan(asked).work / "runs" / "lr0.5-seed0" / "result.npz"
    result.write_bytes(result.read_bytes()[:300])
    reporter = Silent()
    assert scores(run(tiny_voc, tmp_path, reporter=reporter)) == scores(whole)
    assert any("damaged" in warning for warning in reporter.warnings)


def test_holdout_selects_on_a_slice_of_train(tiny_voc: Path, tmp_path: Path) -> None:
    record = run(tiny_voc, tmp_path, select="holdout").record
    assert (record.data.train, record.data.holdout) == (11, 1)
    held = {result.lr: result.holdout for result in record.results}
    assert None not in held.values()
    assert record.best and record.best.lr == max(held, key=lambda lr: held[lr] or 0.0)


def test_force_repeats_it_and_gives_way_to_another_process(tiny_voc: Path, tmp_path: Path) -> None:
    first = run(tiny_voc, tmp_path)
    asked = request(tiny_voc, tmp_path, force=True)
    with FileLock(folders(asked)[0] / "lock"), pytest.raises(BenchError, match="wait for it"):
        run_segmentation(asked, Silent())
    again = run_segmentation(asked, Silent())
    assert not again.skipped and scores(again) == scores(first)


def test_processes_share_the_runs_and_leave_one_record(tiny_voc: Path, tmp_path: Path) -> None:
    """Two at once: each run is done by one of them, and both end with the same record."""
    alone = run(tiny_voc, tmp_path / "alone", overrides={"sweep.seeds": 2})
    program = (
        "import sys; from pathlib import Path; import tests.conftest; "
        "from tests.reporter import Silent; "
        "from tests.tasks.test_finetune_job import run; done = []; "
        "outcome = run(Path(sys.argv[1]), Path(sys.argv[2]), overrides={'sweep.seeds': 2}, "
        "reporter=Silent(lambda name, at: done.append(name))); "
        "print(outcome.record.created, sum('training' in name for name in done))"
    )
    words = [sys.executable, "-c", program, str(tiny_voc), str(tmp_path / "shared")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0].splitlines()[-1].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0][0] == told[1][0]
    assert int(told[0][1]) + int(told[1][1]) == 48  # no iteration was done twice
    (path,) = (tmp_path / "shared").glob("*.json")
    assert [r.by_class for r in read_record(path).results] == scores(alone)
