"""Checkpoints by protocols: scores, ranks, and what a reader has to know of them."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from vicregl_bench.errors import ConfigError
from vicregl_bench.near import near_names
from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.columns import Column, column, column_titles
from vicregl_bench.tables.facts import Identity, identity, weights_facts
from vicregl_bench.tables.frames import number_text, options_text, score_text
from vicregl_bench.tables.named import Naming
from vicregl_bench.tables.rendering import Grid, Part, RowGroup, text_cell
from vicregl_bench.tables.standing import ranked

MEAN_RANK = "mean rank"
_TEXTS = ("checkpoint", "method", "backbone")
_MISSING = text_cell("–")
_LEGEND = (
    "Best score in percent, with its deviation over seeds where there are several; in brackets the "
    "rank in the column, the first bold."
)
_UNRANKED = (
    "(–) is not ranked: a column where nothing else competes or all diverged, a further run of "
    "weights that have a rank already, or records that contradict each other."
)


@dataclass(frozen=True)
class RankedCell:
    """One record in its column.

    Attributes:
        rank: 1 is the best of the column; None of what is not ranked, see `leaderboard`.
        notes: numbers of the leaderboard's notes that are about it, from 1.
    """

    entry: Entry
    rank: int | None
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One set of weights in one architecture by one method, or a further run with other settings.

    Attributes:
        checkpoint: its name, with the beginning of the weights' hash where others are called so,
            and the number of a further run ("run 2").
        turn: 0, or of further runs 1, 2, ...
        cells: by column; columns it is not in are left out.
    """

    checkpoint: str
    method: str
    backbone: str
    weights_sha256: str
    turn: int
    cells: Mapping[Column, RankedCell]

    @property
    def mean_rank(self) -> float | None:
        """Over the columns that the row is ranked in; None where it is in none."""
        ranks = [cell.rank for cell in self.cells.values() if cell.rank is not None]
        return sum(ranks) / len(ranks) if ranks else None


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

    The rank in a column is one more than the number of ranked rows with a higher score, as it is
    stored: equal scores share the better rank, scores that merely look equal when rounded do not.
    Diverged runs share the last rank. (No protocol chooses by a metric that is the better the
    lower.) A column that one row alone competes in, or where all that compete have diverged, ranks
    nobody: to be first of one says nothing.

    Several runs of the same weights in one column (other settings) are several rows, in the order
    of `standing.ORDER`; never the best first because it is. The first that no record contradicts
    alone is ranked: no weights compete with themselves, and nobody knows which of contradicting
    records is right.

    The mean rank is over the columns that a row is ranked in: a column that it misses counts
    neither for nor against it, so mean ranks of rows in other columns compare with care. Of equal
    mean ranks the weights with more columns go first; further runs follow the first row of their
    weights, and what has no rank is last.

    Args:
        entries: records in their places; interrupted ones are left out.
        naming: what weights are called; None, or where it says nothing: the checkpoint's file.
        sort: `mean rank`, `checkpoint`, `method`, `backbone`, or a column: its title, protocol
            (`voc_linear-v1`) or task, where no other is called so. Rows without a rank there come
            after those with one, rows without a record there last.

    Raises:
        ConfigError: no finished record, or no such column to sort by.
    """
    finished = [entry for entry in entries if entry.record.status != "interrupted"]
    if not finished:
        only = f": {len(entries)} interrupted, run them again to resume" if entries else ""
        raise ConfigError(f"no finished record to show{only or '; `vicregl-bench run` makes one'}")
    columns = sorted({column(entry.record) for entry in finished})
    titles = column_titles(columns)
    rows = _ranked(_rows(finished, naming))
    ordered = _sorted(rows, titles, sort)
    numbered, notes = _with_notes(ordered, columns)
    return Leaderboard(titles, tuple(numbered), tuple(notes), len(entries) - len(finished))


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows with the rank of each cell that competes."""
    competing: dict[Column, dict[Identity, Entry]] = {}
    for row in rows:
        for of, cell in row.cells.items():
            if not cell.entry.disputed:
                competing.setdefault(of, {}).setdefault(_weights(row), cell.entry)
    scores = {
        of: sorted(one.record.best.score for one in entries.values() if one.record.best is not None)
        for of, entries in competing.items()
        if len(entries) > 1
    }

    def ranked_cell(row: Row, of: Column) -> RankedCell:
        cell = row.cells[of]
        if not scores.get(of) or competing[of].get(_weights(row)) is not cell.entry:
            return cell
        best = cell.entry.record.best
        not_higher = 0 if best is None else bisect.bisect_right(scores[of], best.score)
        return replace(cell, rank=1 + len(scores[of]) - not_higher)

    return [replace(row, cells={of: ranked_cell(row, of) for of in row.cells}) for row in rows]


def _rows(entries: Sequence[Entry], naming: Naming | None) -> list[Row]:
    """Unranked rows, those of the same weights in the order of their turns."""
    cells: dict[tuple[Identity, int], dict[Column, RankedCell]] = {}
    for entry in ranked(entries):
        of_weights, of = identity(entry.record), column(entry.record)
        turn = 0
        while of in cells.get((of_weights, turn), {}):
            turn += 1
        first = cells[of_weights, 0][of].entry if turn else None
        cell = RankedCell(_further(entry, first), None)
        cells.setdefault((of_weights, turn), {})[of] = cell
    facts = weights_facts([entry.record for entry in entries], naming)
    return [
        Row(
            checkpoint=facts[of_weights].name + (f", run {turn + 1}" if turn else ""),
            method=of_weights[2],
            backbone=of_weights[1],
            weights_sha256=of_weights[0],
            turn=turn,
            cells=of_row,
        )
        for (of_weights, turn), of_row in cells.items()
    ]


def _further(entry: Entry, first: Entry | None) -> Entry:
    """A further run of the same weights, marked where no other mark tells it from the first.

    The first then has no mark and competes, so that a run marked here would not be ranked anyway.
    """
    if first is None or explained(entry) != explained(first) or entry.marks:
        return entry
    mark = f"a further run of these weights, whose deviations are the same: {entry.path}"
    return replace(entry, marks=(mark,))


def _sorted(rows: Sequence[Row], titles: Mapping[Column, str], sort: str) -> list[Row]:
    firsts = {_weights(row): row for row in rows if row.turn == 0}
    means: dict[Identity, float] = {}  # of weights whose first run is disputed, a further row's
    for row in rows:
        if row.mean_rank is not None:
            means.setdefault(_weights(row), row.mean_rank)

    def place(row: Row) -> tuple[object, ...]:
        first = firsts[_weights(row)]
        mean = means.get(_weights(row), math.inf)
        return mean, -len(first.cells), first.checkpoint, row.backbone, _weights(row), row.turn

    ordered = sorted(rows, key=place)
    if sort == MEAN_RANK:
        return ordered
    if sort in _TEXTS:
        return sorted(ordered, key=lambda row: str(getattr(firsts[_weights(row)], sort)).casefold())
    of = _find_column(titles, sort)
    return sorted(ordered, key=lambda row: _place_in(row, of))


def _weights(row: Row) -> Identity:
    return row.weights_sha256, row.backbone, row.method


def _place_in(row: Row, of: Column) -> tuple[int, float]:
    """The less, the higher a row stands when it is sorted by a column."""
    if of not in row.cells:
        return 2, 0.0
    rank = row.cells[of].rank
    return (1, 0.0) if rank is None else (0, float(rank))


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
    unranked = any(cell.rank is None for row in board.rows for cell in row.cells.values())
    rows = []
    for row in board.rows:
        mean = "–" if row.mean_rank is None else number_text(row.mean_rank, 2)
        texts = [row.checkpoint, row.method, row.backbone, mean]
        leads = [text_cell(text) for text in texts]
        cells = [_cell(row.cells[of]) if of in row.cells else _MISSING for of in board.titles]
        rows.append((*leads, text_cell(f"{len(row.cells)} of {total}"), *cells))
    return Grid(
        caption="Checkpoints by protocols",
        headings=tuple((name,) for name in (*_TEXTS, MEAN_RANK, "columns", *board.titles.values())),
        leads=len(_TEXTS),
        groups=(RowGroup("", tuple(rows)),),
        footnotes=board.notes,
        remarks=(_LEGEND, *([_UNRANKED] if unranked else [])),
    )


def _cell(cell: RankedCell) -> tuple[Part, ...]:
    best = cell.entry.record.best
    text = "diverged" if best is None else score_text(best, 1)
    rank = "–" if cell.rank is None else cell.rank
    return (Part(f"{text} ({rank})", bold=cell.rank == 1, marks=cell.notes),)


def measurements(board: Leaderboard) -> pd.DataFrame:
    """One row a record of a leaderboard, in its order, for programs: plain numbers, NaN for none.

    `deviations` and `marks` (contradicting records, further runs that deviate alike) are in words,
    `column` is the title. `rank` (Int64) and `mean_rank` are missing of what is not ranked.
    """
    frame = pd.DataFrame(
        [
            _measurement(row, cell) | {"column": board.titles[of]} | _place(row, cell)
            for row in board.rows
            for of, cell in row.cells.items()
        ]
    )
    return frame.astype({"rank": "Int64", "mean_rank": "float64"})


def _measurement(row: Row, cell: RankedCell) -> dict[str, object]:
    record = cell.entry.record
    best = record.best
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


def _place(row: Row, cell: RankedCell) -> dict[str, object]:
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
