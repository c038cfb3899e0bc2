"""What mmengine calls while a task runs: progress, and stopping between pictures."""

from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook

from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.tasks.state import Clock


class ReportHook(Hook):  # type: ignore[misc]
    """Tells how many iterations are done; ends training when every head has diverged.

    Args:
        stage: gives what is called with the number of iterations.
        clock: told of every iteration.
        pictures: of a batch.
    """

    priority = "NORMAL"

    def __init__(
        self, stage: Callable[[], Callable[[int], None]], clock: Clock, pictures: int
    ) -> None:
        self.stage, self.clock, self.pictures = stage, clock, pictures
        self.report: Callable[[int], None] = lambda done: None

    def before_train(self, runner: Any) -> None:
        """Begin the stage when everything is built, so that its pace is that of training."""
        self.report = self.stage()
        self.clock.begin_training()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report an iteration of training."""
        self.clock.step(runner.iter + 1, self.pictures)
        self.report(runner.iter + 1)
        if outputs is not None and int(outputs["heads"]) == 0:
            runner.train_loop.stop_training = True


class EvaluationHook(Hook):  # type: ignore[misc]
    """Tells how many pictures are evaluated, and stops when asked to."""

    def __init__(self, stop: StopFlag) -> None:
        self.stop, self.done = stop, 0
        self.report: Callable[[int], None] = lambda done: None

    def begin(self, report: Callable[[int], None]) -> None:
        """Count from the beginning, and tell `report`."""
        self.report, self.done = report, 0

    def _after(self, outputs: Any) -> None:
        self.done += len(outputs)
        self.report(self.done)
        if self.stop.requested:
            raise RunInterruptedError("stopped")

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report a picture of val."""
        self._after(outputs)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report a picture of the held-out slice."""
        self._after(outputs)
