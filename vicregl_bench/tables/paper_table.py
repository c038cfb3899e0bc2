"""A printed table of VICRegL with what was measured beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.facts import Facts, Identity, identity, weights_facts
from vicregl_bench.tables.layout import MISSING, Layout, PrintedNumber, PrintedRow, layout
from vicregl_bench.tables.measured_cell import MeasuredCell, measured_cell
from vicregl_bench.tables.named import Naming
from vicregl_bench.tables.row_owners import row_owners, unlike_row
from vicregl_bench.tables.standing import ORDER, ranked

Show = Literal["published", "measured", "both"]
MEASURED_HERE = "Measured here"


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
        said = _naming_remark(table) if show == "published" else _left_out(table, (), ())
        return PaperTable(table, "published", tuple(rows), tuple(said))
    newest, old = _newest(belonging(number, entries), versions or {})
    if show == "measured" and not newest:
        raise ConfigError(
            f"nothing measured for table {number}: {_nothing(table, old)}; "
            "--published shows the paper's numbers"
        )
    facts = weights_facts([entry.record for entry in newest], naming)
    taken, below, remarks = row_owners(table, newest, facts)
    rows = []
    for row in table.rows:
        owner = taken.get(row.name)
        if owner is None:
            rows.append(_printed_row(row, {}))
            continue
        about = facts[owner]
        cells = _measured(table, newest, _turns(table, newest, owner)[0], unlike_row(row, about))
        rows.append(_printed_row(row, cells, about))
    crowded = []
    here = [(owner, 0) for owner in below] + [(owner, 1) for owner in taken.values()]
    for owner, first in sorted(here, key=lambda one: (facts[one[0]].name, one)):
        for turn, found in enumerate(_turns(table, newest, owner)):
            if turn >= first:
                cells = _measured(table, newest, found)
                rows.append(_own_row(table, facts[owner], cells, turn))
            if turn > 0:
                crowded += [f"{facts[owner].name}, {name}" for name in found]
    if crowded:
        where = "; ".join(dict.fromkeys(crowded))
        remarks.append(
            f"Of several records for one cell the first by this order stands in it: {ORDER}; the "
            f"others stand in rows of their own ({where})."
        )
    remarks += _left_out(table, entries, old)
    if show == "measured":
        rows = [row for row in rows if any(cell.measured for cell in row.cells.values())]
    return PaperTable(table, show, tuple(rows), tuple(remarks))


def _naming_remark(table: Layout) -> list[str]:
    example = table.rows[-1]
    if example.name == example.lead.get("Method"):
        return []
    names = "; ".join(row.name for row in table.rows)
    return [f"Names of the rows, for a zoo's `row`: {names}."]


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


def _nothing(table: Layout, old: Sequence[tuple[Entry, int]]) -> str:
    """Why no record is in a table."""
    tasks = ", ".join(dict.fromkeys(c.protocol for c in table.columns if c.protocol))
    if not tasks:
        return "no task measures time and memory"
    if not old:
        return f"no record of {tasks}"
    versions = (
        f"{entry.record.task.name} v{entry.record.task.version}, the column is of v{version}"
        for entry, version in old
    )
    return f"all records are of another protocol version ({'; '.join(dict.fromkeys(versions))})"


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


def _measured(
    table: Layout,
    entries: Sequence[Entry],
    found: Mapping[str, Entry],
    unlike: tuple[str, ...] = (),
) -> dict[str, MeasuredCell]:
    """The cells of some weights; of all entries are the presets that a column has."""
    presets: dict[str, set[str]] = {}
    for record in (entry.record for entry in entries):
        if record.task.preset is not None:
            presets.setdefault(record.task.name, set()).add(record.task.preset)
    return {
        column.name: measured_cell(
            found[column.name], column, unlike, presets.get(column.protocol, ())
        )
        for column in table.columns
        if column.name in found
    }


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


def _own_row(table: Layout, about: Facts, cells: Mapping[str, MeasuredCell], turn: int) -> PaperRow:
    name = f"{about.name}, run {turn + 1}" if turn else about.name
    whole = {
        "Backbone": about.backbone,
        "Epochs": MISSING if about.epochs is None else str(about.epochs),
    }
    kind = [about.title] if about.title != about.name else []
    kind += [] if "Backbone" in table.leads else [about.backbone]
    lead = {title: whole.get(title, MISSING) for title in table.leads}
    lead[table.leads[0]] = f"{name} ({', '.join(kind)})" if kind else name
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
        cells={column: PaperCell(None, one) for column, one in cells.items()},
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
