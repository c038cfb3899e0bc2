"""What a record says in a cell of a printed table."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vicregl_bench.records.collection import Entry
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import Record
from vicregl_bench.tables.facts import not_comparable
from vicregl_bench.tables.frames import spread_text
from vicregl_bench.tables.layout import MISSING, PrintedColumn
from vicregl_bench.tables.standing import other_preset


@dataclass(frozen=True)
class MeasuredCell:
    """A record in a cell.

    Attributes:
        entry: the record and its file.
        score: in percent, mean over seeds at the best point; None where there is none.
        std: population standard deviation over these seeds.
        seeds: how many.
        interval: 95 % bootstrap over val pictures, of a task's main score alone.
        reasons: why it is not comparable with the printed number.
        notes: what else a reader has to know.
    """

    entry: Entry
    score: float | None = None
    std: float | None = None
    seeds: int = 0
    interval: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Literal["complete", "diverged", "interrupted"]:
        """Of the record."""
        return self.entry.record.status

    @property
    def text(self) -> str:
        """As tables show it."""
        progress = self.entry.record.progress
        if self.status == "interrupted":
            return f"interrupted ({progress.iterations} of {progress.of})"
        if self.status == "diverged":
            return "diverged"
        if self.score is None:
            return MISSING
        return spread_text(self.score, self.std if self.seeds > 1 else None, 1)


def measured_cell(
    entry: Entry,
    column: PrintedColumn,
    unlike: tuple[str, ...] = (),
    presets: Collection[str] = (),
) -> MeasuredCell:
    """Put a record into a column.

    Args:
        entry: a record of the column's task.
        column: whose metric is shown.
        unlike: in what the weights differ from those of the printed row.
        presets: that records of the column have.
    """
    record = entry.record
    reasons = (*not_comparable(record), *unlike, *entry.marks)
    notes = _about_preset(record, presets)
    best = record.best
    if record.status != "complete" or best is None:
        return MeasuredCell(entry, reasons=reasons, notes=notes)
    if column.metric == record.task.metric:
        return MeasuredCell(entry, best.score, best.std, best.seeds, best.interval, reasons, notes)
    score = best.scores.get(column.metric)
    if score is None:
        reasons = (*reasons, f"the record has no {metric_title(column.metric)}")
    std = _spread(record, column.metric)
    return MeasuredCell(entry, score, std, best.seeds, None, reasons, notes)


def _about_preset(record: Record, presets: Collection[str]) -> tuple[str, ...]:
    """The preset, where records of the column have several or it is not the card's."""
    preset, own = record.task.preset, other_preset(record)
    if preset is None or (own is None and len(presets) < 2):
        return ()
    return (f"preset {preset}" + ("" if own is None else f" (the checkpoint's card has {own})"),)


def _spread(record: Record, metric: str) -> float | None:
    """Population standard deviation over the seeds of the best point."""
    best = record.best
    if best is None:
        return None
    point = (best.lr, best.options)
    scores = [one.scores.get(metric) for one in record.results if (one.lr, one.options) == point]
    known = [score for score in scores if score is not None]
    return float(np.std(known)) if known else None
