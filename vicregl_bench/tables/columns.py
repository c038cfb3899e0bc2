"""Columns of a leaderboard: which records may be compared, and what the columns are called."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import Record


@dataclass(frozen=True, order=True)
class Column:
    """What scores must have in common to stand in one column.

    Attributes:
        preset: empty where the protocol has one alone.
        select: what the best learning rate was chosen on, val or holdout.
        metric: of `records.metrics.TITLES`.
        variant, train, val, fingerprint: of the data; a subset is other data.
    """

    task: str
    version: int
    profile: str
    preset: str
    select: str
    metric: str
    variant: str
    train: int
    val: int
    fingerprint: str

    @property
    def protocol(self) -> str:
        """Name and version, as `--protocol` takes them: `voc_linear-v1`."""
        return f"{self.task}-v{self.version}"

    @property
    def name(self) -> str:
        """Protocol, version and profile: what every title begins with."""
        return f"{self.task} v{self.version} ({self.profile})"

    @property
    def description(self) -> str:
        """All of it in words."""
        preset = [f"preset {self.preset}"] if self.preset else []
        data = f"{self.variant} ({self.train} train, {self.val} val, {self.fingerprint[:8]})"
        words = [*preset, metric_title(self.metric), f"chosen on {self.select}", data]
        return ", ".join([self.name, *words])


def column(record: Record) -> Column:
    """The column that a record belongs to: other versions or pictures never share one."""
    task, data = record.task, record.data
    return Column(
        task=task.name,
        version=task.version,
        profile=task.profile,
        preset=task.preset or "",
        select=task.select,
        metric=task.metric,
        variant=data.variant,
        train=data.train,
        val=data.val,
        fingerprint=data.fingerprint,
    )


_APART: tuple[Callable[[Column], str], ...] = (
    lambda one: one.preset or "no preset",
    lambda one: f"chosen on {one.select}",
    lambda one: metric_title(one.metric),
    lambda one: one.variant,
    lambda one: f"{one.val} val pictures",
    lambda one: f"{one.train} train pictures",
)
"""What may tell columns of one name apart, in words; if none of it does, the fingerprint."""


def column_titles(columns: Collection[Column]) -> dict[Column, str]:
    """Titles, each as short as it can be and no two the same.

    A title is `task vN (profile)`, followed by what tells the column from the others that are
    called so, such as `moco`, `60 val pictures` or the beginning of the data's fingerprint.

    Returns:
        Column -> title, in the order of the columns.
    """
    unique = list(dict.fromkeys(columns))
    titles: dict[Column, str] = {}
    for same in _grouped(unique, lambda one: one.name):
        titles |= _apart(same, same[0].name)
    return {one: titles[one] for one in unique}


def _grouped(columns: Sequence[Column], word: Callable[[Column], str]) -> list[list[Column]]:
    groups: dict[str, list[Column]] = {}
    for one in columns:
        groups.setdefault(word(one), []).append(one)
    return list(groups.values())


def _apart(columns: list[Column], title: str) -> dict[Column, str]:
    """Lengthen the title of several columns by the first word that tells some of them apart."""
    if len(columns) == 1:
        return {columns[0]: title}
    for word in _APART:
        groups = _grouped(columns, word)
        if len(groups) > 1:
            titles: dict[Column, str] = {}
            for group in groups:
                titles |= _apart(group, f"{title}, {word(group[0])}")
            return titles
    short = beginnings([one.fingerprint for one in columns])
    if len(set(short.values())) == len(columns):
        return {one: f"{title}, {short[one.fingerprint]}" for one in columns}
    # columns that differ in what no word shows: names with the separators of titles in them
    return {one: f"{title}, {number}" for number, one in enumerate(columns, 1)}


def beginnings(hashes: Collection[str]) -> dict[str, str]:
    """Hash -> as many of its first characters, eight at least, as tell it from the others."""
    digits = 8
    longest = max(map(len, hashes), default=0)
    while digits < longest and len({one[:digits] for one in hashes}) < len(set(hashes)):
        digits += 1
    return {one: one[:digits] for one in hashes}
