"""The whole sweep on one frozen forward: all heads of a task are trained in one mmengine run."""

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.heads.sweep import Heads
from vicregl_bench.records import Record, TrainedParameter
from vicregl_bench.tasks.job import Job
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.state import Clock, Spent, forget_state
from vicregl_bench.tasks.training import (
    Measured,
    build_optimizer,
    train_and_score,
    warn_of_divergence,
)


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
        self.model = plan.domain.sweep_model(self.trunk)
        self.sweep: Heads = self.model.sweep

    def spent(self) -> Spent:
        """What it took so far, earlier interrupted parts included."""
        return self.clock.spent()

    def unchanged(self) -> bool:
        """Whether the trunk is what it was."""
        return self.trunk.unchanged()

    def trained(self) -> tuple[TrainedParameter, ...]:
        """The parameters of the first head; those of the others are alike."""
        wanted = {id(parameter) for parameter in self.sweep.head_parameters(0)}
        return tuple(
            TrainedParameter(
                name=f"{prefix}.{name}".strip("."),
                layer=type(module).__name__,
                shape=tuple(parameter.shape),
            )
            for prefix, module in self.sweep.named_modules()
            for name, parameter in module.named_parameters(recurse=False)
            if id(parameter) in wanted
        )

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
        with self.clock:
            scores = train_and_score(
                plan,
                self.model,
                build_optimizer(plan.task, sweep.param_groups()),
                work=plan.work,
                clock=self.clock,
                stop=stop,
                reporter=self.reporter,
                alive=lambda: bool((sweep.diverged_at < 0).any()),
            )
        diverged_at = tuple(int(at) for at in sweep.diverged_at)
        warn_of_divergence(sweep.heads, diverged_at, self.reporter)
        if not self.unchanged():
            raise RuntimeError(
                "the frozen backbone changed during the run: a defect of vicregl-bench"
            )
        return Measured(sweep.heads, diverged_at, scores)
