"""What mmengine calls while a task runs: progress, and stopping between pictures."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import Hook

from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import RunInterruptedError


class ReportHook(Hook):  # type: ignore[misc]
    """Tells how many iterations are done; ends training when every head has diverged."""

    priority = "NORMAL"

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report = report
        self.iterations = 0  # of this call, those of an earlier part of the run not counted
        self.peak_bytes = 0  # on CUDA; mmengine's logging resets torch's own peak

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report an iteration of training."""
        self.iterations += 1
        self.report(runner.iter + 1)
        if torch.cuda.is_available():
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())
        if outputs is not None and int(outputs["heads"]) == 0:
            runner.train_loop.stop_training = True


class EvaluationHook(Hook):  # type: ignore[misc]
    """Tells how many pictures are evaluated, and stops when asked to."""

    def __init__(self, stop: StopFlag) -> None:
        self.stop = stop
        self.report: Callable[[int], None] = lambda done: None

    def _after(self, batch_idx: int) -> None:
        self.report(batch_idx + 1)
        if self.stop.requested:
            raise RunInterruptedError("stopped")

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report a picture of val."""
        self._after(batch_idx)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report a picture of the held-out slice."""
        self._after(batch_idx)
