"""A printed table with what was measured, for people and for programs."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from vicregl_bench.tables.columns import column
from vicregl_bench.tables.facts import Identity, identity
from vicregl_bench.tables.frames import number_text
from vicregl_bench.tables.layout import MISSING, PrintedColumn, PrintedNumber
from vicregl_bench.tables.measured_cell import MeasuredCell
from vicregl_bench.tables.paper_table import PaperCell, PaperRow, PaperTable, Show
from vicregl_bench.tables.rendering import Cell, Grid, Part, RowGroup, text_cell

_CELLS = (
    "Cells: published / measured ± standard deviation over seeds / difference in points "
    "(measured − published)."
)
_NOT_MEANINGFUL = (
    "A difference in parentheses says nothing of the method: its measurement is not comparable "
    "with the printed number, for the reasons that its marks give."
)
_PRINTED_BOLD = "Bold: the paper's best numbers, as it prints them."
_MEASURED_BOLD = (
    "Bold among the measured numbers: the best of a column, where those of two or more weights are "
    "comparable with the printed ones and with each other."
)


def paper_grid(table: PaperTable) -> Grid:
    """A table for people: numbers as the paper prints them, marks with their explanations.

    A published and a measured number stand in one cell. A difference that is not meaningful is in
    parentheses.
    """
    notes = _Footnotes()
    leading = _leading(table) if table.show != "published" else []
    groups: dict[str, list[tuple[Cell, ...]]] = {}
    for row in table.rows:
        about = [row.remark] if row.remark else []
        about += [f"measured: {row.measured}"] if row.measured else []
        first, *others = (row.lead[title] for title in table.layout.leads)
        lead = [(Part(first, marks=notes.marks(about)),), *map(text_cell, others)]
        cells = [
            _grid_cell(row.cells.get(one.name, PaperCell()), table.show, notes, leading)
            for one in table.layout.columns
        ]
        groups.setdefault(row.group, []).append((*lead, *cells))
    legend = _legend(table) if table.show == "both" else []
    legend += [_MEASURED_BOLD] if leading else []
    number, caption = table.layout.number, table.layout.caption
    paths = [(title,) for title in table.layout.leads]
    return Grid(
        caption=f"VICRegL, table {number} ({table.show}). {caption}",
        headings=(*paths, *(one.path for one in table.layout.columns)),
        leads=len(table.layout.leads),
        groups=tuple(RowGroup(title, tuple(rows)) for title, rows in groups.items()),
        footnotes=tuple(notes.texts),
        remarks=(*legend, *table.remarks),
    )


def _legend(table: PaperTable) -> list[str]:
    """What printed and measured numbers side by side need; nothing where none is measured."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    measured = [(cell, cell.measured) for cell in cells if cell.measured is not None]
    if not measured:
        return []
    doubtful = any(one.reasons for cell, one in measured if cell.difference is not None)
    bold = any(cell.printed is not None and cell.printed.bold for cell in cells)
    return [
        _CELLS,
        *([_NOT_MEANINGFUL] if doubtful else []),
        *([_PRINTED_BOLD] if bold else []),
    ]


def _leading(table: PaperTable) -> list[MeasuredCell]:
    """The measured cells that are bold: of each column those with the highest score.

    Among the first comparable one of each weights, where there are two or more and the leaderboard
    would have them in one column: of one preset, one way of choosing, the same pictures.
    """
    leading = []
    for name in (one.name for one in table.layout.columns):
        competing: dict[Identity, MeasuredCell] = {}
        for row in table.rows:
            measured = row.cells.get(name, PaperCell()).measured
            if measured is not None and measured.score is not None and not measured.reasons:
                competing.setdefault(identity(measured.entry.record), measured)
        cells = list(competing.values())
        if len(cells) > 1 and len({column(cell.entry.record) for cell in cells}) == 1:
            best = max(cell.score or 0.0 for cell in cells)
            leading += [cell for cell in cells if cell.score == best]
    return leading


class _Footnotes:
    """Explanations in order of appearance; equal ones share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def marks(self, texts: Iterable[str]) -> tuple[int, ...]:
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
        return tuple(sorted(self.texts.index(text) + 1 for text in texts))


def _about_number(number: PrintedNumber) -> list[str]:
    words = "; ".join(word for word in (number.flag, number.note) if word)
    return [f"printed number: {words}"] if words else []


def _grid_cell(
    cell: PaperCell, show: Show, notes: _Footnotes, leading: Sequence[MeasuredCell]
) -> Cell:
    printed, measured = cell.printed, cell.measured
    here = Part(MISSING)
    if measured is not None and show != "published":
        marks = notes.marks([*measured.reasons, *measured.notes])
        here = Part(measured.text, any(measured is one for one in leading), marks)
    if show == "measured":
        return (here,)
    there = Part(MISSING)
    if printed is not None:
        there = Part(printed.text, printed.bold, notes.marks(_about_number(printed)))
    if show == "published" or (printed is None and measured is None):
        return (there,)
    if cell.difference is None or measured is None:
        return there, here
    gain = number_text(cell.difference, 1, "+").replace("-", "−")
    return there, here, Part(f"({gain})" if measured.reasons else gain)


def paper_rows(table: PaperTable) -> list[dict[str, Any]]:
    """One row a cell, for programs: plain numbers, null where there is none.

    `marks` explains what is to be known of both numbers; `comparable` is whether the difference is
    meaningful (null without a difference).
    """
    return [
        _plain_cell(table, row, one, row.cells.get(one.name, PaperCell()))
        for row in table.rows
        for one in table.layout.columns
    ]


def paper_csv(table: PaperTable) -> str:
    """`paper_rows` as CSV, the marks joined."""
    rows = [{**row, "marks": "; ".join(row["marks"])} for row in paper_rows(table)]
    # of type object: whole numbers stay whole beside cells without a number
    return pd.DataFrame(rows, dtype=object).to_csv(index=False).rstrip("\n")


def _plain_cell(
    table: PaperTable, row: PaperRow, column: PrintedColumn, cell: PaperCell
) -> dict[str, Any]:
    printed = cell.printed if table.show != "measured" else None
    measured = cell.measured
    gain = cell.difference if printed is not None else None
    marks = [row.remark] if row.remark else []
    marks += _about_number(printed) if printed is not None else []
    marks += [*measured.reasons, *measured.notes] if measured is not None else []
    interval = None if measured is None else measured.interval
    return {
        "table": table.layout.number,
        "group": row.group,
        "row": row.name,
        "measured_of": row.measured if measured is not None else "",
        "method": row.method,
        "backbone": row.backbone,
        "epochs": row.epochs,
        "column": column.name,
        "column_title": " / ".join(column.path),
        "protocol": column.protocol,
        "version": None if measured is None else measured.entry.record.task.version,
        "profile": None if measured is None else measured.entry.record.task.profile,
        "metric": column.metric,
        "unit": column.unit,
        "published": None if printed is None else printed.value,
        "bold": printed is not None and printed.bold,
        "status": None if measured is None else measured.status,
        "measured": None if measured is None else measured.score,
        "std": None if measured is None else measured.std,
        "seeds": None if measured is None else measured.seeds,
        "difference": None if gain is None else round(gain, 6),
        "comparable": None if gain is None or measured is None else not measured.reasons,
        "low": None if interval is None else interval[0],
        "high": None if interval is None else interval[1],
        "marks": marks,
        "record": None if measured is None else str(measured.entry.path),
    }
