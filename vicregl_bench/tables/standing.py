"""Of several records of the same weights, which one stands for them."""

from collections.abc import Iterable

from vicregl_bench.records.collection import Entry
from vicregl_bench.records.schema import Record

ORDER = (
    "profile paper, the preset that the checkpoint's card names, the fewest deviations, no record "
    "that contradicts it, a score, the newest"
)
"""What puts a finished record before others, the first that tells them apart deciding."""

Standing = tuple[bool, bool, bool, int, bool, bool]


def standing(entry: Entry) -> Standing:
    """The less, the better a record stands for its weights: finished first, then by `ORDER`.

    The score itself is no part of it. The date is not either: `ranked` adds it.
    """
    record = entry.record
    return (
        record.status == "interrupted",
        record.task.profile != "paper",
        other_preset(record) is not None,
        len(record.deviations),
        entry.disputed,
        record.best is None,
    )


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Records by their `standing`, the best first; of equal ones the newest."""
    newest = sorted(entries, key=lambda entry: str(entry.path))
    newest.sort(key=lambda entry: entry.record.created, reverse=True)
    return sorted(newest, key=standing)


def other_preset(record: Record) -> str | None:
    """The preset that the checkpoint's card names, where the run had another; else None."""
    own = record.checkpoint.card.get("detection_preset")
    preset = record.task.preset
    return own if isinstance(own, str) and preset is not None and preset != own else None
