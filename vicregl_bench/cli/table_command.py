"""`vicregl-bench table` and `figure`: the paper's, with what was measured."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicregl_bench.cli.choices import TableFormat
from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.cli.records_options import (
    RUNS,
    Folders,
    ZooFile,
    read_zoo_names,
    require_one_form,
    warn_of_strangers,
)
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from vicregl_bench.records.collection import Entry
    from vicregl_bench.tables.paper_table import Show

Warn = Callable[[str], None]


def table(
    number: Annotated[
        str | None, typer.Argument(help="Of a table of the VICRegL paper, 1 to 11.")
    ] = None,
    records: Folders = None,
    published: Annotated[bool, typer.Option("--published", help="The paper's numbers.")] = False,
    measured: Annotated[bool, typer.Option("--measured", help="The records' numbers.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Both, and their difference.")] = False,
    zoo: ZooFile = None,
    form: Annotated[TableFormat, typer.Option("--format")] = TableFormat.markdown,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show a table of the VICRegL paper, with what was measured beside the printed numbers.

    Without --published, --measured or --both: both where a record belongs to the table, else the
    paper's. CSV and JSON have one row a cell and plain numbers, for programs.
    """
    if number is None:
        raise ConfigError(
            "table takes the number of a table of the VICRegL paper, 1 to 11, such as "
            "`vicregl-bench table 1`; `vicregl-bench leaderboard` shows all records"
        )
    from vicregl_bench.tables.layout import layout
    from vicregl_bench.tables.paper_output import paper_csv, paper_grid, paper_rows
    from vicregl_bench.tables.paper_table import belonging, paper_table
    from vicregl_bench.tables.rendering import render

    warn = StderrReporter().warn
    printed = layout(number)
    show = _show(published, measured, both)
    if show == "published" and records:
        warn("--records is not read: --published shows the paper's numbers alone")
    require_one_form(as_json, form)
    named = read_zoo_names(zoo, rows_of=number)
    measurable = any(column.protocol for column in printed.columns)
    entries = [] if show == "published" or not measurable else _entries(records, warn)
    if show != "published" and measurable:
        warn_of_strangers(named, entries, warn)
    if records and not measurable:
        _require_folders(records)
    if show is None:
        show = "both" if belonging(number, entries) else "published"
        if show == "published" and records:
            tasks = ", ".join(dict.fromkeys(c.protocol for c in printed.columns if c.protocol))
            warn(f"no record belongs to table {number} ({tasks or 'no task does'}): the paper's")
    versions = {} if show == "published" else _versions(c.protocol for c in printed.columns)
    naming = None if named is None else named.named
    shown = paper_table(number, entries, naming=naming, show=show, versions=versions)
    if as_json or form is TableFormat.csv:
        for remark in shown.remarks if show != "published" else ():
            warn(remark)
    if as_json:
        print_json(paper_rows(shown))
    elif form is TableFormat.csv:
        print_text(paper_csv(shown))
    else:
        print_text(render(paper_grid(shown), form.value))


def figure(
    number: Annotated[str, typer.Argument(help="Of a figure of the VICRegL paper: 2.")],
    out: Annotated[Path, typer.Option(help="File to draw: .png, .svg or .pdf.")],
    records: Folders = None,
    zoo: ZooFile = None,
    x: Annotated[str, typer.Option("--x", help="Task of the horizontal axis.")] = "imagenet_linear",
    y: Annotated[str, typer.Option("--y", help="Task of the vertical axis.")] = "voc_linear",
) -> None:
    """Draw classification against segmentation over the weight alpha (figure 2)."""
    if number != "2":
        raise ConfigError(f"no figure {number!r}: figure 2 alone is drawn of records")
    from vicregl_bench.tables.tradeoff import FORMATS, draw_tradeoff, tradeoff

    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out: figure 2 is drawn as {', '.join(FORMATS)}, not {out.name!r}")
    warn = StderrReporter().warn
    _versions([x, y])  # a task's name is wrong: say so
    named = read_zoo_names(zoo, rows_of="1")
    entries = _entries(records, warn)
    warn_of_strangers(named, entries, warn)
    found = tradeoff(entries, naming=None if named is None else named.named, x=x, y=y)
    draw_tradeoff(found, out)
    for remark in found.remarks:
        warn(remark)
    print_text(str(out))


def _show(published: bool, measured: bool, both: bool) -> "Show | None":
    chosen: dict[Show, bool] = {"published": published, "measured": measured, "both": both}
    given = [name for name, is_given in chosen.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"choose one of {', '.join(f'--{name}' for name in given)}")
    return given[0] if given else None


def _entries(folders: Sequence[Path] | None, warn: Warn) -> "Sequence[Entry]":
    """The records of the folders given, or of `runs` where that is there and has any."""
    from vicregl_bench.records.collection import collect

    if folders:
        if not any(list(folder.glob("*.json")) for folder in folders if folder.is_dir()):
            _require_folders(folders)
            return []
        return collect(folders, warn).entries
    if not any(RUNS.glob("*.json")):
        return []
    try:
        return collect([RUNS], warn).entries
    except RecordError as error:  # nobody asked for this folder
        warn(str(error))
        return []


def _require_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--records: no folder {folder}; `vicregl-bench run` makes records")


def _versions(tasks: Iterable[str]) -> dict[str, int]:
    """Task -> version that is installed."""
    from vicregl_bench.tasks.protocol import protocol_info

    return {task: protocol_info(task).version for task in dict.fromkeys(tasks) if task}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(table)
    app.command()(figure)
