"""What the commands print on stdout."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

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
    table = Table(*columns, show_edge=False)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 140
    Console(highlight=False, width=width, markup=False).print(table)


def _number(value: Any) -> str:
    return "–" if value != value else f"{value:.2f}"


def print_record(record: Record) -> None:
    """Print a record for people: what was run, the learning-rate curve, the best."""
    from vicregl_bench.tables.frames import learning_rate_curve, options_text, score_text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    task, checkpoint, data = record.task, record.checkpoint, record.data
    preset = f", preset {task.preset}" if task.preset else ""
    console.print(
        f"[bold]{task.title}[/bold]  {task.name} v{task.version}, profile {task.profile}{preset}"
    )
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
        console.print(f"[yellow]interrupted[/yellow] after {done.iterations} of {done.of}")
    metric = metric_title(task.metric)
    if record.results:
        curve = learning_rate_curve(record)
        top = curve["score"].max()
        more = [name for name in curve if name == "holdout" or name in TITLES]
        options = ["grid"] if curve["options"].any() else []
        heads = [
            f"holdout {metric}" if name == "holdout" else metric_title(str(name)) for name in more
        ]
        table = Table("learning rate", *options, metric, "± seeds", *heads, "", show_edge=False)
        for row in curve.to_dict("records"):
            score = row["score"]
            bar = "" if score != score or not top else "█" * round(_BAR_WIDTH * score / top)
            point = (row["lr"], row["options"])
            best = record.best is not None and point == (
                record.best.lr,
                options_text(record.best),
            )
            lost = f" {row['diverged']} diverged" if row["diverged"] else ""
            table.add_row(
                f"{row['lr']:g}",
                *(row["options"] for _ in options),
                *(_number(row[name]) for name in ("score", "std", *more)),
                bar + (" best" if best else "") + lost,
                style="bold" if best else None,
            )
        console.print(table)
    if record.best is not None:
        best_, (low, high) = record.best, record.best.interval
        varied = f", {options_text(best_)}" if best_.options else ""
        console.print(
            f"[bold]best {metric} {score_text(best_, 2)}[/bold] at lr {best_.lr:g}{varied} "
            f"({best_.seeds} seed{'s' if best_.seeds > 1 else ''}, chosen on {task.select}); "
            f"95 % over pictures {low:.1f} to {high:.1f}"
        )
    for deviation in record.deviations:
        console.print(f"deviation: {deviation}", markup=False)
    for note in checkpoint.notes:
        console.print(f"note: {note}", markup=False)
