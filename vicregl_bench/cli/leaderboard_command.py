"""`vicregl-bench leaderboard`: checkpoints by protocols, ranked."""

from typing import Annotated

import typer

from vicregl_bench.cli.choices import TableFormat
from vicregl_bench.cli.output import print_text
from vicregl_bench.cli.records_options import (
    RUNS,
    Folders,
    ZooFile,
    read_zoo_names,
    require_one_form,
    warn_of_strangers,
)
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import ConfigError


def leaderboard(
    records: Folders = None,
    task: Annotated[str | None, typer.Option(help="Only these tasks: A,B.")] = None,
    method: Annotated[str | None, typer.Option(help="Only checkpoints of these methods.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Only these architectures.")] = None,
    profile: Annotated[str | None, typer.Option(help="Only these profiles: paper, ci.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only these versions: voc_linear-v1,voc_linear-v2.")
    ] = None,
    zoo: ZooFile = None,
    sort: Annotated[
        str,
        typer.Option(help="mean rank, checkpoint, method, backbone, a column's title or a task."),
    ] = "mean rank",
    form: Annotated[TableFormat, typer.Option("--format")] = TableFormat.markdown,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Rank checkpoints in every protocol, and over all of them.

    A column is one version of a protocol, one profile and preset, one way of choosing and one set
    of pictures. Ranks are among the rows shown. CSV and JSON have one row a record and plain
    numbers, for programs.
    """
    from vicregl_bench.records.collection import collect
    from vicregl_bench.tables import leaderboard as boards
    from vicregl_bench.tables.filters import Filter
    from vicregl_bench.tables.rendering import render

    chosen = Filter(
        tasks=_names("--task", task),
        methods=_names("--method", method),
        backbones=_names("--backbone", backbone),
        profiles=_names("--profile", profile),
        protocols=_names("--protocol", protocol),
    )
    require_one_form(as_json, form)
    warn = StderrReporter().warn
    named = read_zoo_names(zoo)
    collected = collect(records or [RUNS], warn).entries
    warn_of_strangers(named, collected, warn)
    entries = chosen.keep(collected)
    board = boards.leaderboard(entries, naming=None if named is None else named.named, sort=sort)
    if board.interrupted:
        runs = (
            "1 interrupted run is"
            if board.interrupted == 1
            else (f"{board.interrupted} interrupted runs are")
        )
        warn(f"{runs} left out; the same `vicregl-bench run` resumes one")
    if as_json:
        rows = boards.measurements(board)
        print_text(str(rows.to_json(orient="records", force_ascii=False, indent=2)))
    elif form is TableFormat.csv:
        print_text(boards.measurements(board).to_csv(index=False).rstrip("\n"))
    else:
        print_text(render(boards.leaderboard_grid(board), form.value))


def _names(option: str, text: str | None) -> tuple[str, ...]:
    """Names separated by commas, each once; none where the option is not given."""
    if text is None:
        return ()
    names = tuple(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    if not names:
        raise ConfigError(f"{option} takes names separated by commas, not {text!r}")
    return names


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(leaderboard)
