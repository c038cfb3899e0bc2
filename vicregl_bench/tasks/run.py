"""One run of a task: from a request to a record."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import Timeout

from vicregl_bench.data import require_sound
from vicregl_bench.engine.device import device_name
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import BenchError, DataError, RecordError, RunInterruptedError
from vicregl_bench.records import (
    CheckpointInfo,
    DataInfo,
    Progress,
    Record,
    TaskInfo,
    find_record,
    write_record,
)
from vicregl_bench.records.arrays import write_arrays
from vicregl_bench.records.environment import describe_environment
from vicregl_bench.records.predictions import predictions_path
from vicregl_bench.tasks.finetune_job import FinetuneJob
from vicregl_bench.tasks.frozen_job import FrozenJob
from vicregl_bench.tasks.job import Job
from vicregl_bench.tasks.measured import Measured
from vicregl_bench.tasks.plan import Plan, make_plan, with_doubts
from vicregl_bench.tasks.probe_job import ProbeJob
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.results import choose_best, head_results

_LOCK_S = 60  # to write an interrupted record: others hold the lock for as long as writing takes
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # reading raises none of these
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.ENOTDIR}


@dataclass(frozen=True)
class RunOutcome:
    """A record, where it lies, and whether it was there before this call."""

    record: Record
    path: Path
    skipped: bool


def run_task(request: RunRequest, reporter: Reporter) -> RunOutcome:
    """Run a task, or skip it where its record exists, or resume it.

    Raises:
        DataError: the data root is incomplete or damaged (found before training).
        RecordError: a record of this key is there and unreadable, or cannot be written.
        RunInterruptedError: Ctrl-C; an interrupted record is left and the next call resumes.
    """
    plan = make_plan(request)
    job_class = _job_class(plan)
    found = find_record(request.out, plan.key)
    if found is not None and found[1].status != "interrupted" and not request.force:
        return RunOutcome(found[1], found[0], skipped=True)
    sound = require_sound(plan.dataset, on_progress=_lazy_stage(reporter, "checking the data"))
    for problem in sound.warnings:
        reporter.warn(f"{problem.file}: {problem.text}")
    plan = with_doubts(plan, reporter)
    try:
        plan.work.mkdir(parents=True, exist_ok=True)
        with job_class(plan, reporter, None if found is None else found[1]) as job:
            path, record = _run(job)
    except Timeout:
        raise BenchError(
            f"another run of the same is at work in {plan.work}; wait for it"
        ) from None
    except OSError as error:
        if _of_writing(error, plan):
            raise RecordError(
                f"cannot write under {request.out}: {error.strerror}; free some space or choose "
                "another --out, then run the same again: it resumes"
            ) from error
        reason = f"{error.filename}: {error.strerror}" if error.filename else _last_line(error)
        raise DataError(
            f"a file went away or broke during the run: {reason}; mend it and run the same again: "
            "it resumes"
        ) from error
    return RunOutcome(record, path, skipped=False)


def _of_writing(error: OSError, plan: Plan) -> bool:
    """Whether a run could not write what it leaves, rather than read what it needs."""
    if error.errno in _NO_SPACE:
        return True
    name = error.filename
    if error.errno not in (*_NO_ACCESS, errno.ENOENT) or not isinstance(
        name, str | bytes | os.PathLike
    ):
        return False
    path = Path(os.fsdecode(name)).resolve()
    out, data = plan.request.out.resolve(), plan.request.data_root.resolve()
    if data.is_relative_to(out) and path.is_relative_to(data):
        return False
    # a parent of the folder is named where the folder cannot be made
    if error.errno == errno.ENOENT:
        return out.is_relative_to(path)
    return any(path.is_relative_to(one) for one in (out, plan.work)) or out.is_relative_to(path)


def _job_class(plan: Plan) -> type[Job]:
    """Who computes the task.

    Raises:
        ConfigError: detectron2 is wanted and missing, or cannot do the task.
    """
    if plan.request.engine == "detectron2":
        from vicregl_bench.tasks.detection import detectron2_job
        from vicregl_bench.tasks.detection.detectron2_engine import require_detectron2

        detectron2_job.require_possible(plan)
        require_detectron2()
        return detectron2_job.Detectron2Job
    if plan.task.info.probe:
        return ProbeJob
    return FrozenJob if plan.task.info.frozen else FinetuneJob


def _lazy_stage(reporter: Reporter, name: str) -> Callable[[int, int], None]:
    """A progress callback (done, total) that begins its stage with the first call."""
    update: Callable[[int], None] | None = None

    def report(done: int, total: int) -> None:
        nonlocal update
        if update is None:
            update = reporter.stage(name, total)
        update(done)

    return report


def _run(job: Job) -> tuple[Path, Record]:
    stop = StopFlag()
    with stop.listening():
        try:
            measured = job.measure(stop)
        except (RunInterruptedError, KeyboardInterrupt):
            return _interrupted(job)
        except Timeout:
            if stop.requested:
                raise RunInterruptedError(
                    "interrupted before it began; another run of the same is at work in "
                    f"{job.plan.work}"
                ) from None
            raise
        except (RuntimeError, OSError, EOFError, MemoryError) as error:
            in_loader = "DataLoader worker" in str(error)
            if _is_out_of_memory(error) and not in_loader:
                raise BenchError(_out_of_memory(job.plan)) from error
            # a signal to the whole process group ends the data loading processes first
            unsaved = isinstance(error, OSError) and _of_writing(error, job.plan)
            if stop.requested and not unsaved:
                return _interrupted(job)
            if in_loader and isinstance(error, RuntimeError | MemoryError):
                raise BenchError(
                    f"a data loading process died ({_last_line(error)}); out of memory? Run the "
                    "same again with --workers 0: it resumes"
                ) from error
            raise
    if measured is None:
        left = job.left_by_another()
        assert left is not None
        return left
    record = _finished_record(job, measured)
    path = write_record(job.plan.request.out, record)
    job.finish()
    return path, record


def _interrupted(job: Job) -> tuple[Path, Record]:
    """Keep what there is; a complete record of the same key (--force) is not replaced by less.

    Returns the record that another process has completed meanwhile, if one has.

    Raises:
        RunInterruptedError: always else.
    """
    plan = job.plan
    done = f"interrupted after {job.spent().iterations} of {job.total} {job.unit}"
    try:
        held = job.lock.acquire(timeout=_LOCK_S)
    except Timeout:
        raise RunInterruptedError(
            f"{done}; another process holds {job.plan.work}, so no record says so: run "
            "the same command again to resume"
        ) from None
    with held:
        left = job.left_by_another()
        if left is not None:
            return left
        found = find_record(plan.request.out, plan.key)
        if found is not None and found[1].status != "interrupted":
            raise RunInterruptedError(
                f"{done}; the earlier record stays: {found[0]}; the same command with "
                "--force resumes"
            )
        path = write_record(plan.request.out, _record(job, "interrupted"))
    raise RunInterruptedError(f"{done}; kept in {path}: run the same command again to resume")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: a GPU's, or the machine's under torch, numpy or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # what torch's allocator of the CPU says: "can't allocate memory", on Windows "not enough"
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)


def _out_of_memory(plan: Plan) -> str:
    if plan.request.engine == "detectron2":
        advice = "--engine mmdet takes --set schedule.accumulate=2 (a deviation)"
    elif plan.task.info.probe:
        advice = "--set gives fewer points, memory.size or smaller chunks, or take a larger device"
    elif plan.task.info.frozen:
        advice = "fewer --seeds or --lrs at once, or a larger device"
    else:
        advice = "--set schedule.accumulate=2 computes a batch in two parts (a deviation)"
    return f"out of memory on {plan.device}: {advice}"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _finished_record(job: Job, measured: Measured) -> Record:
    """The record, and beside it what heads did on every val picture, and some predictions."""
    plan, val = job.plan, measured.scores.val
    classes, out = plan.dataset.classes, plan.request.out
    results = head_results(measured, classes)
    chosen = choose_best(results, classes, val) if val is not None else None
    record = _record(job, "complete" if chosen else "diverged")
    if val is None or chosen is None:
        return record.model_copy(update={"results": results})
    best, heads = chosen
    stem = record.file_name.removesuffix(".json")
    files = {"pictures_file": f"{stem}.pictures.npz"}
    write_arrays(out / files["pictures_file"], plan.domain.pictures(val, heads))
    if plan.keep:
        predictions = predictions_path(out / record.file_name)
        kept = measured.scores.kept[heads[0]] if measured.scores.kept else {}
        absent = plan.domain.save_kept(predictions, plan.keep, val, heads[0], kept)
        for name in absent:
            job.reporter.warn(f"no prediction of {name}: its run was begun with other --pictures")
        if len(absent) < len(plan.keep):
            files["predictions_file"] = predictions.name
    return record.model_copy(update={"results": results, "best": best, **files})


def _record(job: Job, status: str) -> Record:
    plan = job.plan
    task, source, request = plan.task, plan.request.source, plan.request
    spent = job.spent()
    return Record.model_validate(
        {
            "key": plan.key,
            "status": status,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": TaskInfo(
                name=task.info.name,
                version=task.info.version,
                profile=task.profile,
                preset=task.preset,
                title=task.info.title,
                tables=task.info.tables,
                source=task.info.source,
                settings=task.settings.dump(),
                select=plan.domain.select,
                metric=plan.domain.metric,
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
            "progress": Progress(iterations=spent.iterations, of=job.total),
            "frozen_hash_unchanged": job.unchanged(),
            "trained": job.trained(),
            "cost": spent.cost(),
            "environment": describe_environment(device_name(plan.device), plan.precision),
            "command": request.command,
        }
    )
