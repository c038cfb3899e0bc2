"""A printed table of VICRegL with what was measured beside it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.collection import Entry
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import Record
from vicregl_bench.tables.facts import Facts, Identity, identity, not_comparable, weights_facts
from vicregl_bench.tables.frames import spread_text
from vicregl_bench.tables.layout import (
    MISSING,
    Layout,
    PrintedColumn,
    PrintedNumber,
    PrintedRow,
    find_row,
    layout,
)
from vicregl_bench.tables.named import Naming
from vicregl_bench.tables.published import published

Show = Literal["published", "measured", "both"]
MEASURED_HERE = "Measured here"

_ORDER = (
    "Of several records for one cell, that of profile paper and without deviations comes first; "
    "others stand in rows of their own"
)


@dataclass(frozen=True)
class MeasuredCell:
    """A record in a cell.

    Attributes:
        entry: the record and its file.
        status: "complete", "diverged" or "interrupted".
        score: in percent, mean over seeds at the best point; None where there is none.
        std: population standard deviation over these seeds.
        seeds: how many.
        interval: 95 % bootstrap over val pictures, of a task's main score alone.
        reasons: why it is not comparable with the printed number.
        notes: what else a reader has to know.
    """

    entry: Entry
    status: Literal["complete", "diverged", "interrupted"]
    score: float | None = None
    std: float | None = None
    seeds: int = 0
    interval: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class PaperCell:
    """What stands in a cell: the printed number, the measured one, both or nothing."""

    printed: PrintedNumber | None = None
    measured: MeasuredCell | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points; None unless both are there."""
        if self.printed is None or self.measured is None or self.measured.score is None:
            return None
        return self.measured.score - self.printed.value


@dataclass(frozen=True)
class PaperRow:
    """A row: printed, or of weights that belong to no printed one.

    Attributes:
        name: of a printed row its unique name.
        group: heading above it.
        lead: text of the columns before the results.
        method: of the printed row, or from the card.
        backbone: in the papers' spelling.
        epochs: of pretraining.
        remark: of the printed row; of weights that belong to none, that their backbone is none of
            the table's.
        cells: by name of column.
        measured: whose numbers are measured in a printed row: name, method and backbone, or "".
    """

    name: str
    group: str
    lead: Mapping[str, str]
    method: str
    backbone: str
    epochs: int | None
    remark: str
    cells: Mapping[str, PaperCell]
    measured: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A printed table and what was measured, in the printed order.

    Attributes:
        show: which numbers; of a table that no task measures always "published".
        rows: where measured numbers alone are shown, those that have one.
        remarks: what was left out or put elsewhere, and why.
    """

    layout: Layout
    show: Show
    rows: tuple[PaperRow, ...]
    remarks: tuple[str, ...]


def belonging(number: str, entries: Iterable[Entry]) -> list[Entry]:
    """The entries whose task is that of a column of a table.

    Raises:
        ConfigError: no such table.
    """
    protocols = {column.protocol for column in layout(number).columns} - {""}
    return [entry for entry in entries if entry.record.task.name in protocols]


def paper_table(
    number: str,
    entries: Sequence[Entry] = (),
    *,
    naming: Naming | None = None,
    show: Show = "both",
    versions: Mapping[str, int] | None = None,
) -> PaperTable:
    """Put records into the paper's layout.

    Weights go into the printed row that the user names for them, or else into the one whose method,
    backbone, alpha and epochs they have, as far as the row has these; what is unknown is not
    guessed, and rows of ablations are for the user to name. All others stand below, under
    "Measured here". A column takes records of its own task alone (`voc_linear_released` is another
    than `voc_linear`), and of its newest version.

    Args:
        number: "1" to "11".
        entries: records with their files.
        naming: what the user says of weights.
        show: which numbers.
        versions: task -> version that is installed; where records have a newer one, theirs counts.

    Raises:
        ConfigError: no such table, a row that no table has, or nothing measured where that alone is
            to be shown.
    """
    table = layout(number)
    measurable = any(column.protocol for column in table.columns)
    if show == "published" or (show == "both" and not measurable):
        rows = [_printed_row(row, {}) for row in table.rows]
        remarks = list(_naming_remark(table) if show == "published" else ())
        remarks += [] if show == "published" else _left_out(table, (), ())
        return PaperTable(table, "published", tuple(rows), tuple(remarks))
    fitting = belonging(number, entries)
    if show == "measured" and not fitting:
        tasks = ", ".join(dict.fromkeys(c.protocol for c in table.columns if c.protocol))
        why = f"no record of {tasks}" if tasks else "no task measures time and memory"
        raise ConfigError(
            f"nothing measured for table {number}: {why}; --published shows the paper's numbers"
        )
    newest, old = _newest(fitting, versions or {})
    facts = weights_facts([entry.record for entry in newest], naming)
    taken, below, remarks = _assign(table, newest, facts)
    rows = []
    for row in table.rows:
        owner = taken.get(row.name)
        cells = _turns(table, newest, owner)[0] if owner is not None else {}
        about = facts[owner] if owner is not None else None
        rows.append(_printed_row(row, _measure(cells, table, row, about), about))
    crowded = []
    here = [(owner, 0) for owner in below] + [(owner, 1) for owner in taken.values()]
    for owner, first in sorted(here, key=lambda one: (facts[one[0]].name, one)):
        for turn, cells in enumerate(_turns(table, newest, owner)):
            if turn >= first:
                rows.append(_own_row(table, facts[owner], cells, turn))
            if turn > 0:
                crowded += [f"{facts[owner].name}, {name}" for name in cells]
    if crowded:
        remarks.append(f"{_ORDER} ({'; '.join(dict.fromkeys(crowded))}).")
    remarks += _left_out(table, entries, old)
    if show == "measured":
        rows = [row for row in rows if any(cell.measured for cell in row.cells.values())]
    return PaperTable(table, show, tuple(rows), tuple(remarks))


def _naming_remark(table: Layout) -> tuple[str, ...]:
    example = table.rows[-1]
    if example.name == example.lead.get("Method"):
        return ()
    names = "; ".join(row.name for row in table.rows)
    return (f"Names of the rows, for a zoo's `row`: {names}.",)


def _newest(
    entries: Sequence[Entry], versions: Mapping[str, int]
) -> tuple[list[Entry], list[tuple[Entry, int]]]:
    """The entries of the newest version of each task, and the others with that version."""
    newest = dict(versions)
    for entry in entries:
        task = entry.record.task
        newest[task.name] = max(task.version, newest.get(task.name, 0))
    kept, old = [], []
    for entry in entries:
        version = newest[entry.record.task.name]
        if entry.record.task.version == version:
            kept.append(entry)
        else:
            old.append((entry, version))
    return kept, old


def _rank(record: Record) -> tuple[bool, bool, bool, bool]:
    """The less, the better a record stands for its weights."""
    return (
        record.status == "interrupted",
        record.task.profile != "paper",
        bool(record.deviations),
        record.best is None,
    )


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Records of some weights and task, the one that stands for them first.

    Finished before interrupted, profile paper before others, without deviations before with them,
    with a score before diverged, newest before older.
    """
    newest = sorted(entries, key=lambda e: (e.record.created, str(e.path)), reverse=True)
    return sorted(newest, key=lambda entry: _rank(entry.record))


def _assign(
    table: Layout, entries: Sequence[Entry], facts: Mapping[Identity, Facts]
) -> tuple[dict[str, Identity], list[Identity], list[str]]:
    """Whose printed row is whose, who has none, and what is to be said of that."""
    owners: dict[str, list[Identity]] = {}
    below, remarks = [], []
    for key, about in facts.items():
        row = _row_of(table, about)
        if row is None:
            below.append(key)
            if about.row is not None:
                remarks.append(f"{about.name}: its row {about.row!r} is of another table.")
        else:
            owners.setdefault(row.name, []).append(key)

    def standing(key: Identity) -> tuple[Any, ...]:
        records = [entry.record for entry in entries if identity(entry.record) == key]
        tasks = {record.task.name for record in records}
        return min(map(_rank, records)), -len(tasks), facts[key].name

    taken = {}
    for name, keys in owners.items():
        first, *others = sorted(keys, key=standing)
        taken[name] = first
        below += others
        if others:
            more = ", ".join(facts[key].name for key in others)
            remarks.append(f"Row {name!r} shows {facts[first].name}; also for it, below: {more}.")
    return taken, below, remarks


def _row_of(table: Layout, about: Facts) -> PrintedRow | None:
    if about.row is not None:
        return find_row(table, about.row)
    fitting = [row for row in table.rows if _fits(row, about)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(row: PrintedRow, about: Facts) -> bool:
    """Whether all is known and equal that the row says of its weights."""
    if row.setting or row.method.casefold() != about.title.casefold():
        return False
    if row.backbone != about.backbone or (row.epochs is not None and row.epochs != about.epochs):
        return False
    if row.alpha is None:  # VICRegL without alpha is a row of an ablation
        return row.method != "VICRegL" and about.alpha in (None, 1.0)
    return about.alpha is not None and math.isclose(row.alpha, about.alpha)


def _turns(table: Layout, entries: Sequence[Entry], owner: Identity) -> list[dict[str, Entry]]:
    """Column -> entry of some weights, the best of each column first; at least one turn."""
    turns: list[dict[str, Entry]] = [{}]
    for column in table.columns:
        same = [
            entry
            for entry in entries
            if entry.record.task.name == column.protocol and identity(entry.record) == owner
        ]
        for turn, entry in enumerate(ranked(same)):
            if turn == len(turns):
                turns.append({})
            turns[turn][column.name] = entry
    return turns


def _measure(
    cells: Mapping[str, Entry], table: Layout, row: PrintedRow | None, about: Facts | None
) -> dict[str, MeasuredCell]:
    columns = {column.name: column for column in table.columns}
    unlike = _unlike(row, about) if row is not None and about is not None else ()
    return {name: _measured(entry, columns[name], unlike) for name, entry in cells.items()}


def _unlike(row: PrintedRow, about: Facts) -> tuple[str, ...]:
    """In what weights are not those of the printed row they stand in."""
    words = ["random weights"] if about.random else []
    if _other_method(row, about):
        words.append(f"the method is {about.title}, the printed row's {row.method}")
    if about.backbone != row.backbone:
        words.append(f"the backbone is {about.backbone}, the printed row's {row.backbone}")
    if None not in (row.alpha, about.alpha) and row.alpha != about.alpha:
        words.append(f"alpha is {about.alpha:g}, the printed row's {row.alpha:g}")
    if None not in (row.epochs, about.epochs) and row.epochs != about.epochs:
        words.append(f"pretrained for {about.epochs} epochs, the printed row {row.epochs}")
    return tuple(words)


def _other_method(row: PrintedRow, about: Facts) -> bool:
    """Whether the card's title is of another method.

    A title that no paper prints, such as that of a format or of one's own method, says nothing.
    """
    title = about.title.split(" (")[0].casefold()  # Supervised (torchvision names)
    if title == "vicregl" and about.alpha == 1:
        title = "vicreg"
    return title in _printed_methods() - {row.method.casefold()}


@cache
def _printed_methods() -> frozenset[str]:
    return frozenset(published()["method"].str.casefold())


def _measured(entry: Entry, column: PrintedColumn, unlike: tuple[str, ...]) -> MeasuredCell:
    record = entry.record
    task, best = record.task, record.best
    found = (*not_comparable(record), *unlike)
    if record.status == "interrupted":
        return MeasuredCell(entry, "interrupted", reasons=found, notes=entry.marks)
    if best is None:
        return MeasuredCell(entry, "diverged", reasons=found, notes=entry.marks)
    if column.metric == task.metric:
        return MeasuredCell(
            entry, "complete", best.score, best.std, best.seeds, best.interval, found, entry.marks
        )
    score = best.scores.get(column.metric)
    if score is None:
        found = (*found, f"the record has no {metric_title(column.metric)}")
    std = _spread(record, column.metric)
    return MeasuredCell(entry, "complete", score, std, best.seeds, None, found, entry.marks)


def _spread(record: Record, metric: str) -> float | None:
    """Population standard deviation over the seeds of the best point."""
    best = record.best
    if best is None:
        return None
    point = (best.lr, best.options)
    scores = [one.scores.get(metric) for one in record.results if (one.lr, one.options) == point]
    known = [score for score in scores if score is not None]
    return float(np.std(known)) if known else None


def _printed_row(
    row: PrintedRow, measured: Mapping[str, MeasuredCell], about: Facts | None = None
) -> PaperRow:
    names = dict.fromkeys([*row.numbers, *measured])
    return PaperRow(
        name=row.name,
        group=row.group,
        lead=row.lead,
        method=row.method,
        backbone=row.backbone,
        epochs=row.epochs,
        remark=row.remark,
        cells={name: PaperCell(row.numbers.get(name), measured.get(name)) for name in names},
        measured=_who(about) if about is not None and measured else "",
    )


def _who(about: Facts) -> str:
    """Name, and what it does not say of method and backbone."""
    title = "random weights" if about.random else about.title
    return f"{about.name} ({', '.join(dict.fromkeys([title, about.backbone]))})"


def _own_row(table: Layout, about: Facts, cells: Mapping[str, Entry], turn: int) -> PaperRow:
    name = f"{about.name}, run {turn + 1}" if turn else about.name
    whole = {
        "Backbone": about.backbone,
        "Epochs": MISSING if about.epochs is None else str(about.epochs),
    }
    kind = [about.title] if about.title != about.name else []
    kind += [] if "Backbone" in table.leads else [about.backbone]
    lead = {title: whole.get(title, MISSING) for title in table.leads}
    lead[table.leads[0]] = f"{name} ({', '.join(kind)})" if kind else name
    measured = _measure(cells, table, None, None)
    backbones = list(dict.fromkeys(row.backbone for row in table.rows))
    other = about.backbone not in backbones
    return PaperRow(
        name=name,
        group=MEASURED_HERE,
        lead=lead,
        method=about.title,
        backbone=about.backbone,
        epochs=about.epochs,
        remark=f"another backbone than the table's: {', '.join(backbones)}" if other else "",
        cells={column: PaperCell(None, one) for column, one in measured.items()},
    )


def _left_out(
    table: Layout, entries: Sequence[Entry], old: Sequence[tuple[Entry, int]]
) -> list[str]:
    """What records of this table are not in it."""
    remarks = []
    if all(not column.protocol for column in table.columns):
        remarks.append(f"Table {table.number} is published only: no task measures its numbers.")
    if old:
        names = [
            f"{entry.record.task.name} v{entry.record.task.version} of "
            f"{entry.record.checkpoint.name} (the column is of v{version})"
            for entry, version in old
        ]
        remarks.append(f"Not shown, of another protocol version: {'; '.join(names)}.")
    columns = {column.protocol for column in table.columns}
    counts: dict[str, int] = {}
    for entry in entries:
        task = entry.record.task
        if table.number in task.tables and task.name not in columns:
            counts[task.name] = counts.get(task.name, 0) + 1
    if counts:
        words = ", ".join(f"{name} ({count})" for name, count in counts.items())
        remarks.append(
            f"Not shown, as no column is of their protocol: {words}; "
            "`vicregl-bench leaderboard` has them."
        )
    return remarks
