"""The whole sweep on one frozen forward: all heads of a task are trained in one mmengine run."""

import torch
from mmengine.optim import OptimWrapper

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.heads.fcn_sweep import FcnOptions, FcnSweep
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import Sweep
from vicregl_bench.records import Cost, Record
from vicregl_bench.tasks.protocol import FcnHeadSection, FcnSection, HeadSection, Task
from vicregl_bench.tasks.segmentation.dataset import preprocessor
from vicregl_bench.tasks.segmentation.job import Job
from vicregl_bench.tasks.segmentation.plan import Clock, Plan
from vicregl_bench.tasks.segmentation.segmentor import FrozenSweepSegmentor
from vicregl_bench.tasks.segmentation.training import (
    Measured,
    head_specs,
    optimizer_options,
    train_and_score,
    warn_of_divergence,
)


def head_maps(task: Task, architecture: Architecture) -> tuple[int, ...]:
    """Indices of the maps that the heads of a task read; FCN's last one is the auxiliary head's."""
    if task.settings.fcn is None:
        return architecture.segmentation
    return (-1, architecture.auxiliary)


def build_sweep(task: Task, architecture: Architecture) -> Sweep:
    """The heads of a task on a frozen backbone: learning rates x seeds, in that order."""
    widths = [architecture.widths[index] for index in head_maps(task, architecture)]
    if task.settings.fcn is not None:
        return _fcn_sweep(task, task.settings.fcn, widths)
    assert task.settings.head is not None
    return _linear_sweep(task, task.settings.head, sum(widths))


def _linear_sweep(task: Task, head: HeadSection, width: int) -> LinearSweep:
    settings = task.settings
    return LinearSweep(
        width,
        settings.data.num_classes,
        head_specs(task),
        run_seed=settings.sweep.run_seed,
        batch_norm=head.batch_norm,
        dropout=head.dropout,
        init_std=head.init_std,
        ignore_index=settings.data.ignore_index,
    )


def _fcn_sweep(task: Task, fcn: FcnSection, widths: list[int]) -> FcnSweep:
    settings = task.settings
    return FcnSweep(
        widths[0],
        settings.data.num_classes,
        head_specs(task),
        decode=_fcn_options(fcn),
        auxiliary=_fcn_options(fcn.auxiliary),
        auxiliary_channels=widths[1],
        auxiliary_weight=fcn.auxiliary.loss_weight,
        run_seed=settings.sweep.run_seed,
        ignore_index=settings.data.ignore_index,
    )


def _fcn_options(section: FcnHeadSection) -> FcnOptions:
    return FcnOptions(
        channels=section.channels,
        num_convs=section.num_convs,
        concat_input=section.concat_input,
        dropout=section.dropout,
    )


def build_optimizer(task: Task, sweep: Sweep) -> OptimWrapper:
    """One optimiser with one parameter group a head, so that each keeps its own schedule."""
    kind, options = optimizer_options(task)
    make = getattr(torch.optim, kind)
    return OptimWrapper(make(sweep.param_groups(), lr=max(task.settings.sweep.lrs), **options))


class FrozenJob(Job):
    """A frozen task: one process has it alone."""

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        self.clock = Clock()
        task, source = plan.task, plan.request.source
        self.trunk = FrozenTrunk(
            source.build(task.settings.backbone.output_stride),
            precision=plan.precision,
            device=plan.device,
        )
        self.sweep = build_sweep(task, source.architecture)

    @property
    def iterations(self) -> int:
        """Iterations done, by all heads at once."""
        return int(self.sweep.iteration)

    def cost(self) -> Cost:
        """What it took so far, earlier interrupted parts included."""
        return self.clock.cost(self.plan.device)

    def unchanged(self) -> bool:
        """Whether the trunk is what it was."""
        return self.trunk.unchanged()

    def measure(self, stop: StopFlag) -> Measured:
        """Train all heads and score them.

        Raises:
            RunInterruptedError: asked to stop; the state is saved.
            filelock.Timeout: another process has the run.
            RuntimeError: the trunk changed.
        """
        plan, sweep = self.plan, self.sweep
        self.lock.acquire(timeout=0)
        if self.repeats:
            self.forget()
        elif self.found is not None:
            self.clock.earlier = self.found.cost.wall_s
            self.clock.earlier_train = self.found.cost.train_s
        architecture = plan.request.source.architecture
        model = FrozenSweepSegmentor(
            self.trunk,
            sweep,
            preprocessor(plan.task.settings.data, plan.request.source.card),
            maps=head_maps(plan.task, architecture),
            slide=plan.task.settings.slide,
        )
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
        diverged_at = tuple(int(at) for at in sweep.diverged_at)
        warn_of_divergence(sweep.heads, diverged_at, self.reporter)
        if not self.unchanged():
            raise RuntimeError(
                "the frozen backbone changed during the run: a defect of vicregl-bench"
            )
        return Measured(sweep.heads, diverged_at, scores)
