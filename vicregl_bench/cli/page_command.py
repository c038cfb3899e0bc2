"""`vicregl-bench page`: records as one static HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from vicregl_bench.cli.output import print_text
from vicregl_bench.cli.records_options import (
    RUNS,
    Folders,
    ZooFile,
    read_zoo_names,
    warn_of_strangers,
)
from vicregl_bench.cli.reporter import StderrReporter


def page(
    records: Folders = None,
    out: Annotated[
        Path, typer.Option(help="Folder of index.html; the page needs nothing else.")
    ] = Path("site"),
    zoo: ZooFile = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "vicregl-bench records",
) -> None:
    """Make a page of records that opens in a browser, from the file system and without network.

    A leaderboard and every record, sorted and filtered; the trade-off over alpha, learning-rate
    curves, classes of two records.
    """
    from vicregl_bench.page import build_page, page_contents
    from vicregl_bench.records.collection import collect

    named = read_zoo_names(zoo)
    warn = StderrReporter().warn
    collection = collect(records or [RUNS], warn)
    warn_of_strangers(named, collection.entries, warn)
    naming = None if named is None else named.named
    print_text(str(build_page(page_contents(collection.entries, naming), out, title)))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(page)
