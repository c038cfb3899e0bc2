"""Whose printed row is whose: weights and the rows of a table of VICRegL."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.facts import Facts, Identity, identity
from vicregl_bench.tables.layout import Layout, PrintedRow, find_row
from vicregl_bench.tables.published import published
from vicregl_bench.tables.standing import Standing, standing


def row_owners(
    table: Layout, entries: Sequence[Entry], facts: Mapping[Identity, Facts]
) -> tuple[dict[str, Identity], list[Identity], list[str]]:
    """Give each printed row to the weights that it is of.

    Of several weights for one row those with the record that stands best have it, then those with
    records of more tasks.

    Args:
        table: whose rows.
        entries: records of its tasks.
        facts: what is known of their weights.

    Returns:
        Name of a row -> weights; the weights that have none; and what is to be said of them.

    Raises:
        ConfigError: the user names a row that no table has.
    """
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

    def place(key: Identity) -> tuple[Standing, int, str]:
        own = [entry for entry in entries if identity(entry.record) == key]
        tasks = {entry.record.task.name for entry in own}
        return min(map(standing, own)), -len(tasks), facts[key].name

    taken = {}
    for name, keys in owners.items():
        first, *others = sorted(keys, key=place)
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


def unlike_row(row: PrintedRow, about: Facts) -> tuple[str, ...]:
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
