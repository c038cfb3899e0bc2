"""What the commands print on stdout."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from vicregl_bench.records.metrics import TITLES, metric_title
from vicregl_bench.records.schema import Record

_BAR_WIDTH = 30


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Print text as it is: no markup, no wrapping."""
    sys.stdout.write(text + "\n")


def print_rows(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table for people."""
    # what is too long goes on in the next line: names are there to be copied
    table = Table(*(Column(name, overflow="fold") for name in columns), show_edge=False)
    for row in rows:
        table.add_row(*row)
    _console(140).print(table)


def _console(width: int) -> Console:
    """Of stdout, as wide where it is no terminal; names are printed as they are, brackets too."""
    chosen = None if sys.stdout.isatty() else width
    return Console(highlight=False, width=chosen, markup=False, emoji=False)


def _number(value: Any) -> str:
    return "–" if value != value else f"{value:.2f}"


def print_record(record: Record) -> None:
    """Print a record for people: what was run, the learning-rate curve, the best."""
    from vicregl_bench.tables.frames import learning_rate_curve, point_text, score_text

    console = _console(100)
    task, checkpoint, data = record.task, record.checkpoint, record.data
    preset = f", preset {task.preset}" if task.preset else ""
    what = f"  {task.name} v{task.version}, profile {task.profile}{preset}"
    console.print(Text.assemble((task.title, "bold"), what))
    console.print(
        f"{checkpoint.name}: {checkpoint.method}, {checkpoint.arch}, "
        f"weights {checkpoint.weights_sha256[:12]}"
    )
    console.print(
        f"{data.variant}: {data.train} train, {data.val} val; {record.environment.precision}, "
        f"{record.cost.wall_s:.0f} s, peak {record.cost.peak_memory_mib:.0f} MiB"
    )
    if record.status == "interrupted":
        done = record.progress
        so_far = f" after {done.iterations} of {done.of}"
        console.print(Text.assemble(("interrupted", "yellow"), so_far))
    metric = metric_title(task.metric)
    if record.results:
        curve = learning_rate_curve(record)
        top = curve["score"].max()
        more = [name for name in curve if name == "holdout" or name in TITLES]
        rates = ["learning rate"] if curve["lr"].notna().any() else []
        options = ["grid"] if curve["options"].any() else []
        spread = ["± seeds"] if len(record.results) > len(curve) else []
        heads = [
            f"holdout {metric}" if name == "holdout" else metric_title(str(name)) for name in more
        ]
        table = Table(*rates, *options, metric, *spread, *heads, "", show_edge=False)
        for row in curve.to_dict("records"):
            score = row["score"]
            bar = "" if score != score or not top else "█" * round(_BAR_WIDTH * score / top)
            best = record.best is not None and row["point"] == point_text(record.best)
            lost = f" {row['diverged']} diverged" if row["diverged"] else ""
            table.add_row(
                *(f"{row['lr']:g}" for _ in rates),
                *(row["options"] for _ in options),
                *(_number(row[name]) for name in ("score", *(["std"] if spread else []), *more)),
                bar + (" best" if best else "") + lost,
                style="bold" if best else None,
            )
        console.print(table)
    if record.best is not None:
        best_, (low, high) = record.best, record.best.interval
        point = point_text(best_)
        # a grid of one point leaves nothing to choose
        alone = task.select == "val" and len({point_text(one) for one in record.results}) == 1
        chosen = "" if alone else f", chosen on {task.select}"
        where = (
            f"{f' at {point}' if point else ''} "
            f"({best_.seeds} seed{'s' if best_.seeds > 1 else ''}{chosen}); "
            f"95 % over pictures {low:.1f} to {high:.1f}"
        )
        console.print(Text.assemble((f"best {metric} {score_text(best_, 2)}", "bold"), where))
    for deviation in record.deviations:
        console.print(f"deviation: {deviation}")
    for result in record.results:
        for note in result.notes:
            console.print(f"note: {point_text(result)}: {note}")
    for note in checkpoint.notes:
        console.print(f"note: {note}")
