"""`vicregl-bench page`: records as one static HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from vicregl_bench.cli.output import print_text
from vicregl_bench.cli.reporter import StderrReporter


def page(
    records: Annotated[
        list[Path] | None,
        typer.Option(
            "--records", help="Folder of records (default: runs); may be given several times."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of index.html; the page needs nothing else.")
    ] = Path("site"),
    zoo: Annotated[
        Path | None,
        typer.Option(help="zoo.yaml: what checkpoints are called, and their alpha."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "vicregl-bench records",
) -> None:
    """Make a page of records that opens in a browser, from the file system and without network.

    A leaderboard and every record, sorted and filtered; the trade-off over alpha, learning-rate
    curves, classes of two records.
    """
    from vicregl_bench.page import build_page, page_contents
    from vicregl_bench.records.collection import collect

    naming = None
    if zoo is not None:
        from vicregl_bench.batch.zoo import read_zoo

        naming = read_zoo(zoo).named
    collection = collect(records or [Path("runs")], StderrReporter().warn)
    print_text(str(build_page(page_contents(collection.entries, naming), out, title)))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(page)
