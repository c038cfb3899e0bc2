"""One mmengine run of a task: train a model, score it on val and on the held-out slice."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from torch import nn

from vicregl_bench.engine.device import default_workers
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.runner import DeviceRunner
from vicregl_bench.engine.stop import StopFlag, StoppableCheckpointHook
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.grid import described, learning_rate_schedule
from vicregl_bench.tasks.hooks import EvaluationHook, ReportHook
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.protocol import Task
from vicregl_bench.tasks.state import Clock, resumes


def optimizer_options(task: Task) -> tuple[str, dict[str, Any]]:
    """Name of torch's optimiser and its arguments, the learning rate left out."""
    section = task.training.schedule.optimizer
    return section.type, section.model_dump(exclude={"type", "norm_decay"}, exclude_none=True)


def build_optimizer(task: Task, groups: list[dict[str, Any]]) -> OptimWrapper:
    """The task's optimiser; every parameter group has its own rate, and so its own schedule."""
    kind, options = optimizer_options(task)
    make = getattr(torch.optim, kind)
    return OptimWrapper(make(groups, lr=max(task.training.sweep.lrs), **options))


def train_and_score(
    plan: Plan,
    model: nn.Module,
    optimizer: OptimWrapper,
    *,
    work: Path,
    clock: Clock,
    stop: StopFlag,
    reporter: Reporter,
    head: HeadSpec | None = None,
    name: str = "",
    alive: Callable[[], bool],
) -> Scores:
    """Train to the end, or on from where an interrupted run stopped, and score.

    Args:
        plan: of the run.
        model: what mmengine trains.
        optimizer: of the model's parameters.
        work: where state is kept for resuming.
        clock: counts what it takes, and leaves that with every checkpoint.
        stop: looked at after every iteration and every scored picture.
        reporter: of the progress.
        head: which of the grid's is trained; None for all.
        name: what is trained, for people; empty where it is the whole task.
        alive: whether a head is left that has not diverged.

    Raises:
        RunInterruptedError: asked to stop; the state is saved.
    """
    domain, settings = plan.training, plan.task.training
    schedule = settings.schedule
    workers = plan.request.workers
    workers = default_workers(plan.device) if workers is None else workers
    on_val = domain.evaluation(plan.dataset.val, plan.keep)
    on_holdout = domain.evaluation(plan.holdout)
    suffix = f" {name}" if name else ""
    evaluation = EvaluationHook(stop)
    progress = ReportHook(
        lambda: reporter.stage(f"training{suffix}", schedule.iters), clock, schedule.batch_size
    )
    holdout: dict[str, Any] = {}
    if plan.holdout:
        holdout = {
            "test_dataloader": domain.test_loader(plan.holdout, workers=workers),
            "test_cfg": {"type": "TestLoop"},
            "test_evaluator": Evaluator([on_holdout]),
        }
    saving = StoppableCheckpointHook(
        stop, interval=min(500, max(10, schedule.iters // 20)), max_keep_ckpts=2
    )
    saving.on_saved = clock.save
    batches = domain.train_loader(plan.train, workers=workers)
    runner = DeviceRunner(
        plan.device,
        model=model,
        work_dir=str(work),
        train_dataloader=batches,
        val_dataloader=domain.test_loader(plan.dataset.val, workers=workers),
        # validation is called by hand after training, so that a resumed run validates too
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": schedule.iters,
            "val_begin": schedule.iters + 1,
        },
        val_cfg={"type": "ValLoop"},
        val_evaluator=Evaluator([on_val]),
        optim_wrapper=optimizer,
        param_scheduler=learning_rate_schedule(settings, head),
        default_hooks={
            "checkpoint": saving,
            "logger": {"type": "LoggerHook", "interval": 50, "log_metric_by_epoch": False},
        },
        custom_hooks=[progress, evaluation],
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        log_processor={"by_epoch": False},
        randomness={"seed": settings.sweep.run_seed},
        default_scope=domain.scope,
        experiment_name=f"{plan.key[:12]}-{time.time_ns()}",
        resume=resumes(work, reporter.warn),
        **holdout,
    )
    runner.train()
    if not alive():
        return Scores()

    def stage(name: str, steps: int) -> Callable[[int], None]:
        report = reporter.stage(f"{name}{suffix}", steps)

        def told(done: int) -> None:
            report(done)
            if stop.requested:
                raise RunInterruptedError("stopped")

        return told

    domain.before_scoring(model, lambda: runner.build_dataloader(batches), stage)
    if not alive():
        return Scores()
    runner.model = domain.tested(runner.model)
    if plan.holdout:
        evaluation.begin(reporter.stage(f"scoring the held-out slice{suffix}", len(plan.holdout)))
        runner.test_loop.run()
    evaluation.begin(reporter.stage(f"validating{suffix}", len(plan.dataset.val)))
    runner.val_loop.run()
    if not alive():
        return Scores()
    return Scores(on_val.outcome, on_holdout.outcome, on_val.kept)


def warn_of_divergence(
    heads: Sequence[HeadSpec], diverged_at: Sequence[int], reporter: Reporter
) -> None:
    """Say of every diverged head when it did."""
    for head, at in zip(heads, diverged_at, strict=True):
        if at >= 0:
            reporter.warn(f"{described(head)} diverged at iteration {at}")
