"""What a run of segmentation computes: begun, measured, or interrupted with something to keep."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.records import Cost, Record
from vicregl_bench.tasks.segmentation.plan import Plan
from vicregl_bench.tasks.segmentation.training import Measured


class Job(ABC):
    """All heads of a task, as a context that ends by giving its lock back.

    Args:
        plan: of the run.
        reporter: of the progress.
        found: an earlier record of the same key.
    """

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        self.plan, self.reporter, self.found = plan, reporter, found
        self.lock = FileLock(plan.work / "lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lock.release()

    @property
    def repeats(self) -> bool:
        """Whether a complete result is to be made again (`--force`), from the beginning."""
        fresh = self.found is None or self.found.status != "interrupted"
        return self.plan.request.force and fresh

    @property
    def iterations_of(self) -> int:
        """Iterations of the whole task."""
        return self.plan.task.settings.schedule.iters

    @property
    @abstractmethod
    def iterations(self) -> int:
        """Iterations done."""

    @abstractmethod
    def cost(self) -> Cost:
        """What it took so far, earlier interrupted parts included."""

    @abstractmethod
    def unchanged(self) -> bool | None:
        """Whether a frozen trunk is what it was; None where the backbone is trained."""

    @abstractmethod
    def measure(self, stop: StopFlag) -> Measured | None:
        """Train and score every head; hold the lock from then on.

        Returns None where another process that works on the same run has left its record.

        Raises:
            RunInterruptedError: asked to stop; the state is saved.
            filelock.Timeout: another process has the run.
        """

    def forget(self) -> None:
        """Remove the state that a finished run needs no more; the logs stay."""
        forget_state(self.plan.work)


def forget_state(work: Path) -> None:
    """Remove the checkpoints and TensorBoard files of a run of mmengine; its log stays."""
    for path in [*work.glob("*.pth"), work / "last_checkpoint"]:
        path.unlink(missing_ok=True)
    for folder in work.glob("*/vis_data"):
        shutil.rmtree(folder, ignore_errors=True)
