"""The records of several folders, which may come from other machines: one entry a result."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicregl_bench.errors import RecordError
from vicregl_bench.records.schema import Record
from vicregl_bench.records.store import read_files, record_files

TOLERANCE = 1e-4
"""In percent: what is this close is the same result, as records round to four decimals."""

ROUNDING = 0.2
"""In points: contradictions below this may come from another machine or version."""


@dataclass(frozen=True)
class Entry:
    """A record in its place.

    Attributes:
        path: its file, below the folder as it was given.
        marks: what a reader has to know of it beside its deviations, one sentence each: records of
            the same key contradict it. All that contradict each other have the same sentence.
    """

    record: Record
    path: Path
    marks: tuple[str, ...] = ()

    @property
    def disputed(self) -> bool:
        """Whether records of the same key contradict it: none of them is known to be right."""
        return bool(self.marks)


@dataclass(frozen=True)
class Collection:
    """The records of some folders.

    Attributes:
        entries: folder by folder, in order of file name; never empty.
        duplicates: how many records were left out because another one says the same.
        unreadable: why a file was left out, one line each.
    """

    entries: tuple[Entry, ...]
    duplicates: int = 0
    unreadable: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """The records alone, in the order of the entries."""
        return tuple(entry.record for entry in self.entries)


def collect(folders: Sequence[Path], warn: Callable[[str], None]) -> Collection:
    """Read every record of some folders (not of their sub-folders), each result once.

    A key stands for protocol, settings, weights and data, so records of one key should say the
    same. Those that do, in every metric within `TOLERANCE`, are duplicates: one is kept, a finished
    before an interrupted one, then the newest. Finished ones that do not contradict each other: all
    are kept, with a mark that names their files, scores and machines.

    Args:
        folders: of records; one that is given twice is read once.
        warn: told of each file that cannot be read, of each contradiction, and once of the number
            of duplicates.

    Raises:
        RecordError: no such folder, or no record in any.
    """
    entries, unreadable = _read(folders, warn)
    if not entries:
        raise RecordError(_nothing(folders, len(unreadable)))
    by_key: dict[str, list[Entry]] = {}
    for entry in entries:
        by_key.setdefault(entry.record.key, []).append(entry)
    kept: dict[Path, Entry] = {}
    for same in by_key.values():
        for entry in _settled(same, warn):
            kept[entry.path] = entry
    duplicates = len(entries) - len(kept)
    if duplicates:
        left_out = "1 record is" if duplicates == 1 else f"{duplicates} records are"
        warn(f"{left_out} left out: others of the same key say the same or more")
    ordered = tuple(kept[entry.path] for entry in entries if entry.path in kept)
    return Collection(ordered, duplicates, tuple(unreadable))


def _read(folders: Sequence[Path], warn: Callable[[str], None]) -> tuple[list[Entry], list[str]]:
    """What can be read, each file once, and why the others cannot."""
    unreadable: list[str] = []

    def leave_out(why: str) -> None:
        unreadable.append(why)
        warn(f"left out: {why}")

    files: dict[Path, Path] = {}
    for folder in folders:
        for path in record_files(folder):
            files.setdefault(path.resolve(), path)
    entries = [Entry(record, path) for path, record in read_files(files.values(), leave_out)]
    return entries, unreadable


def _nothing(folders: Sequence[Path], unreadable: int) -> str:
    where = ", ".join(map(str, folders)) or "no folder"
    files = "1 file" if unreadable == 1 else f"{unreadable} files"
    but = f" ({files} could not be read)" if unreadable else ""
    return f"no record in {where}{but}; `vicregl-bench run --out FOLDER` makes one"


def _settled(same: Sequence[Entry], warn: Callable[[str], None]) -> list[Entry]:
    """Of one key, what differs: one entry, or several that contradict each other and say so."""
    newest = sorted(same, key=lambda entry: (entry.record.created, str(entry.path)), reverse=True)
    finished = [entry for entry in newest if entry.record.status != "interrupted"]
    if not finished:
        return newest[:1]
    kept: list[Entry] = []
    for entry in finished:
        if not any(_agree(entry.record, other.record) for other in kept):
            kept.append(entry)
    if len(kept) == 1:
        return kept
    kept.sort(key=lambda entry: str(entry.path))
    mark = _contradiction([(entry, _result_text(entry.record)) for entry in kept])
    warn(mark)
    return [replace(entry, marks=(*entry.marks, mark)) for entry in kept]


def _agree(one: Record, other: Record) -> bool:
    """Whether two finished records say the same, in every metric that both have."""
    if one.best is None or other.best is None:
        return one.best is None and other.best is None
    names = one.best.scores.keys() & other.best.scores.keys()
    pairs: list[tuple[float | None, float | None]] = [(one.best.score, other.best.score)]
    pairs += [(one.best.scores[name], other.best.scores[name]) for name in sorted(names)]
    return all(_close(a, b) for a, b in pairs)


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE * (1 + 1e-6)  # of the binary fraction


def _result_text(record: Record) -> str:
    if record.best is None:
        return "diverged"
    return f"{record.task.metric} {record.best.score:.4f}"


def _contradiction(results: Sequence[tuple[Entry, str]]) -> str:
    """One sentence for all of them: files, scores and machines."""
    said = [f"{entry.path}: {text} ({_machine(entry.record)})" for entry, text in results]
    gap = _gap([entry.record for entry, _ in results])
    why = "another machine or version may round otherwise"
    if not gap < ROUNDING:
        why = "they cannot both be right" if len(results) == 2 else "at most one can be right"
    return (
        f"records of one key, {results[0][0].record.key[:12]}, contradict each other; "
        f"{why}: {'; '.join(said)}"
    )


def _gap(records: Sequence[Record]) -> float:
    """The largest difference in a metric that all have, in points; infinite where one has none."""
    bests = [record.best for record in records if record.best is not None]
    if len(bests) < len(records):
        return math.inf
    names = set.intersection(*(set(best.scores) for best in bests))
    columns: list[list[float | None]] = [[best.score for best in bests]]
    columns += [[best.scores[name] for best in bests] for name in sorted(names)]
    gap = 0.0
    for column in columns:
        known = [value for value in column if value is not None]
        if known:
            gap = max(gap, max(known) - min(known) if len(known) == len(column) else math.inf)
    return gap


def _machine(record: Record) -> str:
    environment = record.environment
    torch = environment.versions.get("torch", "of unknown version")
    return f"{environment.device}, torch {torch}, {environment.platform}, {record.created[:16]}"
