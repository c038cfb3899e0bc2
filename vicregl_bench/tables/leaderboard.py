"""Checkpoints by protocols: scores, ranks, and what a reader has to know of them."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.collection import Entry
from vicregl_bench.records.schema import Best, Record
from vicregl_bench.tables.columns import Column, beginnings, column, column_titles
from vicregl_bench.tables.filters import near_names
from vicregl_bench.tables.frames import options_text, score_text
from vicregl_bench.tables.named import Named, Naming
from vicregl_bench.tables.rendering import Grid, Part, RowGroup, text_cell

MEAN_RANK = "mean rank"
_TEXTS = ("checkpoint", "method", "backbone")
_MISSING = text_cell("–")


@dataclass(frozen=True)
class Cell:
    """One record in its column.

    Attributes:
        rank: 1 is the best of the column.
        notes: numbers of the leaderboard's notes that are about it, from 1.
    """

    entry: Entry
    rank: int
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One set of weights in one architecture, or a further run of it with other settings.

    Attributes:
        checkpoint: its name, with the beginning of the weights' hash where others are called so.
        turn: 0, or of further runs 1, 2, ...
        cells: by column; columns it is not in are left out.
    """

    checkpoint: str
    method: str
    backbone: str
    weights_sha256: str
    turn: int
    cells: Mapping[Column, Cell]

    @property
    def mean_rank(self) -> float:
        """Over the columns that the row is in."""
        return sum(cell.rank for cell in self.cells.values()) / len(self.cells)


@dataclass(frozen=True)
class Leaderboard:
    """Rows and columns in the order they are shown.

    Attributes:
        titles: column -> its title, unique.
        notes: what the cells' marks mean, the first has number 1.
        interrupted: how many records were left out because they are not finished.
    """

    titles: Mapping[Column, str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    interrupted: int


def leaderboard(
    entries: Sequence[Entry], *, naming: Naming | None = None, sort: str = MEAN_RANK
) -> Leaderboard:
    """Rank checkpoints in every column and over all.

    The rank in a column is one more than the number of rows with a higher score, as it is stored:
    equal scores share the better rank, scores that merely look equal when rounded do not. Diverged
    runs share the last rank. (No protocol chooses by a metric that is the better the lower.)

    The mean rank is over the columns that a row is in: a column that it misses counts neither for
    nor against it, so mean ranks of rows in other columns compare with care, and of a row that is
    alone in its columns it is 1. Of equal mean ranks the row with more columns goes first.

    Several runs of the same weights in one column (other settings) are several rows. In the first
    stands the one with the fewest deviations, then the newest; never the best because it is.

    Args:
        entries: records in their places; interrupted ones are left out.
        naming: what weights are called; None, or where it says nothing: the checkpoint's file.
        sort: `mean rank`, `checkpoint`, `method`, `backbone`, or a column: its title, protocol
            (`voc_linear-v1`) or task, where no other is called so. Rows without it come last.

    Raises:
        ConfigError: no finished record, or no such column to sort by.
    """
    finished = [entry for entry in entries if entry.record.status != "interrupted"]
    if not finished:
        only = f": {len(entries)} interrupted, run them again to resume" if entries else ""
        raise ConfigError(f"no finished record to show{only or '; `vicregl-bench run` makes one'}")
    columns = sorted({column(entry.record) for entry in finished})
    titles = column_titles(columns)
    ranks = _ranks(finished)
    rows = _rows(finished, ranks, naming or (lambda record: None))
    ordered = _sorted(rows, titles, sort)
    numbered, notes = _with_notes(ordered, columns)
    return Leaderboard(titles, tuple(numbered), tuple(notes), len(entries) - len(finished))


def finite_best(record: Record) -> Best | None:
    """The best point of a record's grid; None of a diverged one, whatever it says instead."""
    best = record.best
    return None if best is None or not math.isfinite(best.score) else best


def _ranks(entries: Sequence[Entry]) -> list[int]:
    """The rank of each entry in its column."""
    scores: dict[Column, list[float]] = {}
    for entry in entries:
        best = finite_best(entry.record)
        scores.setdefault(column(entry.record), []).extend([] if best is None else [best.score])
    for of_column in scores.values():
        of_column.sort()
    ranks = []
    for entry in entries:
        of_column, best = scores[column(entry.record)], finite_best(entry.record)
        not_higher = 0 if best is None else bisect.bisect_right(of_column, best.score)
        ranks.append(1 + len(of_column) - not_higher)
    return ranks


def _rows(entries: Sequence[Entry], ranks: Sequence[int], naming: Naming) -> list[Row]:
    places = sorted(range(len(entries)), key=lambda place: str(entries[place].path))
    places.sort(key=lambda place: entries[place].record.created, reverse=True)
    places.sort(key=lambda place: len(entries[place].record.deviations))
    cells: dict[tuple[str, str, int], dict[Column, Cell]] = {}
    for place in places:
        record = entries[place].record
        identity, of = _identity(record), column(record)
        turn = 0
        while of in cells.get((*identity, turn), {}):
            turn += 1
        first = cells[*identity, 0][of].entry if turn else None
        entry = _further(entries[place], first)
        cells.setdefault((*identity, turn), {})[of] = Cell(entry, ranks[place])
    names = _names(entries, naming)
    return [
        Row(
            checkpoint=names[weights, arch],
            method=next(iter(of_row.values())).entry.record.checkpoint.method,
            backbone=arch,
            weights_sha256=weights,
            turn=turn,
            cells=of_row,
        )
        for (weights, arch, turn), of_row in cells.items()
    ]


def _further(entry: Entry, first: Entry | None) -> Entry:
    """A further run of the same weights, marked where no other mark tells it from the first."""
    if first is None or explained(entry) != explained(first) or entry.marks:
        return entry
    mark = f"a further run of these weights, whose deviations are the same: {entry.path}"
    return replace(entry, marks=(mark,))


def _identity(record: Record) -> tuple[str, str]:
    return record.checkpoint.weights_sha256, record.checkpoint.arch


def _names(entries: Sequence[Entry], naming: Naming) -> dict[tuple[str, str], str]:
    """Weights and architecture -> name; with a part of the hash where other weights have it too."""
    names: dict[tuple[str, str], str] = {}
    for entry in entries:
        identity = _identity(entry.record)
        named: Named | None = naming(entry.record)
        if named is not None:
            names[identity] = named.name
        else:
            names.setdefault(identity, entry.record.checkpoint.name)
    weights: dict[str, set[str]] = {}
    for (sha256, _), name in names.items():
        weights.setdefault(name, set()).add(sha256)
    short = {name: beginnings(hashes) for name, hashes in weights.items() if len(hashes) > 1}
    return {
        identity: f"{name} ({short[name][identity[0]]})" if name in short else name
        for identity, name in names.items()
    }


def _sorted(rows: Sequence[Row], titles: Mapping[Column, str], sort: str) -> list[Row]:
    ordered = sorted(rows, key=lambda row: (row.checkpoint, row.backbone, row.turn))
    ordered.sort(key=lambda row: (row.mean_rank, -len(row.cells)))
    if sort == MEAN_RANK:
        return ordered
    if sort in _TEXTS:
        return sorted(ordered, key=lambda row: str(getattr(row, sort)).casefold())
    of = _find_column(titles, sort)
    return sorted(ordered, key=lambda row: row.cells[of].rank if of in row.cells else math.inf)


def _find_column(titles: Mapping[Column, str], name: str) -> Column:
    for exact in (lambda one: titles[one], lambda one: one.protocol, lambda one: one.task):
        found = [one for one in titles if exact(one).casefold() == name.casefold()]
        if len(found) == 1:
            return found[0]
        if found:
            several = "; ".join(titles[one] for one in found)
            raise ConfigError(f"several columns are called {name!r}, give a title: {several}")
    known = [MEAN_RANK, *_TEXTS, *titles.values()]
    raise ConfigError(f"no column {name!r} to sort by{near_names(name, known)}")


def _with_notes(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[Row], list[str]]:
    """Number what has to be explained in the order of reading; what is equal shares a number."""
    numbers: dict[str, int] = {}
    numbered = []
    for row in rows:
        cells = {}
        for of in columns:
            if of not in row.cells:
                continue
            cell = row.cells[of]
            notes = [numbers.setdefault(text, len(numbers) + 1) for text in explained(cell.entry)]
            cells[of] = replace(cell, notes=tuple(notes))
        numbered.append(replace(row, cells=cells))
    return numbered, list(numbers)


def explained(entry: Entry) -> list[str]:
    """What a reader has to know of a record: its deviations in one text, and its marks."""
    deviations = "; ".join(entry.record.deviations)
    return [*([deviations] if deviations else []), *entry.marks]


def leaderboard_grid(board: Leaderboard) -> Grid:
    """A leaderboard as a table for reading: score, spread and rank in each cell.

    Its columns are `checkpoint`, `method`, `backbone`, `mean rank`, `columns` (in how many of them
    the row is), and one by each title.
    """
    total = len(board.titles)
    rows = []
    for row in board.rows:
        texts = [row.checkpoint, row.method, row.backbone, f"{row.mean_rank:.2f}"]
        leads = [text_cell(" ".join(text.split())) for text in texts]
        cells = [_cell(row.cells[of]) if of in row.cells else _MISSING for of in board.titles]
        rows.append((*leads, text_cell(f"{len(row.cells)} of {total}"), *cells))
    return Grid(
        caption="Checkpoints by protocols",
        headings=tuple((name,) for name in (*_TEXTS, MEAN_RANK, "columns", *board.titles.values())),
        leads=len(_TEXTS),
        groups=(RowGroup("", tuple(rows)),),
        footnotes=board.notes,
        remarks=(
            "Best score in percent, with its deviation over seeds where there are several; in "
            "brackets the rank in the column, the first bold.",
        ),
    )


def _cell(cell: Cell) -> tuple[Part, ...]:
    best = finite_best(cell.entry.record)
    text = "diverged" if best is None else score_text(best, 1)
    bold = best is not None and cell.rank == 1
    return (Part(f"{text} ({cell.rank})", bold=bold, marks=cell.notes),)


def measurements(board: Leaderboard) -> pd.DataFrame:
    """One row a record of a leaderboard, in its order, for programs: plain numbers, NaN for none.

    `deviations` and `marks` (contradicting records) are in words, `column` is the title.
    """
    return pd.DataFrame(
        [
            _measurement(row, cell) | {"column": board.titles[of]} | _place(row, cell)
            for row in board.rows
            for of, cell in row.cells.items()
        ]
    )


def _measurement(row: Row, cell: Cell) -> dict[str, object]:
    record = cell.entry.record
    best = finite_best(record)
    return {
        "checkpoint": row.checkpoint,
        "method": row.method,
        "backbone": row.backbone,
        "weights_sha256": row.weights_sha256,
        "task": record.task.name,
        "version": record.task.version,
        "profile": record.task.profile,
        "preset": record.task.preset or "",
        "select": record.task.select,
        "lr": best.lr if best else None,
        "options": options_text(best) if best else "",
        "metric": record.task.metric,
        "score": best.score if best else None,
        "std": best.std if best else None,
        "seeds": best.seeds if best else 0,
        "low": best.interval[0] if best else None,
        "high": best.interval[1] if best else None,
        "deviations": "; ".join(record.deviations),
    }


def _place(row: Row, cell: Cell) -> dict[str, object]:
    record = cell.entry.record
    return {
        "rank": cell.rank,
        "mean_rank": row.mean_rank,
        "status": record.status,
        "data": record.data.variant,
        "val": record.data.val,
        "fingerprint": record.data.fingerprint,
        "marks": "; ".join(cell.entry.marks),
        "created": record.created,
        "key": record.key,
        "file": str(cell.entry.path),
    }
