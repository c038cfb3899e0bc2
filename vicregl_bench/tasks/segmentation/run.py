"""One run of frozen linear segmentation: from a request to a record."""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.fit import PICTURES, SIDE, can_doubt, doubts
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.pictures import centre_crops
from vicregl_bench.data import (
    Fingerprint,
    Pair,
    SegmentationData,
    fingerprint,
    read_segmentation,
    require_sound,
    split_holdout,
)
from vicregl_bench.engine.device import (
    choose_device,
    default_precision,
    default_workers,
    device_name,
)
from vicregl_bench.engine.reporter import Precision, Reporter
from vicregl_bench.engine.runner import DeviceRunner
from vicregl_bench.engine.stop import StopFlag, StoppableCheckpointHook
from vicregl_bench.errors import BenchError, DataError, RecordError, RunInterruptedError
from vicregl_bench.heads.linear_sweep import HeadSpec, LinearSweep
from vicregl_bench.records import (
    CheckpointInfo,
    Cost,
    DataInfo,
    Progress,
    Record,
    TaskInfo,
    find_record,
    write_record,
)
from vicregl_bench.records.environment import describe_environment, peak_memory_mib
from vicregl_bench.tasks.hooks import EvaluationHook, ReportHook
from vicregl_bench.tasks.protocol import Task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.segmentation.dataset import preprocessor, test_loader, train_loader
from vicregl_bench.tasks.segmentation.metric import PictureAreas, SweepIoUMetric
from vicregl_bench.tasks.segmentation.outcome import choose_best, head_results, save_areas
from vicregl_bench.tasks.segmentation.segmentor import FrozenSweepSegmentor

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


@dataclass(frozen=True)
class Prediction:
    """Label map (H, W) of the best learning rate's first seed on a val picture."""

    pair: Pair
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RunOutcome:
    """A record, where it lies, whether this call made it, and on what data."""

    record: Record
    path: Path
    skipped: bool
    dataset: SegmentationData
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class _Evaluation:
    """What training and evaluation leave; no areas where every head diverged."""

    areas: PictureAreas | None = None
    held: PictureAreas | None = None
    kept: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """Everything settled before any computing."""

    request: RunRequest
    device: torch.device
    precision: Precision
    dataset: SegmentationData
    train: tuple[Pair, ...]
    holdout: tuple[Pair, ...]
    fingerprint: Fingerprint
    deviations: tuple[str, ...]
    key: str

    @property
    def task(self) -> Task:
        return self.request.task

    @property
    def work(self) -> Path:
        return self.request.out / "work" / self.key[:12]


@dataclass
class _Clock:
    """Seconds spent, earlier interrupted parts of the same run included."""

    start: float = field(default_factory=time.monotonic)
    earlier: float = 0.0
    earlier_train: float = 0.0
    train_s: float = 0.0
    pictures: int = 0
    peak_bytes: int = 0

    def wall(self) -> float:
        return self.earlier + time.monotonic() - self.start


def run_linear_segmentation(request: RunRequest, reporter: Reporter) -> RunOutcome:
    """Run a frozen linear sweep, or skip it where its record exists, or resume it.

    Raises:
        DataError: the data root is incomplete or damaged (found before training).
        RecordError: a record of this key is there and unreadable, or cannot be written.
        RunInterruptedError: Ctrl-C; an interrupted record is left and the next call resumes.
    """
    clock = _Clock()
    plan = _plan(request)
    found = find_record(request.out, plan.key)
    if found is not None and found[1].status != "interrupted" and not request.force:
        return RunOutcome(found[1], found[0], skipped=True, dataset=plan.dataset)
    sound = require_sound(plan.dataset, on_progress=_lazy_stage(reporter, "checking the data"))
    for problem in sound.warnings:
        reporter.warn(f"{problem.file}: {problem.text}")
    plan = _with_doubts(plan, reporter)
    try:
        plan.work.mkdir(parents=True, exist_ok=True)
        with FileLock(plan.work / "lock", timeout=0):
            if request.force and (found is None or found[1].status != "interrupted"):
                _forget(plan.work)
            elif found is not None:
                clock.earlier = found[1].cost.wall_s
                clock.earlier_train = found[1].cost.train_s
            record, predictions = _run(plan, reporter, clock)
            path = write_record(request.out, record)
            _forget(plan.work)
    except Timeout:
        raise BenchError(
            f"another run of the same is at work in {plan.work}; wait for it"
        ) from None
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise RecordError(
                f"cannot write under {request.out}: {error.strerror}; free some space or choose "
                "another --out, then run the same again: it resumes"
            ) from error
        reason = f"{error.filename}: {error.strerror}" if error.filename else _last_line(error)
        raise DataError(
            f"a file went away or broke during the run: {reason}; mend it and run the same again: "
            "it resumes"
        ) from error
    return RunOutcome(record, path, skipped=False, dataset=plan.dataset, predictions=predictions)


def _with_doubts(plan: _Plan, reporter: Reporter) -> _Plan:
    """Hold the weights' BatchNorm statistics against some pictures; doubts become notes."""
    source = plan.request.source
    if not can_doubt(source):
        return plan
    paths = [pair.image for pair in plan.train[:PICTURES]]
    found = doubts(source, centre_crops(paths, SIDE))
    for text in found:
        reporter.warn(text)
    source = replace(source, notes=(*source.notes, *found))
    return replace(plan, request=replace(plan.request, source=source))


def _lazy_stage(reporter: Reporter, name: str) -> Callable[[int, int], None]:
    """A progress callback (done, total) that begins its stage with the first call."""
    update: Callable[[int], None] | None = None

    def report(done: int, total: int) -> None:
        nonlocal update
        if update is None:
            update = reporter.stage(name, total)
        update(done)

    return report


def _forget(work: Path) -> None:
    """Remove the state that a finished run needs no more; the log stays."""
    for path in [*work.glob("*.pth"), work / "last_checkpoint"]:
        path.unlink(missing_ok=True)
    for folder in work.glob("*/vis_data"):
        shutil.rmtree(folder, ignore_errors=True)


def _plan(request: RunRequest) -> _Plan:
    task, source = request.task, request.source
    settings = task.settings
    device = choose_device(request.device)
    precision = request.precision or default_precision(device)
    dataset = read_segmentation(settings.data.dataset, request.data_root, settings.data.variant)
    train: tuple[Pair, ...] = dataset.train
    holdout: tuple[Pair, ...] = ()
    if request.select == "holdout":
        train, holdout = split_holdout(
            dataset.train, share=settings.sweep.holdout, seed=settings.sweep.run_seed
        )
    print_ = fingerprint({"train": dataset.train, "val": dataset.val})
    deviations = [str(deviation) for deviation in task.deviations]
    deviations += [f"data: {note}" for note in dataset.notes]
    if precision != default_precision(device):
        deviations.append(f"precision: {precision} instead of {default_precision(device)}")
    if holdout:
        deviations.append(
            f"data.train: {len(train)} pictures instead of {len(dataset.train)}; "
            f"{len(holdout)} are held out to select the learning rate"
        )
    identity: dict[str, Any] = {
        "protocol": [task.info.name, task.info.version, task.profile],
        "settings": settings.dump(),
        "select": request.select,
        "precision": precision,
        "weights": source.weights_sha256,
        "arch": source.arch,
        "preprocessing": [source.card.mean, source.card.std, source.card.channel_order],
        "data": print_.value,
    }
    if source.card.output_norm:
        identity["output_norm"] = True
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return _Plan(
        request=request,
        device=device,
        precision=precision,
        dataset=dataset,
        train=train,
        holdout=holdout,
        fingerprint=print_,
        deviations=tuple(deviations),
        key=key,
    )


def build_sweep(task: Task, architecture: Architecture) -> LinearSweep:
    """The heads of a task on a backbone: learning rates x seeds, in that order."""
    settings = task.settings
    heads = [HeadSpec(lr, s) for lr in settings.sweep.lrs for s in range(settings.sweep.seeds)]
    return LinearSweep(
        sum(architecture.widths[index] for index in architecture.segmentation),
        settings.data.num_classes,
        heads,
        run_seed=settings.sweep.run_seed,
        batch_norm=settings.head.batch_norm,
        dropout=settings.head.dropout,
        init_std=settings.head.init_std,
        ignore_index=settings.data.ignore_index,
    )


def build_optimizer(task: Task, sweep: LinearSweep) -> OptimWrapper:
    """One optimiser with one parameter group a head, so that each keeps its own schedule."""
    settings = task.settings.schedule.optimizer
    options = settings.model_dump(exclude={"type"}, exclude_none=True)
    kind = getattr(torch.optim, settings.type)
    return OptimWrapper(kind(sweep.param_groups(), lr=max(task.settings.sweep.lrs), **options))


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


def _run(plan: _Plan, reporter: Reporter, clock: _Clock) -> tuple[Record, tuple[Prediction, ...]]:
    task, source = plan.task, plan.request.source
    trunk = FrozenTrunk(
        source.build(task.settings.backbone.output_stride),
        precision=plan.precision,
        device=plan.device,
    )
    sweep = build_sweep(task, source.architecture)
    stop = StopFlag()
    with stop.listening():
        try:
            evaluation = _train_and_evaluate(plan, reporter, clock, trunk, sweep, stop)
        except (RunInterruptedError, KeyboardInterrupt):
            raise _interrupted(plan, clock, trunk, sweep) from None
        except RuntimeError as error:
            # a signal to the whole process group ends the data loading processes first
            if stop.requested:
                raise _interrupted(plan, clock, trunk, sweep) from None
            if "DataLoader worker" in str(error):
                raise BenchError(
                    f"a data loading process died ({_last_line(error)}); out of memory? Run the "
                    "same again with --workers 0: it resumes"
                ) from error
            raise
    record = _finished_record(plan, clock, trunk, sweep, evaluation)
    if not record.frozen_hash_unchanged:
        raise RuntimeError("the frozen backbone changed during the run: a defect of vicregl-bench")
    return record, _predictions(plan, record, evaluation)


def _interrupted(
    plan: _Plan, clock: _Clock, trunk: FrozenTrunk, sweep: LinearSweep
) -> RunInterruptedError:
    """Keep what there is; a complete record of the same key (--force) is not replaced by less."""
    done = f"interrupted after {int(sweep.iteration)} of {plan.task.settings.schedule.iters}"
    found = find_record(plan.request.out, plan.key)
    if found is not None and found[1].status != "interrupted":
        return RunInterruptedError(f"{done} iterations; the earlier record stays: {found[0]}")
    path = write_record(plan.request.out, _record(plan, clock, trunk, sweep, "interrupted"))
    return RunInterruptedError(
        f"{done} iterations; kept in {path}: run the same command again to resume"
    )


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _pictures_to_draw(plan: _Plan) -> tuple[Pair, ...]:
    """Val pictures spread evenly over the list."""
    val = plan.dataset.val
    count = min(plan.request.pictures, len(val))
    return tuple(val[i * len(val) // count] for i in range(count))


def _predictions(plan: _Plan, record: Record, evaluation: _Evaluation) -> tuple[Prediction, ...]:
    if record.best is None:
        return ()
    best = next(
        k
        for k, result in enumerate(record.results)
        if result.lr == record.best.lr and result.miou is not None
    )
    return tuple(
        Prediction(pair, evaluation.kept[str(pair.image)][best]) for pair in _pictures_to_draw(plan)
    )


def _train_and_evaluate(
    plan: _Plan,
    reporter: Reporter,
    clock: _Clock,
    trunk: FrozenTrunk,
    sweep: LinearSweep,
    stop: StopFlag,
) -> _Evaluation:
    """Train all heads and histogram val and the held-out slice."""
    task, data = plan.task, plan.task.settings.data
    schedule = task.settings.schedule
    workers = plan.request.workers
    workers = default_workers(plan.device) if workers is None else workers
    card = plan.request.source.card
    model = FrozenSweepSegmentor(
        trunk,
        sweep,
        preprocessor(data, card),
        maps=plan.request.source.architecture.segmentation,
        slide=task.settings.slide,
    )
    val_metric = SweepIoUMetric(keep=[str(pair.image) for pair in _pictures_to_draw(plan)])
    holdout_metric = SweepIoUMetric()
    evaluation = EvaluationHook(stop)
    progress = ReportHook(reporter.stage("training", schedule.iters))
    holdout: dict[str, Any] = {}
    if plan.holdout:
        holdout = {
            "test_dataloader": test_loader(plan.dataset, plan.holdout, data, workers=workers),
            "test_cfg": {"type": "TestLoop"},
            "test_evaluator": Evaluator([holdout_metric]),
        }
    runner = DeviceRunner(
        plan.device,
        model=model,
        work_dir=str(plan.work),
        train_dataloader=train_loader(
            plan.dataset,
            plan.train,
            data,
            batch_size=schedule.batch_size,
            seed=task.settings.sweep.run_seed,
            workers=workers,
        ),
        val_dataloader=test_loader(plan.dataset, plan.dataset.val, data, workers=workers),
        # validation is called by hand after training, so that a resumed run validates too
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": schedule.iters,
            "val_interval": schedule.iters + 1,
        },
        val_cfg={"type": "ValLoop"},
        val_evaluator=Evaluator([val_metric]),
        optim_wrapper=build_optimizer(task, sweep),
        param_scheduler=learning_rate_schedule(task),
        default_hooks={
            "checkpoint": StoppableCheckpointHook(
                stop, interval=min(500, max(10, schedule.iters // 20)), max_keep_ckpts=2
            ),
            "logger": {"type": "LoggerHook", "interval": 50, "log_metric_by_epoch": False},
        },
        custom_hooks=[
            progress,
            evaluation,
        ],
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        log_processor={"by_epoch": False},
        randomness={"seed": task.settings.sweep.run_seed},
        default_scope="mmseg",
        experiment_name=f"{plan.key[:12]}-{time.time_ns()}",
        resume=(plan.work / "last_checkpoint").exists(),
        **holdout,
    )
    begin = time.monotonic()
    try:
        runner.train()
    finally:
        clock.train_s = time.monotonic() - begin
        clock.pictures = progress.iterations * schedule.batch_size
        clock.peak_bytes = progress.peak_bytes
    if bool((sweep.diverged_at >= 0).all()):
        _warn_of_divergence(sweep, reporter)
        return _Evaluation()
    if plan.holdout:
        evaluation.report = reporter.stage("scoring the held-out slice", len(plan.holdout))
        runner.test()
    evaluation.report = reporter.stage("validating", len(plan.dataset.val))
    runner.val_loop.run()
    _warn_of_divergence(sweep, reporter)
    if bool((sweep.diverged_at >= 0).all()):
        return _Evaluation()
    return _Evaluation(val_metric.areas, holdout_metric.areas, val_metric.kept)


def _warn_of_divergence(sweep: LinearSweep, reporter: Reporter) -> None:
    for head, at in zip(sweep.heads, sweep.diverged_at.tolist(), strict=True):
        if at >= 0:
            reporter.warn(f"lr {head.lr:g}, seed {head.seed} diverged at iteration {at}")


def _finished_record(
    plan: _Plan,
    clock: _Clock,
    trunk: FrozenTrunk,
    sweep: LinearSweep,
    evaluation: _Evaluation,
) -> Record:
    areas = evaluation.areas
    classes = plan.dataset.classes
    results = head_results(sweep, classes, areas, evaluation.held)
    best = choose_best(results, classes, areas) if areas is not None else None
    record = _record(plan, clock, trunk, sweep, "complete" if best else "diverged")
    pictures_file = None
    if areas is not None:
        pictures_file = record.file_name.removesuffix(".json") + ".pictures.npz"
        save_areas(plan.request.out / pictures_file, areas)
    return record.model_copy(
        update={"results": results, "best": best, "pictures_file": pictures_file}
    )


def _record(
    plan: _Plan, clock: _Clock, trunk: FrozenTrunk, sweep: LinearSweep, status: str
) -> Record:
    task, source, request = plan.task, plan.request.source, plan.request
    peak = clock.peak_bytes / 2**20 if plan.device.type == "cuda" else peak_memory_mib()
    return Record.model_validate(
        {
            "key": plan.key,
            "status": status,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": TaskInfo(
                name=task.info.name,
                version=task.info.version,
                profile=task.profile,
                title=task.info.title,
                tables=task.info.tables,
                source=task.info.source,
                settings=task.settings.dump(),
                select=request.select,
            ),
            "checkpoint": CheckpointInfo(
                name=source.name,
                method=source.card.method,
                arch=source.arch,
                weights_sha256=source.weights_sha256,
                file_sha256=source.file_sha256,
                card=source.card.to_dict(),
                coverage=source.coverage,
                notes=(*source.notes, *source.facts),
            ),
            "data": DataInfo(
                root=str(request.data_root),
                variant=plan.dataset.variant,
                train=len(plan.train),
                val=len(plan.dataset.val),
                holdout=len(plan.holdout),
                fingerprint=plan.fingerprint.value,
                fingerprint_kind=plan.fingerprint.kind,
            ),
            "deviations": plan.deviations,
            "progress": Progress(iterations=int(sweep.iteration), of=task.settings.schedule.iters),
            "frozen_hash_unchanged": trunk.unchanged(),
            "cost": Cost(
                wall_s=round(clock.wall(), 2),
                train_s=round(clock.earlier_train + clock.train_s, 2),
                pictures_per_second=(
                    round(clock.pictures / clock.train_s, 2) if clock.pictures else None
                ),
                peak_memory_mib=round(peak, 1),
            ),
            "environment": describe_environment(device_name(plan.device), plan.precision),
            "command": request.command,
        }
    )
