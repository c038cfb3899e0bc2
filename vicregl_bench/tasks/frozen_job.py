"""The whole sweep on one frozen forward: all heads of a task are trained in one mmengine run."""

from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.heads.sweep import Heads
from vicregl_bench.records import Record, TrainedParameter
from vicregl_bench.tasks.job import TrunkJob
from vicregl_bench.tasks.measured import Measured
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.state import Spent, forget_state
from vicregl_bench.tasks.training import (
    build_optimizer,
    train_and_score,
    warn_of_divergence,
)


class FrozenJob(TrunkJob):
    """A frozen task: one process has it alone."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.model = plan.training.sweep_model(self.trunk)
        self.sweep: Heads = self.model.sweep

    @property
    def total(self) -> int:
        """Iterations, which all heads share."""
        return self.plan.task.training.schedule.iters

    def spent(self) -> Spent:
        """What it took so far, earlier interrupted parts included."""
        return self.clock.spent()

    def trained(self) -> tuple[TrainedParameter, ...]:
        """The parameters of the first head of each choice of options; the others' are alike."""
        first: dict[object, int] = {}
        for k, head in enumerate(self.sweep.heads):
            first.setdefault(head.options, k)
        wanted = {id(one) for k in first.values() for one in self.sweep.head_parameters(k)}
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
        if not self.take():
            return None
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
        self.require_unchanged()
        return Measured(sweep.heads, diverged_at, scores)
