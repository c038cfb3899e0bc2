"""A fine-tuned task: a list of mmengine runs, one a learning rate and seed, and one record.

A trained backbone is no other head's, so nothing is shared. Each run has a folder of its own, in
which it is interrupted and resumed, and a lock: processes that are given the same command, one a
GPU, take the runs between them. The one that finds all of them done writes the record.
"""

import contextlib
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mmengine.optim import OptimWrapper
from torch import nn

from vicregl_bench.engine.autocast import AutocastOptimWrapper
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import BenchError, RecordError, RunInterruptedError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records import Record
from vicregl_bench.tasks.grid import described, head_specs
from vicregl_bench.tasks.job import Job
from vicregl_bench.tasks.measured import Measured, join_scores
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.run_result import RunResult, load_result, save_result
from vicregl_bench.tasks.state import Clock, Spent, forget_state, read_spent
from vicregl_bench.tasks.training import (
    optimizer_options,
    train_and_score,
    warn_of_divergence,
)

_POLL_S = 0.5
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
_RESULT = "result.npz"
_NAMED = 3  # runs in a message


class FinetuneJob(Job):
    """A fine-tuned task, shared with the other processes that work on it."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.heads = head_specs(plan.task.training)
        self.folders = tuple(plan.work / "runs" / _folder(head) for head in self.heads)
        self._loaded: dict[int, RunResult] = {}
        self._waited_for: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Iterations of all runs together."""
        return self.plan.task.training.schedule.iters * len(self.heads)

    def spent(self) -> Spent:
        """What all runs took together, whatever process had them; the memory is the largest."""
        runs = [read_spent(folder) for folder in self.folders]
        return Spent(
            iterations=sum(run.iterations for run in runs),
            wall_s=sum(run.wall_s for run in runs),
            train_s=sum(run.train_s for run in runs),
            pictures=sum(run.pictures for run in runs),
            peak_memory_mib=max(run.peak_memory_mib for run in runs),
        )

    def unchanged(self) -> None:
        """Nothing is frozen."""

    def forget(self) -> None:
        """Remove the results of the runs, which the record has; their logs stay."""
        self._loaded.clear()
        for folder in self.folders:
            _forget(folder)

    def measure(self, stop: StopFlag) -> Measured | None:
        """Do the runs that nobody else has, wait for the others, and collect them.

        Returns None where another process has left the record.

        Raises:
            RunInterruptedError: asked to stop; the state of the run at work is saved.
            BenchError: `--force` while another process has one of the runs.
        """
        if self.begins_again():
            self._begin_again()
        while True:
            if self.left_by_another() is not None:
                return None
            results = [self._result(k) for k in range(len(self.heads))]
            done = [result for result in results if result is not None]
            if len(done) == len(results):
                break
            missing = [k for k, result in enumerate(results) if result is None]
            if not any(self._do(k, stop) for k in missing):
                self._wait(stop, missing)
        self._lock(stop)
        if self.left_by_another() is not None:
            return None
        diverged_at = tuple(result.diverged_at for result in done)
        warn_of_divergence(self.heads, diverged_at, self.reporter)
        scores = join_scores(self.plan.domain.outcome, [result.scores for result in done])
        return Measured(self.heads, diverged_at, scores)

    def _lock(self, stop: StopFlag) -> None:
        while not stop.requested:
            with contextlib.suppress(Timeout):
                self.lock.acquire(timeout=_POLL_S)
                return
        raise RunInterruptedError("stopped")

    def _begin_again(self) -> None:
        """Throw away what there is, unless another process with `--force` has done so meanwhile.

        Raises:
            BenchError: another process has one of the runs.
        """
        with contextlib.ExitStack() as stack:
            for folder in self.folders:
                try:
                    # those who wait for a run hold its lock for an instant now and then
                    stack.enter_context(FileLock(folder / "lock", timeout=4 * _POLL_S))
                except Timeout:
                    if not self._still_begins_again():
                        return
                    raise BenchError(
                        f"another process has {folder.name} of this task at work; wait for it"
                    ) from None
            if self._still_begins_again():
                self.forget()
                self.note_repeat()

    def _still_begins_again(self) -> bool:
        # in this order: a repeat's record is written before the note of the repeat is removed
        return self.begins_again() and self.left_by_another() is None

    def _result(self, k: int) -> RunResult | None:
        """What a finished run left, if that can be read."""
        with contextlib.suppress(FileNotFoundError, RecordError):
            return self._load(k)
        return None

    def _load(self, k: int) -> RunResult:
        """A finished run's result, which is read once."""
        if k not in self._loaded:
            path = self.folders[k] / _RESULT
            self._loaded[k] = load_result(path, self.heads[k], self.plan.domain.outcome)
        return self._loaded[k]

    def _do(self, k: int, stop: StopFlag) -> bool:
        """Do a run, unless another process has it."""
        lock = FileLock(self.folders[k] / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            # it may have been finished between the look at it and the lock
            if not self._finished(k) and self.left_by_another() is None:
                self._train(k, stop)
                # mmengine's runner and hooks are a cycle that would keep the model beside the next
                gc.collect()
                if self.plan.device.type == "cuda":
                    torch.cuda.empty_cache()
        finally:
            lock.release()
        return True

    def _finished(self, k: int) -> bool:
        """Whether there is a result; a damaged one is removed, and the run is made again."""
        try:
            self._load(k)
        except FileNotFoundError:
            return False
        except RecordError as error:
            self.reporter.warn(f"{error}; this run is made again")
            _forget(self.folders[k])
            return False
        return True

    def _wait(self, stop: StopFlag, missing: Sequence[int]) -> None:
        """Wait until another process ends a run, one way or the other."""
        if self._waited_for != tuple(missing):
            self._waited_for = tuple(missing)
            names = ", ".join(self.folders[k].name for k in missing[:_NAMED])
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            self.reporter.warn(f"waiting for other processes to end their runs: {names}{more}")
        while not stop.requested:
            time.sleep(_POLL_S)
            for k in missing:
                if (self.folders[k] / _RESULT).exists() or _free(self.folders[k]):
                    return
        raise RunInterruptedError("stopped")

    def _train(self, k: int, stop: StopFlag) -> None:
        plan, head, folder = self.plan, self.heads[k], self.folders[k]
        clock = Clock(folder, plan.device)
        model = plan.training.trained_model(head)
        with clock, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            scores = train_and_score(
                plan,
                model,
                _optimizer(plan, model, head),
                work=folder,
                clock=clock,
                stop=stop,
                reporter=self.reporter,
                head=head,
                name=f"{described(head)} ({k + 1} of {len(self.heads)})",
                alive=lambda: int(model.diverged_at) < 0,
            )
        save_result(folder / _RESULT, RunResult(head, int(model.diverged_at), scores))
        forget_state(folder, but_spent=True)


def _folder(head: HeadSpec) -> str:
    options = "".join(f"-{name}{value!r}" for name, value in head.options)
    return f"lr{head.lr!r}{options}-seed{head.seed}"


def _optimizer(plan: Plan, model: Any, head: HeadSpec) -> OptimWrapper:
    kind, options = optimizer_options(plan.task)
    groups = model.param_groups()
    if plan.task.training.schedule.optimizer.norm_decay is False:
        groups = [part for group in groups for part in _without_norm_decay(model, group)]
    optimizer = getattr(torch.optim, kind)(groups, lr=head.lr, **options)
    if plan.precision == "bf16":
        return AutocastOptimWrapper(plan.device.type, optimizer=optimizer)
    return OptimWrapper(optimizer)


def _without_norm_decay(model: nn.Module, group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group of parameters as two: the norms', without weight decay, after all others."""
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    parameters = group["params"]
    return [
        {**group, "params": [one for one in parameters if id(one) not in norms]},
        {**group, "params": [one for one in parameters if id(one) in norms], "weight_decay": 0.0},
    ]


def _free(folder: Path) -> bool:
    """Whether nobody has this run's lock."""
    try:
        with FileLock(folder / "lock", timeout=0):
            return True
    except Timeout:
        return False


def _forget(folder: Path) -> None:
    forget_state(folder)
    (folder / _RESULT).unlink(missing_ok=True)
