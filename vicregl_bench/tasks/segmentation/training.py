"""One mmengine run of segmentation: train a model, score it on val and on the held-out slice."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from torch import nn

from vicregl_bench.engine.device import default_workers
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.runner import DeviceRunner
from vicregl_bench.engine.stop import StopFlag, StoppableCheckpointHook
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.predictions import picture_name
from vicregl_bench.tasks.hooks import EvaluationHook, ReportHook
from vicregl_bench.tasks.protocol import Task
from vicregl_bench.tasks.segmentation.dataset import test_loader, train_loader
from vicregl_bench.tasks.segmentation.metric import PictureAreas, SweepIoUMetric
from vicregl_bench.tasks.segmentation.plan import Plan
from vicregl_bench.tasks.state import Clock, resumes


@dataclass(frozen=True)
class Scores:
    """What evaluation leaves; no areas where every head diverged.

    Attributes:
        areas: of the val pictures.
        held: of the held-out slice, None where there is none.
        kept: for each head, name of a val picture -> predicted labels (H, W).
    """

    areas: PictureAreas | None = None
    held: PictureAreas | None = None
    kept: tuple[Mapping[str, npt.NDArray[np.uint8]], ...] = ()


@dataclass(frozen=True)
class Measured:
    """Every head of a task, trained and scored.

    Attributes:
        heads: learning rates and seeds.
        diverged_at: iteration at which a head's loss stopped being finite, -1 where it never did.
        scores: K heads in the order of `heads`.
    """

    heads: tuple[HeadSpec, ...]
    diverged_at: tuple[int, ...]
    scores: Scores


def head_specs(task: Task) -> tuple[HeadSpec, ...]:
    """Learning rates x seeds, in that order."""
    sweep = task.settings.sweep
    return tuple(HeadSpec(lr, seed) for lr in sweep.lrs for seed in range(sweep.seeds))


def learning_rate_schedule(task: Task) -> list[dict[str, Any]]:
    """Mmengine configuration: a linear warm-up where there is one, then poly to the end."""
    schedule = task.settings.schedule
    begin = schedule.warmup.iters if schedule.warmup else 0
    poly = {
        "type": "PolyLR",
        "power": schedule.poly.power,
        "eta_min": schedule.poly.eta_min,
        "begin": begin,
        "end": schedule.iters,
        "by_epoch": False,
    }
    if schedule.warmup is None:
        return [poly]
    factor = schedule.warmup.start_factor
    warmup = {"type": "LinearLR", "start_factor": factor, "begin": 0, "end": begin}
    return [{**warmup, "by_epoch": False}, poly]


def optimizer_options(task: Task) -> tuple[str, dict[str, Any]]:
    """Name of torch's optimiser and its arguments, the learning rate left out."""
    section = task.settings.schedule.optimizer
    return section.type, section.model_dump(exclude={"type"}, exclude_none=True)


def train_and_score(
    plan: Plan,
    model: nn.Module,
    optimizer: OptimWrapper,
    *,
    work: Path,
    clock: Clock,
    stop: StopFlag,
    reporter: Reporter,
    name: str = "",
    alive: Callable[[], bool],
    for_test: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Scores:
    """Train to the end, or on from where an interrupted run stopped, and score.

    Args:
        plan: of the run.
        model: what mmengine trains; its predictions are label maps (K, H, W).
        optimizer: of the model's parameters.
        work: where state is kept for resuming.
        clock: counts what it takes, and leaves that with every checkpoint.
        stop: looked at after every iteration and every scored picture.
        reporter: of the progress.
        name: what is trained, for people; empty where it is the whole task.
        alive: whether a head is left that has not diverged.
        for_test: what is evaluated in the model's place.

    Raises:
        RunInterruptedError: asked to stop; the state is saved.
    """
    task, data = plan.task, plan.task.settings.data
    schedule = task.settings.schedule
    workers = plan.request.workers
    workers = default_workers(plan.device) if workers is None else workers
    test = task.settings.test
    val_metric = SweepIoUMetric(keep=[str(pair.image) for pair in plan.keep])
    holdout_metric = SweepIoUMetric()
    suffix = f" {name}" if name else ""
    evaluation = EvaluationHook(stop)
    progress = ReportHook(
        lambda: reporter.stage(f"training{suffix}", schedule.iters), clock, schedule.batch_size
    )
    holdout: dict[str, Any] = {}
    if plan.holdout:
        holdout = {
            "test_dataloader": test_loader(
                plan.dataset, plan.holdout, data, workers=workers, test=test
            ),
            "test_cfg": {"type": "TestLoop"},
            "test_evaluator": Evaluator([holdout_metric]),
        }
    saving = StoppableCheckpointHook(
        stop, interval=min(500, max(10, schedule.iters // 20)), max_keep_ckpts=2
    )
    saving.on_saved = clock.save
    runner = DeviceRunner(
        plan.device,
        model=model,
        work_dir=str(work),
        train_dataloader=train_loader(
            plan.dataset,
            plan.train,
            data,
            batch_size=schedule.batch_size,
            seed=task.settings.sweep.run_seed,
            workers=workers,
        ),
        val_dataloader=test_loader(
            plan.dataset, plan.dataset.val, data, workers=workers, test=test
        ),
        # validation is called by hand after training, so that a resumed run validates too
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": schedule.iters,
            "val_begin": schedule.iters + 1,
        },
        val_cfg={"type": "ValLoop"},
        val_evaluator=Evaluator([val_metric]),
        optim_wrapper=optimizer,
        param_scheduler=learning_rate_schedule(task),
        default_hooks={
            "checkpoint": saving,
            "logger": {"type": "LoggerHook", "interval": 50, "log_metric_by_epoch": False},
        },
        custom_hooks=[progress, evaluation],
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        log_processor={"by_epoch": False},
        randomness={"seed": task.settings.sweep.run_seed},
        default_scope="mmseg",
        experiment_name=f"{plan.key[:12]}-{time.time_ns()}",
        resume=resumes(work, reporter.warn),
        **holdout,
    )
    runner.train()
    if not alive():
        return Scores()
    runner.model = for_test(runner.model)
    if plan.holdout:
        evaluation.report = reporter.stage(f"scoring the held-out slice{suffix}", len(plan.holdout))
        runner.test_loop.run()
    evaluation.report = reporter.stage(f"validating{suffix}", len(plan.dataset.val))
    runner.val_loop.run()
    if not alive():
        return Scores()
    return Scores(val_metric.areas, holdout_metric.areas, _by_head(val_metric.kept))


def _by_head(
    kept: Mapping[str, npt.NDArray[np.uint8]],
) -> tuple[Mapping[str, npt.NDArray[np.uint8]], ...]:
    """From path -> labels (K, H, W) to K times name -> labels (H, W)."""
    heads = max((len(labels) for labels in kept.values()), default=0)
    return tuple(
        {picture_name(path): labels[k].astype(np.uint8) for path, labels in kept.items()}
        for k in range(heads)
    )


def warn_of_divergence(
    heads: Sequence[HeadSpec], diverged_at: Sequence[int], reporter: Reporter
) -> None:
    """Say of every diverged head when it did."""
    for head, at in zip(heads, diverged_at, strict=True):
        if at >= 0:
            reporter.warn(f"lr {head.lr:g}, seed {head.seed} diverged at iteration {at}")
