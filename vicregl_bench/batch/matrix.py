"""The runs that a printed table needs: its columns by the checkpoints of a zoo."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.batch.job import Job
from vicregl_bench.batch.roots import Roots
from vicregl_bench.batch.zoo import Zoo, ZooEntry, require_architectures
from vicregl_bench.engine.device import device_name
from vicregl_bench.engine.reporter import Precision
from vicregl_bench.errors import BenchError, ConfigError
from vicregl_bench.records import Record, find_record
from vicregl_bench.tables.published import published
from vicregl_bench.tasks.grid import head_specs
from vicregl_bench.tasks.plan import Plan, make_plan
from vicregl_bench.tasks.protocol import (
    ProtocolInfo,
    load_task,
    protocol_info,
    require_possible,
)
from vicregl_bench.tasks.request import RunRequest, Select
from vicregl_bench.tasks.settings import TrainedSettings
from vicregl_bench.tasks.state import read_spent

State = Literal["done", "diverged", "interrupted", "missing", "no root", "impossible", "refused"]
TO_RUN: tuple[State, ...] = ("interrupted", "missing")


@dataclass(frozen=True)
class Options:
    """What all runs of a matrix share, as options of `vicregl-bench run`."""

    out: Path
    profile: str = "paper"
    select: Select = "val"
    device: str = "auto"
    precision: Precision | None = None
    workers: int | None = None

    def words(self) -> dict[str, str]:
        """Those that `Job` has no field for."""
        named: dict[str, Any] = {
            "select": self.select,
            "device": self.device,
            "precision": self.precision,
            "workers": self.workers,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Planned:
    """What is known of a run before it is made.

    Attributes:
        key: of its record.
        version: of the protocol.
        arch: name of the architecture.
        settings: of the task, as records have them.
        train: pictures that are trained on.
        val: pictures that are scored.
        device: name for people, as records have it.
        precision: of the backbone.
        frozen: whether all heads share one pass.
        runs: trainings one after another, 1 of a frozen task.
        iterations: of one of them; None of what is not trained by gradients.
        batch: pictures an iteration.
        cost: what the protocol says of the profile's cost.
    """

    key: str
    version: int
    arch: str
    settings: dict[str, Any]
    train: int
    val: int
    device: str
    precision: str
    frozen: bool
    runs: int
    iterations: int | None
    batch: int
    cost: str


@dataclass(frozen=True)
class MatrixCell:
    """One task on one checkpoint.

    Attributes:
        state: "done" and "diverged" have a record, "interrupted" a part of one; "no root" is for
            want of data, "impossible" for want of sense (a task of ResNets on a ViT), "refused" is
            bad input.
        reason: of the last three states, in words.
        record: what is there.
        done: iterations (or what else progress is counted in) and of how many, where known.
    """

    entry: ZooEntry
    task: str
    state: State
    reason: str = ""
    planned: Planned | None = None
    job: Job | None = None
    record: Record | None = None
    path: Path | None = None
    done: tuple[int, int] | None = None


def table_tasks(table: str, only: Sequence[str] | None = None) -> list[str]:
    """The tasks of a table of the VICRegL paper, in the order of its columns.

    Args:
        table: its number, such as "1".
        only: some of them, in the order in which they are to be run; None is all.

    Raises:
        ConfigError: no such table, a table without tasks, or a task that it does not have.
    """
    columns = published(paper="vicregl", table=table)["protocol"]
    tasks = [str(task) for task in dict.fromkeys(columns) if task]
    if not tasks:
        raise ConfigError(
            f"table {table} has nothing that a task measures (time and memory of pretraining): "
            f"`vicregl-bench table {table} --published` shows it"
        )
    for task in only or ():
        if task not in tasks:
            near = difflib.get_close_matches(task, tasks, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--tasks: no {task!r} in table {table}, {', '.join(tasks)}{hint}")
    if only is not None and not only:
        raise ConfigError(f"--tasks names none of table {table}: {', '.join(tasks)}")
    return tasks if only is None else list(dict.fromkeys(only))


def make_matrix(
    tasks: Sequence[str],
    zoo: Zoo,
    roots: Roots,
    options: Options,
    say: Callable[[str], None] = lambda text: None,
) -> list[MatrixCell]:
    """Every task on every checkpoint, task by task; nothing is run.

    Each checkpoint is read once. The data's lists are read anew for each cell, as `run` does.

    Args:
        tasks: the columns.
        zoo: the checkpoints.
        roots: the data.
        options: of every run.
        say: told what takes time.

    Raises:
        ConfigError: settings that no backbone takes, an unknown architecture, or two checkpoints
            of the same weights.
        CheckpointError: a checkpoint's file cannot be read.
    """
    require_architectures(zoo)
    for task in tasks:
        try:
            require_possible(task, options.profile, roots.settings.get(task, {}))
        except ConfigError as error:
            raise ConfigError(f"{roots.path}, settings.{task}: {error}") from None
    zoo.require_unlike_files()
    count = len(tasks) * len(zoo.entries)
    say(f"planning {count} run{'s' if count > 1 else ''}")
    cells = [cell for entry in zoo.entries for cell in _cells(tasks, entry, zoo, roots, options)]
    _require_unlike(cells, zoo)
    return sorted(cells, key=lambda cell: tasks.index(cell.task))


def require_runnable(cells: Sequence[MatrixCell]) -> None:
    """Stop where a run cannot begin for bad input.

    Raises:
        ConfigError: with every reason, each once.
    """
    reasons = list(dict.fromkeys(cell.reason for cell in cells if cell.state == "refused"))
    if reasons:
        raise ConfigError(f"nothing was run: {'; '.join(reasons)}")


def look_again(cell: MatrixCell) -> MatrixCell:
    """The same cell with what another process may have left meanwhile.

    Raises:
        RecordError: a record of this key is there and cannot be read.
    """
    if cell.planned is None or cell.job is None:
        return cell
    return _found(cell, cell.planned, cell.job.out)


def _cells(
    tasks: Sequence[str], entry: ZooEntry, zoo: Zoo, roots: Roots, options: Options
) -> Iterator[MatrixCell]:
    """The cells of one checkpoint; its weights are let go of with the last."""
    missing = zoo.missing(entry)
    source: BackboneSource | BenchError
    try:
        if missing is not None:
            raise ConfigError(missing)
        source = zoo.weights(entry).read()
    except BenchError as error:
        named = str(error) if missing is not None else f"{entry.name}: {error}"
        source = type(error)(named)
    for task in tasks:
        yield _cell(task, entry, source, zoo, roots, options)


def _cell(
    task: str,
    entry: ZooEntry,
    source: BackboneSource | BenchError,
    zoo: Zoo,
    roots: Roots,
    options: Options,
) -> MatrixCell:
    info = protocol_info(task)
    blank = MatrixCell(entry, task, "refused")
    if isinstance(source, BenchError):
        return replace(blank, reason=str(source))
    family = source.architecture.family
    if info.only is not None and family not in info.only:
        return replace(
            blank, state="impossible", reason=f"for {' and '.join(info.only)}, not {family}"
        )
    overrides = dict(roots.settings.get(task, {}))
    try:
        chosen = load_task(
            task,
            options.profile,
            overrides,
            family=family,
            arch=source.arch,
            suggested=source.card.detection_preset,
        )
        dataset = chosen.settings.data.dataset
        folder = roots.folder(task, dataset)
        if folder is None:
            return replace(
                blank, state="no root", reason=f"no root for {dataset} in {roots.path.name}"
            )
        if not folder.is_dir():
            raise ConfigError(f"no folder {folder} for {dataset}, as {roots.path} says")
        request = RunRequest(
            task=chosen,
            source=source,
            data_root=folder,
            out=options.out,
            select=options.select,
            precision=options.precision,
            device=options.device,
            workers=options.workers,
        )
        plan = make_plan(request)
        job = Job(
            weights=zoo.weights(entry),
            task=task,
            data_root=folder,
            out=options.out,
            profile=options.profile,
            options=options.words(),
            overrides=overrides,
        )
        planned = _planned(plan)
        return _found(replace(blank, planned=planned, job=job), planned, options.out)
    except BenchError as error:
        return replace(blank, reason=str(error))


def _planned(plan: Plan) -> Planned:
    task = plan.task
    trained = isinstance(task.settings, TrainedSettings)
    frozen = task.info.frozen
    return Planned(
        key=plan.key,
        version=task.info.version,
        arch=plan.request.source.arch,
        settings=task.settings.dump(),
        train=len(plan.train),
        val=len(plan.dataset.val),
        device=device_name(plan.device),
        precision=plan.precision,
        frozen=frozen,
        runs=len(head_specs(task.training)) if trained and not frozen else 1,
        iterations=task.training.schedule.iters if trained else None,
        batch=task.training.schedule.batch_size if trained else 0,
        cost=profile_cost(task.info, task.profile),
    )


def profile_cost(info: ProtocolInfo, profile: str) -> str:
    """What a protocol says of the cost of one of its profiles, such as "GPU hours"."""
    for part in info.cost.split("; "):
        name, colon, text = part.partition(": ")
        if colon and name == profile:
            return text
    return info.cost


def _found(cell: MatrixCell, planned: Planned, out: Path) -> MatrixCell:
    """The cell with what the folder of records has of it."""
    found = find_record(out, planned.key)
    if found is None:
        done = _killed(planned, out)
        return replace(
            cell, state="missing" if done is None else "interrupted", done=done, record=None
        )
    path, record = found
    progress = (record.progress.iterations, record.progress.of)
    state: State = "done" if record.status == "complete" else record.status
    return replace(cell, state=state, record=record, path=path, done=progress)


def _killed(planned: Planned, out: Path) -> tuple[int, int] | None:
    """Progress of a run that was killed before it could leave a record; None where none is kept."""
    if planned.iterations is None:
        return None
    work = out / "work" / planned.key[:12]
    notes = [*work.glob("spent.json"), *work.glob("runs/*/spent.json")]
    done = sum(read_spent(note.parent).iterations for note in notes)
    return (done, planned.iterations * planned.runs) if done else None


def _require_unlike(cells: Sequence[MatrixCell], zoo: Zoo) -> None:
    keys: dict[str, MatrixCell] = {}
    for cell in cells:
        if cell.planned is None:
            continue
        other = keys.setdefault(cell.planned.key, cell)
        if other is not cell:
            raise ConfigError(
                f"{zoo.path}: {other.entry.name} and {cell.entry.name} have the same weights, and "
                "so one record: leave one out"
            )
