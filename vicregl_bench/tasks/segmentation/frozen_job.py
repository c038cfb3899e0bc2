"""The whole sweep on one frozen forward: all heads of a task are trained in one mmengine run."""

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.records import Record
from vicregl_bench.tasks.segmentation.dataset import preprocessor
from vicregl_bench.tasks.segmentation.frozen_segmentor import FrozenSweepSegmentor
from vicregl_bench.tasks.segmentation.job import Job
from vicregl_bench.tasks.segmentation.plan import Plan
from vicregl_bench.tasks.segmentation.sweeps import build_optimizer, build_sweep, head_maps
from vicregl_bench.tasks.segmentation.training import (
    Measured,
    train_and_score,
    warn_of_divergence,
)
from vicregl_bench.tasks.state import Clock, Spent, forget_state


class FrozenJob(Job):
    """A frozen task: one process has it alone."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.clock = Clock(plan.work, plan.device)
        task, source = plan.task, plan.request.source
        self.trunk = FrozenTrunk(
            source.build(task.settings.backbone.output_stride),
            precision=plan.precision,
            device=plan.device,
        )
        self.sweep = build_sweep(task, source.architecture)

    def spent(self) -> Spent:
        """What it took so far, earlier interrupted parts included."""
        return self.clock.spent()

    def unchanged(self) -> bool:
        """Whether the trunk is what it was."""
        return self.trunk.unchanged()

    def forget(self) -> None:
        """Remove the state that a finished run needs no more; the logs stay."""
        forget_state(self.plan.work)

    def measure(self, stop: StopFlag) -> Measured | None:
        """Train all heads and score them.

        Returns None where another process has left the record of the same run.

        Raises:
            RunInterruptedError: asked to stop; the state is saved.
            filelock.Timeout: another process has the run.
            RuntimeError: the trunk changed.
        """
        plan, sweep = self.plan, self.sweep
        self.lock.acquire(timeout=0)
        if self.left_by_another() is not None:
            return None
        if self.begins_again():
            self.forget()
            self.note_repeat()
        self.clock = Clock(plan.work, plan.device)
        model = FrozenSweepSegmentor(
            self.trunk,
            sweep,
            preprocessor(plan.task.settings.data, plan.request.source.card),
            maps=head_maps(plan.task, plan.request.source.architecture),
            slide=plan.task.settings.slide,
        )
        try:
            scores = train_and_score(
                plan,
                model,
                build_optimizer(plan.task, sweep),
                work=plan.work,
                clock=self.clock,
                stop=stop,
                reporter=self.reporter,
                alive=lambda: bool((sweep.diverged_at < 0).any()),
            )
        finally:
            self.clock.save()
        diverged_at = tuple(int(at) for at in sweep.diverged_at)
        warn_of_divergence(sweep.heads, diverged_at, self.reporter)
        if not self.unchanged():
            raise RuntimeError(
                "the frozen backbone changed during the run: a defect of vicregl-bench"
            )
        return Measured(sweep.heads, diverged_at, scores)
