"""mmengine as the engine: a runner on a chosen device that stays off stdout and can be stopped."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from vicregl_bench.errors import RunInterruptedError


class StopFlag:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

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
    """

    def __init__(self, stop: StopFlag, **kwargs: Any) -> None:
        super().__init__(by_epoch=False, **kwargs)
        self.stop = stop

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save at the interval, and once more before stopping."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.stop.requested and not runner.train_loop.stop_training:
            self._save_checkpoint(runner)
            raise RunInterruptedError("stopped")


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


class DeviceRunner(Runner):  # type: ignore[misc]
    """mmengine's Runner on the device it is told; its log file has everything, stderr errors."""

    def __init__(self, device: torch.device, **kwargs: Any) -> None:
        self._device = device
        super().__init__(**kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """The logger, with its terminal handlers down to errors."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        """Move the model to the device (mmengine would take CUDA wherever there is one)."""
        return model.to(self._device)
