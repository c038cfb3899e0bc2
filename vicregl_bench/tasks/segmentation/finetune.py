"""A fine-tuned task: a list of mmengine runs, one a learning rate and seed, and one record.

A trained backbone is no other head's, so nothing is shared. Each run has a folder of its own, in
which it is interrupted and resumed, and a lock: processes that are given the same command, one a
GPU, take the runs between them. The one that finds all of them done writes the record.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from mmengine.optim import OptimWrapper
from torch import nn

from vicregl_bench.atomic import write_atomic
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import BenchError, RecordError, RunInterruptedError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records import Cost, Record, find_record
from vicregl_bench.tasks.segmentation.dataset import preprocessor
from vicregl_bench.tasks.segmentation.job import Job, forget_state
from vicregl_bench.tasks.segmentation.metric import PictureAreas
from vicregl_bench.tasks.segmentation.plan import Clock, Plan
from vicregl_bench.tasks.segmentation.run_result import RunResult, load_result, save_result
from vicregl_bench.tasks.segmentation.trained import build_trained
from vicregl_bench.tasks.segmentation.training import (
    Measured,
    Scores,
    head_specs,
    optimizer_options,
    train_and_score,
    warn_of_divergence,
)
from vicregl_bench.tasks.segmentation.views import evaluated

_POLL_S = 0.5


class AutocastOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Trains under autocast to bfloat16, which needs no scaling of the loss, on any device.

    Args:
        device_type: "cpu" or "cuda".
        kwargs: of mmengine's wrapper.
    """

    def __init__(self, device_type: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device_type = device_type

    @contextmanager
    def optim_context(self, model: nn.Module) -> Any:
        """The forward's context."""
        with (
            super().optim_context(model),
            torch.autocast(self.device_type, dtype=torch.bfloat16),
        ):
            yield


class FinetuneJob(Job):
    """A fine-tuned task, shared with the other processes that work on it."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.heads = head_specs(plan.task)
        self.folders = tuple(
            plan.work / "runs" / f"lr{head.lr:g}-seed{head.seed}" for head in self.heads
        )

    @property
    def iterations_of(self) -> int:
        """Iterations of all runs together."""
        return self.plan.task.settings.schedule.iters * len(self.heads)

    @property
    def iterations(self) -> int:
        """Iterations done, of all runs together."""
        return sum(int(_read_note(folder)["iterations"]) for folder in self.folders)

    def cost(self) -> Cost:
        """Of all runs together, whatever process had them; the memory is the largest."""
        notes = [_read_note(folder) for folder in self.folders]
        train_s = sum(note["train_s"] for note in notes)
        pictures = self.iterations * self.plan.task.settings.schedule.batch_size
        return Cost(
            wall_s=round(sum(note["wall_s"] for note in notes), 2),
            train_s=round(train_s, 2),
            pictures_per_second=round(pictures / train_s, 2) if train_s else None,
            peak_memory_mib=max(note["peak_memory_mib"] for note in notes),
        )

    def unchanged(self) -> None:
        """Nothing is frozen."""

    def measure(self, stop: StopFlag) -> Measured | None:
        """Do the runs that nobody else has, wait for the others, and collect them.

        Returns None where another process has left the record.

        Raises:
            RunInterruptedError: asked to stop; the state of the run at work is saved.
            BenchError: `--force` while another process has one of the runs.
        """
        if self.repeats:
            self._begin_again()
        while True:
            if self._left_by_another():
                return None
            results = [self._result(k) for k in range(len(self.heads))]
            done = [result for result in results if result is not None]
            if len(done) == len(results):
                break
            missing = [k for k, result in enumerate(results) if result is None]
            if not any(self._do(k, stop) for k in missing):
                self._wait(stop, len(missing))
        self.lock.acquire()
        if self._left_by_another():
            return None
        diverged_at = tuple(result.diverged_at for result in done)
        warn_of_divergence(self.heads, diverged_at, self.reporter)
        return Measured(self.heads, diverged_at, _together([result.scores for result in done]))

    def forget(self) -> None:
        """Remove the results of the runs, which the record has; their logs stay."""
        for folder in self.folders:
            _forget(folder)

    def _left_by_another(self) -> bool:
        """Whether a record has been written since this process began."""
        found = find_record(self.plan.request.out, self.plan.key)
        if found is None or found[1].status == "interrupted":
            return False
        return self.found is None or found[1].created != self.found.created

    def _begin_again(self) -> None:
        with contextlib.ExitStack() as stack:
            for folder in self.folders:
                try:
                    stack.enter_context(FileLock(folder / "lock", timeout=0))
                except Timeout:
                    raise BenchError(
                        f"another process has {folder.name} of this task at work; wait for it, or "
                        "leave --force out to share the work"
                    ) from None
            self.forget()

    def _result(self, k: int) -> RunResult | None:
        """What a finished run left; a damaged file is removed, and the run is made again."""
        path = self.folders[k] / "result.npz"
        try:
            return load_result(path) if path.exists() else None
        except RecordError as error:
            self.reporter.warn(f"{error}; this run is made again")
            _forget(self.folders[k])
            return None

    def _do(self, k: int, stop: StopFlag) -> bool:
        """Do a run, unless another process has it."""
        folder = self.folders[k]
        try:
            with FileLock(folder / "lock", timeout=0):
                # it may have been finished between the look at it and the lock
                if not (folder / "result.npz").exists() and not self._left_by_another():
                    self._train(k, stop)
        except Timeout:
            return False
        return True

    def _wait(self, stop: StopFlag, missing: int) -> None:
        """Wait until another process ends a run, one way or the other."""
        update = self.reporter.stage("waiting for other processes to end their runs", missing)
        update(0)
        while not stop.requested:
            time.sleep(_POLL_S)
            waiting = [f for f in self.folders if not (f / "result.npz").exists()]
            update(missing - len(waiting))
            if len(waiting) < missing or any(_free(folder) for folder in waiting):
                return
        raise RunInterruptedError("stopped")

    def _train(self, k: int, stop: StopFlag) -> None:
        plan, head, folder = self.plan, self.heads[k], self.folders[k]
        settings, source = plan.task.settings, plan.request.source
        note = _read_note(folder)
        clock = Clock(earlier=note["wall_s"], earlier_train=note["train_s"])
        model = build_trained(
            plan.task,
            source,
            preprocessor(settings.data, source.card),
            run_seed=settings.sweep.run_seed,
            head_seed=head.seed,
        )
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
                scores = train_and_score(
                    plan,
                    model,
                    _optimizer(plan, model, head),
                    work=folder,
                    clock=clock,
                    stop=stop,
                    reporter=self.reporter,
                    name=f"lr {head.lr:g}, seed {head.seed} ({k + 1} of {len(self.heads)})",
                    alive=lambda: int(model.diverged_at) < 0,
                    for_test=lambda model: evaluated(model, settings.test),
                )
        finally:
            _write_note(folder, int(model.iteration), clock.cost(plan.device))
        save_result(folder / "result.npz", RunResult(int(model.diverged_at), scores))
        forget_state(folder)


def _optimizer(plan: Plan, model: nn.Module, head: HeadSpec) -> OptimWrapper:
    kind, options = optimizer_options(plan.task)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=head.lr, **options)
    if plan.precision == "bf16":
        return AutocastOptimWrapper(plan.device.type, optimizer=optimizer)
    return OptimWrapper(optimizer)


def _free(folder: Path) -> bool:
    """Whether nobody has this run's lock."""
    try:
        with FileLock(folder / "lock", timeout=0):
            return True
    except Timeout:
        return False


def _together(scores: Sequence[Scores]) -> Scores:
    """The scores of runs of one head each as those of all heads; zeros where a run diverged."""
    kept: dict[str, Any] = {}
    for path in next((one.kept for one in scores if one.areas is not None), {}):
        like = next(one.kept[path] for one in scores if path in one.kept)
        maps = [one.kept.get(path, np.zeros_like(like)) for one in scores]
        kept[path] = np.concatenate(maps)
    return Scores(_stack([one.areas for one in scores]), _stack([one.held for one in scores]), kept)


def _stack(areas: Sequence[PictureAreas | None]) -> PictureAreas | None:
    first = next((one for one in areas if one is not None), None)
    if first is None:
        return None
    empty = np.zeros_like(first.intersect)
    return PictureAreas(
        names=first.names,
        intersect=np.concatenate([empty if a is None else a.intersect for a in areas], axis=1),
        predicted=np.concatenate([empty if a is None else a.predicted for a in areas], axis=1),
        labelled=first.labelled,
    )


def _write_note(folder: Path, iterations: int, cost: Cost) -> None:
    note = {"iterations": iterations, **cost.model_dump()}
    write_atomic(folder / "note.json", json.dumps(note).encode())


def _read_note(folder: Path) -> dict[str, float]:
    """How far a run has come and what it took, zeros where it has not begun."""
    nothing = {"iterations": 0, "wall_s": 0.0, "train_s": 0.0, "peak_memory_mib": 0.0}
    try:
        note: dict[str, float] = json.loads((folder / "note.json").read_text())
    except (OSError, ValueError):
        return nothing
    return {**nothing, **note}


def _forget(folder: Path) -> None:
    forget_state(folder)
    for name in ("result.npz", "note.json"):
        (folder / name).unlink(missing_ok=True)
