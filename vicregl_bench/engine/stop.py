"""Stopping on request: a signal sets a flag, and the checkpoint hook saves before it obeys."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_distributed
from mmengine.hooks import CheckpointHook

from vicregl_bench.errors import RunInterruptedError


class StopFlag:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def agreed(self) -> bool:
        """Whether any process of the run was asked to stop; every process gets the same answer."""
        if not is_distributed():
            return self.requested
        flag = torch.tensor(float(self.requested))
        all_reduce(flag, op="max")
        return bool(flag > 0)

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Listen for the signals while inside (in the main thread; elsewhere it does nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class StoppableCheckpointHook(CheckpointHook):  # type: ignore[misc]
    """mmengine's checkpoint hook, which also saves and stops when asked to.

    It replaces the default hook of the same place, so it runs after the schedulers have stepped.

    Args:
        stop: the flag.
        accumulate: iterations that make one step of the optimiser; it stops between steps only.
        kwargs: of mmengine's hook.
    """

    def __init__(self, stop: StopFlag, accumulate: int = 1, **kwargs: Any) -> None:
        super().__init__(by_epoch=False, **kwargs)
        self.stop, self.accumulate = stop, accumulate
        self.saved_at = -1
        self.on_saved: Callable[[], None] = lambda: None

    def _save_checkpoint(self, runner: Any) -> None:
        """Save, and tell."""
        super()._save_checkpoint(runner)
        self.saved_at = runner.iter
        self.on_saved()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save at the interval, and once more before stopping."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        between = (runner.iter + 1) % self.accumulate == 0
        if between and self.stop.agreed() and not runner.train_loop.stop_training:
            if self.saved_at != runner.iter:  # a file in use is never written over
                self._save_checkpoint(runner)
            barrier()  # the first process saves; the others wait for it
            raise RunInterruptedError("stopped")
