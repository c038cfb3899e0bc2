"""`vicregl-bench reproduce`: the runs that a printed table needs, and the table with them."""

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicregl_bench.cli.choices import Precision, Profile, Select, TableFormat
from vicregl_bench.cli.output import print_json, print_rows, print_text
from vicregl_bench.cli.quiet import import_engine
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.cli.targets import require_folder
from vicregl_bench.errors import (
    EXIT_CHECK_FAILED,
    ConfigError,
    RecordError,
    RunInterruptedError,
)

if TYPE_CHECKING:
    from vicregl_bench.batch.matrix import MatrixCell
    from vicregl_bench.batch.reproduce import Failure
    from vicregl_bench.batch.roots import Roots
    from vicregl_bench.batch.zoo import Zoo
    from vicregl_bench.records import Record
    from vicregl_bench.records.collection import Entry

_OUT = Path("runs")
_ENDINGS = {
    TableFormat.markdown: "md",
    TableFormat.csv: "csv",
    TableFormat.latex: "tex",
    TableFormat.html: "html",
}


def reproduce(
    table: Annotated[str, typer.Argument(help="A table of the paper: table1, or 1, to 10.")],
    zoo: Annotated[Path, typer.Option(help="YAML file of checkpoints (docs/reproduce.md).")],
    data: Annotated[Path, typer.Option(help="YAML file of data roots (docs/reproduce.md).")],
    out: Annotated[Path, typer.Option(help="Folder of records.")] = _OUT,
    profile: Annotated[Profile, typer.Option(help="Full protocol or minutes.")] = Profile.paper,
    tasks: Annotated[
        str | None, typer.Option(help="Some of the table's tasks, A,B, run in this order.")
    ] = None,
    select: Annotated[
        Select, typer.Option(help="What chooses the learning rate: val, or a slice of train.")
    ] = Select.val,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Precision | None, typer.Option(help="As `run --precision`, of every run.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Data loading processes.")] = None,
    throughput: Annotated[
        list[Path] | None,
        typer.Option(help="Further folders of records, to estimate times from."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run; run and write nothing.")
    ] = False,
    render: Annotated[
        Path | None, typer.Option(help="Folder of tableN.md, .csv, .tex, .html; default: --out.")
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="Of the table on stdout.")
    ] = TableFormat.markdown,
    as_json: Annotated[
        bool, typer.Option("--json", help="The runs as JSON on stdout, in place of the table.")
    ] = False,
) -> None:
    """Run what a table of the paper lacks for a zoo of checkpoints, and render it.

    What is in --out already is not run again; a run that fails does not stop the others; after
    Ctrl-C the same command goes on.
    """
    number = _table_number(table)
    reporter = StderrReporter()
    warn = functools.cache(reporter.warn)  # once: records are read before the runs and after
    require_folder("--out", out)
    if render is not None:
        require_folder("--render", render)
    shared: dict[str, Any] = {
        "out": out,
        "profile": profile.value,
        "select": select.value,
        "device": device,
        "precision": precision.value if precision else None,
        "workers": workers,
    }
    with contextlib.redirect_stdout(sys.stderr):
        known = _measured(out, throughput or [], warn)
        checkpoints, cells = _matrix(number, _task_names(tasks), zoo, data, shared, reporter)
    text_first = dry_run and not as_json and form is TableFormat.markdown
    failures: Sequence[Failure] = ()
    if dry_run:
        _show(cells, known, on_stdout=text_first)
    else:
        cells, failures = _run(cells, known, reporter)
    texts = _rendered(number, out, checkpoints, warn)
    if not dry_run:
        _write(texts, out if render is None else render, number, reporter)
    if as_json:
        print_json([_plain(cell, known) for cell in cells])
    else:
        print_text(("\n" if text_first else "") + texts[form])
    if dry_run:
        from vicregl_bench.batch.matrix import require_runnable

        require_runnable(cells)
    if failures:
        _show_failures(failures)
        raise typer.Exit(EXIT_CHECK_FAILED)


def _matrix(
    number: str,
    only: list[str] | None,
    zoo: Path,
    data: Path,
    shared: dict[str, Any],
    reporter: StderrReporter,
) -> tuple["Zoo", "list[MatrixCell]"]:
    """The checkpoints, and the cells of the table with what is there of each.

    Args:
        number: of the table.
        only: some of its tasks.
        zoo: file of checkpoints.
        data: file of data roots.
        shared: fields of `batch.matrix.Options`.
        reporter: told what takes time.

    Raises:
        ConfigError: a file, task or setting that is impossible.
    """
    # imported late: torch and mmseg take seconds, a wrong option should not
    from vicregl_bench.batch.roots import read_roots
    from vicregl_bench.batch.zoo import read_zoo, require_rows

    checkpoints, roots = read_zoo(zoo), read_roots(data)
    require_rows(checkpoints, number)
    count = len(checkpoints.entries)
    _say(reporter, f"reading {count} checkpoint{'s' if count > 1 else ''}")
    from vicregl_bench.batch.matrix import Options, make_matrix, table_tasks

    wanted = table_tasks(number, only)
    for domain in _domains(wanted, roots):
        import_engine(domain)
    options = Options(**shared)
    return checkpoints, make_matrix(
        wanted, checkpoints, roots, options, lambda text: _say(reporter, text)
    )


def _domains(tasks: Sequence[str], roots: "Roots") -> list[str]:
    """What planning the runs takes: the domains of those tasks that there are data for."""
    from vicregl_bench.tasks.protocol import load_task, protocol_info

    found = {
        protocol_info(task).domain
        for task in tasks
        if roots.folder(task, load_task(task).settings.data.dataset) is not None
    }
    return sorted(found & {"detection", "segmentation"})


def _run(
    cells: "list[MatrixCell]", known: Sequence["Record"], reporter: StderrReporter
) -> tuple["list[MatrixCell]", Sequence["Failure"]]:
    """Show what is to be run, and run it: the cells as they are then, and what failed.

    Raises:
        ConfigError: bad input, before anything is run.
        RunInterruptedError: Ctrl-C.
    """
    from vicregl_bench.batch.matrix import require_runnable
    from vicregl_bench.batch.reproduce import run_missing

    require_runnable(cells)
    _show(cells, known, on_stdout=False)
    done = run_missing(cells, known, lambda text: _say(reporter, text))
    return list(done.cells), done.failures


def _table_number(text: str) -> str:
    """Number of a table, from `table1`, `table 1` or `1`."""
    found = re.fullmatch(r"(?:table)?[ _-]?0*([1-9][0-9]*)", text.strip().lower())
    if found is None:
        raise ConfigError(f"no table {text!r}: table1 to table10 of VICRegL")
    return found[1]


def _task_names(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _measured(out: Path, others: Sequence[Path], warn: Callable[[str], None]) -> list["Record"]:
    """The records that times are estimated from.

    Raises:
        RecordError: no folder at one of `others`.
    """
    from vicregl_bench.records import read_records

    folders = [*([out] if out.is_dir() else []), *others]
    return [record for folder in folders for record in read_records(folder, warn)]


def _say(reporter: StderrReporter, text: str) -> None:
    reporter.console.print(text, soft_wrap=True)


def _show(cells: Sequence["MatrixCell"], known: Sequence["Record"], *, on_stdout: bool) -> None:
    """The matrix for people, and what is left in all."""
    from collections import Counter

    from vicregl_bench.batch.estimate import duration, estimate, total, total_text
    from vicregl_bench.batch.matrix import TO_RUN

    rows = []
    estimates = [estimate(cell, known) for cell in cells]
    for cell, left in zip(cells, estimates, strict=True):
        state: str = cell.state
        if cell.state == "interrupted" and cell.done is not None:
            state = f"interrupted, {cell.done[0]} of {cell.done[1]}"
        to_run = cell.state in TO_RUN
        time = "unknown" if left.seconds is None else duration(left.seconds)
        score = _score(cell)
        rows.append(
            [
                cell.task,
                cell.entry.name,
                state,
                time if to_run else "–",
                left.basis if to_run else cell.reason or score,
            ]
        )
    counts = Counter(cell.state for cell in cells)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    words = total_text(total(estimates))
    runs = "1 run" if len(cells) == 1 else f"{len(cells)} runs"
    summary = f"{runs}: {counted}" + (f"; left: {words}" if words else "")
    columns = ["task", "checkpoint", "state", "left", "score, estimated from, or why"]
    with contextlib.nullcontext() if on_stdout else contextlib.redirect_stdout(sys.stderr):
        print_rows(columns, rows)
        print_text(summary)


def _score(cell: "MatrixCell") -> str:
    from vicregl_bench.records.metrics import metric_title
    from vicregl_bench.tables.frames import score_text

    record = cell.record
    if record is None or record.best is None:
        return ""
    return f"{metric_title(record.task.metric)} {score_text(record.best, 1)}"


def _show_failures(failures: Sequence["Failure"]) -> None:
    rows = [[one.cell.task, one.cell.entry.name, one.words] for one in failures]
    with contextlib.redirect_stdout(sys.stderr):
        print_rows(["failed", "checkpoint", "last words"], rows)


def _plain(cell: "MatrixCell", known: Sequence["Record"]) -> dict[str, Any]:
    """A cell for programs."""
    from vicregl_bench.batch.estimate import estimate

    left = estimate(cell, known)
    best = None if cell.record is None else cell.record.best
    return {
        "task": cell.task,
        "checkpoint": cell.entry.name,
        "state": cell.state,
        "reason": cell.reason,
        "done": None if cell.done is None else list(cell.done),
        "seconds_left": left.seconds,
        "estimated_from": left.basis,
        "score": None if best is None else best.score,
        "record": None if cell.path is None else str(cell.path),
        "command": None if cell.job is None else cell.job.command(),
    }


def _rendered(
    number: str, out: Path, zoo: "Zoo", warn: Callable[[str], None]
) -> dict[TableFormat, str]:
    """The table in every format: published, and measured where there is a record of any task."""
    from vicregl_bench.batch.matrix import table_tasks
    from vicregl_bench.records.collection import collect
    from vicregl_bench.tables.paper_output import paper_csv, paper_grid
    from vicregl_bench.tables.paper_table import paper_table
    from vicregl_bench.tables.rendering import render
    from vicregl_bench.tasks.protocol import protocol_info

    entries: Sequence[Entry] = ()
    if out.is_dir() and any(out.glob("*.json")):
        try:
            entries = collect([out], warn).entries
        except RecordError as error:  # none of them can be read: what failed is told all the same
            warn(str(error))
    table = paper_table(
        number,
        entries,
        naming=zoo.named,
        versions={task: protocol_info(task).version for task in table_tasks(number)},
    )
    grid = paper_grid(table)
    return {
        form: paper_csv(table) if form is TableFormat.csv else render(grid, form.value)
        for form in TableFormat
    }


def _write(
    texts: dict[TableFormat, str], folder: Path, number: str, reporter: StderrReporter
) -> None:
    from vicregl_bench.records.store import write_file

    for form, text in texts.items():
        path = folder / f"table{number}.{_ENDINGS[form]}"
        write_file(path, f"{text}\n".encode())
        _say(reporter, f"table: {path}")


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Say how to go on after a Ctrl-C outside of a run, too.

    Raises:
        RunInterruptedError: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; run the same command again to go on") from None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(_resumable()(reproduce))
