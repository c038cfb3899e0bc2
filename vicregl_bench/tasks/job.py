"""What a run computes: begun, measured, or interrupted with something to keep."""

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from filelock import FileLock

from vicregl_bench.atomic import write_atomic
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.records import Record, TrainedParameter, find_record
from vicregl_bench.tasks.measured import Measured
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.state import Clock, Spent


class Job(ABC):
    """All heads of a task, as a context that ends by giving its lock back.

    Args:
        plan: of the run.
        reporter: of the progress.
        found: an earlier record of the same key.

    Attributes:
        unit: what its progress is counted in.
    """

    unit: ClassVar[str] = "iterations"

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        self.plan, self.reporter, self.found = plan, reporter, found
        self.lock = FileLock(plan.work / "lock")
        self._repeated = plan.work / "repeats"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lock.release(force=True)

    @property
    @abstractmethod
    def total(self) -> int:
        """Iterations of the whole task, or what else its progress is counted in."""

    @abstractmethod
    def spent(self) -> Spent:
        """What it took so far, earlier interrupted parts included."""

    @abstractmethod
    def unchanged(self) -> bool | None:
        """Whether a frozen trunk is what it was; None where the backbone is trained."""

    def trained(self) -> tuple[TrainedParameter, ...]:
        """The parameters of one head of a frozen task; none are listed where all is trained."""
        return ()

    @abstractmethod
    def measure(self, stop: StopFlag) -> Measured | None:
        """Train and score every head; hold the lock from then on.

        Returns None where another process has left the record of the same run.

        Raises:
            RunInterruptedError: asked to stop; the state is saved.
            filelock.Timeout: another process has the run.
        """

    @abstractmethod
    def forget(self) -> None:
        """Remove the state that a finished run needs no more; the logs stay."""

    def finish(self) -> None:
        """The record is written: nothing is to be resumed."""
        self.forget()
        self._repeated.unlink(missing_ok=True)

    def left_by_another(self) -> tuple[Path, Record] | None:
        """The complete record that another process has written since this one began."""
        found = find_record(self.plan.request.out, self.plan.key)
        if found is None or found[1].status == "interrupted":
            return None
        old = self.found is not None and found[1].created == self.found.created
        return None if old else found

    def begins_again(self) -> bool:
        """Whether `--force` is to throw away what there is; said once for each record replaced.

        A repeat that was interrupted goes on, and other processes join it.
        """
        found = self.found
        if not self.plan.request.force or found is None or found.status == "interrupted":
            return False
        with contextlib.suppress(FileNotFoundError):
            return self._repeated.read_text(errors="replace") != found.created
        return True

    def note_repeat(self) -> None:
        """From now on what is in the folder belongs to the repeat of the record found."""
        assert self.found is not None
        write_atomic(self._repeated, self.found.created.encode())


class TrunkJob(Job):
    """A job on a frozen trunk, which one process has alone."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.clock = Clock(plan.work, plan.device)
        self.trunk = FrozenTrunk(
            plan.request.source.build(plan.task.settings.backbone.output_stride),
            precision=plan.precision,
            device=plan.device,
        )

    def unchanged(self) -> bool:
        """Whether the trunk is what it was."""
        return self.trunk.unchanged()

    def take(self) -> bool:
        """Take the lock, and forget what `--force` makes void.

        Returns whether there is work left: not where another process has left the record.

        Raises:
            filelock.Timeout: another process has the run.
        """
        self.lock.acquire(timeout=0)
        if self.left_by_another() is not None:
            return False
        if self.begins_again():
            self.forget()
            self.note_repeat()
        self.clock = Clock(self.plan.work, self.plan.device)
        return True

    def require_unchanged(self) -> None:
        """Stop where the trunk is not what it was.

        Raises:
            RuntimeError: it changed.
        """
        if not self.unchanged():
            raise RuntimeError(
                "the frozen backbone changed during the run: a defect of vicregl-bench"
            )
