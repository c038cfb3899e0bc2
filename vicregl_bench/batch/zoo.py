"""A file of checkpoints: whose weights they are, how they are read, which printed row they have."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from vicregl_bench.backbones.names import RANDOM_PREFIX, canonical
from vicregl_bench.batch.weights import Weights, Word
from vicregl_bench.batch.yaml_file import Name, beside, read_yaml
from vicregl_bench.digest import file_sha256
from vicregl_bench.engine.settings import Section
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record
from vicregl_bench.records.schema import CheckpointInfo
from vicregl_bench.tables.layout import find_row, layout
from vicregl_bench.tables.named import Named


class ZooEntry(Weights):
    """One checkpoint; `ckpt` is a file, relative to the zoo's folder, or random:ARCH.

    Attributes:
        name: unique; what tables show.
        row: the printed row that it is measured for (`tables.named.Named`).
        alpha: weight of VICRegL's global criterion in its pretraining.
        epochs: of its pretraining.
    """

    name: Name
    row: Word | None = None
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    epochs: PositiveInt | None = None

    @property
    def named(self) -> Named:
        """What tables show of it."""
        return Named(self.name, self.row, self.alpha, self.epochs)

    @property
    def told(self) -> dict[str, str]:
        """How it is read, as far as it says so and records tell: arch, method, prefix."""
        arch = None if self.arch is None else canonical(self.arch)
        # a file that `own` reads names its method itself
        method = None if self.method == "own" else self.method
        prefix = None if self.prefix is None else self.prefix.rstrip(".")
        given = {"arch": arch, "method": method, "prefix": prefix}
        return {option: value for option, value in given.items() if value is not None}

    def takes(self, checkpoint: CheckpointInfo) -> bool:
        """Whether a record of the file is of this entry: read as it says."""
        coverage = checkpoint.coverage or {}
        prefix = str(coverage.get("prefix", "")).rstrip(".")
        address = f"{coverage.get('container', '')}.{prefix}".strip(".")
        held = {
            "arch": (checkpoint.arch,),
            "method": (checkpoint.method,),
            "prefix": (address, prefix) if coverage else (),  # as `--prefix` is understood
        }
        return all(value in held[option] for option, value in self.told.items())


class _File(Section):
    """What a zoo's file holds."""

    checkpoints: Annotated[tuple[ZooEntry, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Zoo:
    """The checkpoints of a file, in its order.

    Attributes:
        path: the file.
    """

    path: Path
    entries: tuple[ZooEntry, ...]

    def file(self, entry: ZooEntry) -> Path | None:
        """Where an entry's weights lie; None of random ones."""
        if entry.random:
            return None
        return beside(self.path, entry.ckpt)

    def missing(self, entry: ZooEntry) -> str | None:
        """What is wrong where an entry's file is not there; None where all is well."""
        file = self.file(entry)
        return None if file is None or file.is_file() else f"{entry.name}: no file {file}"

    def weights(self, entry: ZooEntry) -> Weights:
        """An entry as options of `vicregl-bench run`."""
        file = self.file(entry)
        given = entry.model_dump(include=set(Weights.model_fields))
        return Weights(**given | {"ckpt": entry.ckpt if file is None else str(file)})

    def named(self, record: Record) -> Named | None:
        """What the zoo says of a record's weights: a `tables.named.Naming`.

        Records of files are known by the sha256 of the file's bytes, wherever it lay and whatever
        it was called; those of random weights by their architecture. An entry with an architecture,
        method or prefix of its own takes records of that alone. Entries whose file is missing are
        nobody's.

        Raises:
            ConfigError: a record could be of two entries.
            CheckpointError: a file cannot be read.
        """
        checkpoint = record.checkpoint
        entries = self._by_identity.get(checkpoint.file_sha256 or checkpoint.name, ())
        return next((entry.named for entry in entries if entry.takes(checkpoint)), None)

    def strangers(self, records: Iterable[Record]) -> list[str]:
        """A sentence of each entry that is of none of the records, and why where that is known.

        Raises:
            ConfigError: a record could be of two entries.
            CheckpointError: a file cannot be read.
        """
        known = {named.name for named in map(self.named, records) if named is not None}
        found = []
        for entry in self.entries:
            if entry.name not in known:
                file = self.file(entry)
                gone = file is not None and not file.is_file()
                why = f" (no file {file})" if gone else ""
                found.append(f"{self.path}, {entry.name}: no record is of its weights{why}")
        return found

    def require_unlike_files(self) -> None:
        """Stop on two entries whose files hold the same bytes, and that do not say what differs.

        Raises:
            ConfigError: a record could be of two entries.
            CheckpointError: a file cannot be read.
        """
        _ = self._by_identity

    @cached_property
    def _by_identity(self) -> Mapping[str, Sequence[ZooEntry]]:
        """Sha256 of a file, or random:ARCH -> its entries."""
        there = [entry for entry in self.entries if self.missing(entry) is None]
        return _grouped(self, there, file_sha256)


def read_zoo(path: Path) -> Zoo:
    """Read a file of checkpoints; their files need not be there, nor their architectures exist.

    Raises:
        ConfigError: the file cannot be read, has an unknown key or an impossible value, no
            checkpoint, one name twice, or one file or random:ARCH twice, read alike.
    """
    example = "checkpoints: [{name: mine, ckpt: mine.pth}]"
    zoo = Zoo(path, read_yaml(path, _File, example).checkpoints)
    for name, count in Counter(entry.name for entry in zoo.entries).items():
        if count > 1:
            raise ConfigError(f"{path}: {count} entries have the name {name}: give each its own")
    _grouped(zoo, zoo.entries, os.path.abspath)
    return zoo


def _grouped(
    zoo: Zoo, entries: Iterable[ZooEntry], identity: Callable[[Path], str]
) -> Mapping[str, Sequence[ZooEntry]]:
    """Entries by what identifies their files, or by random:ARCH.

    Raises:
        ConfigError: a record could be of two of them.
    """
    found: dict[str, list[ZooEntry]] = {}
    for entry in entries:
        file = zoo.file(entry)
        same = found.setdefault(_random_name(entry) if file is None else identity(file), [])
        for other in same:
            if not _told_apart(other, entry):
                raise ConfigError(
                    f"{zoo.path}: {other.name} and {entry.name} have the same weights: give each "
                    "its own prefix, method or arch, or leave one out"
                )
        same.append(entry)
    return found


def _told_apart(one: ZooEntry, other: ZooEntry) -> bool:
    """Whether no record can be of both: they differ in an option that both give."""
    here, there = one.told, other.told
    return any(
        not _meet(here[option], there[option])
        if option == "prefix"
        else here[option] != there[option]
        for option in here.keys() & there.keys()
    )


def _meet(one: str, other: str) -> bool:
    """Whether two prefixes may be one place: the end of an address names it too."""
    ends = (f".{one}".rstrip("."), f".{other}".rstrip("."))
    return ends[0].endswith(ends[1]) or ends[1].endswith(ends[0])


def _random_name(entry: ZooEntry) -> str:
    """Name that records of random weights have, whatever alias the entry gives."""
    return f"{RANDOM_PREFIX}{canonical(_named_arch(entry) or '')}"


def _named_arch(entry: ZooEntry) -> str | None:
    """The architecture that an entry names."""
    return entry.arch or (entry.ckpt.removeprefix(RANDOM_PREFIX) if entry.random else None)


def require_rows(zoo: Zoo, number: str) -> None:
    """Stop on a printed row that no table of the paper has.

    Args:
        zoo: whose entries name rows.
        number: of the table that is meant.

    Raises:
        ConfigError: the entry and near names.
    """
    for entry in zoo.entries:
        if entry.row is not None:
            try:
                find_row(layout(number), entry.row)
            except ConfigError as error:
                raise ConfigError(f"{zoo.path}, {entry.name}: {error}") from None


def require_architectures(zoo: Zoo) -> None:
    """Stop on an architecture that there is not, which takes torch to know.

    Raises:
        ConfigError: the entry and near names.
    """
    from vicregl_bench.backbones.zoo import find_architecture

    for entry in zoo.entries:
        named = _named_arch(entry)
        if named is not None:
            try:
                find_architecture(named)
            except ConfigError as error:
                raise ConfigError(f"{zoo.path}, {entry.name}: {error}") from None
