"""A file of checkpoints: whose weights they are, how they are read, which printed row they have."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from vicregl_bench.backbones.names import RANDOM_PREFIX, canonical
from vicregl_bench.batch.weights import Weights, Word
from vicregl_bench.batch.yaml_file import read_yaml
from vicregl_bench.digest import file_sha256
from vicregl_bench.engine.settings import Section
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record
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

    name: Word
    row: Word | None = None
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    epochs: PositiveInt | None = None

    @property
    def named(self) -> Named:
        """What tables show of it."""
        return Named(self.name, self.row, self.alpha, self.epochs)


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
        return self.path.parent / Path(entry.ckpt).expanduser()

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
        it was called; those of random weights by their architecture. An entry with an architecture
        of its own takes records of that alone. Entries whose file is missing are nobody's.

        Raises:
            ConfigError: two entries have files of the same bytes.
            CheckpointError: a file cannot be read.
        """
        checkpoint = record.checkpoint
        identity = checkpoint.file_sha256 or checkpoint.name
        entry = self._by_identity.get(identity)
        if entry is None:
            return None
        other = entry.arch is not None and canonical(entry.arch) != checkpoint.arch
        return None if other else entry.named

    def strangers(self, records: Iterable[Record]) -> list[str]:
        """A sentence of each entry that is of none of the records, and why where that is known.

        Raises:
            ConfigError: two entries have files of the same bytes.
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
        """Stop on two entries whose files hold the same bytes, however they are read.

        Raises:
            ConfigError: records would be of both.
            CheckpointError: a file cannot be read.
        """
        _ = self._by_identity

    @cached_property
    def _by_identity(self) -> Mapping[str, ZooEntry]:
        """Sha256 of a file, or random:ARCH -> its entry."""
        found: dict[str, ZooEntry] = {}
        for entry in self.entries:
            file = self.file(entry)
            if file is not None and not file.is_file():
                continue
            identity = _random_name(entry) if file is None else file_sha256(file)
            other = found.setdefault(identity, entry)
            if other is not entry:
                raise ConfigError(
                    f"{self.path}: {other.name} and {entry.name} have the same weights: a record "
                    "cannot be of both; leave one out"
                )
        return found


def read_zoo(path: Path) -> Zoo:
    """Read a file of checkpoints; their files need not be there, nor their architectures exist.

    Raises:
        ConfigError: the file cannot be read, has an unknown key or an impossible value, no
            checkpoint, one name twice, or one file or random:ARCH twice.
    """
    example = "checkpoints: [{name: mine, ckpt: mine.pth}]"
    zoo = Zoo(path, read_yaml(path, _File, example).checkpoints)
    _require_unlike(path, "the name", [(one.name, one.name) for one in zoo.entries])
    places = [(_place(zoo, entry), entry.name) for entry in zoo.entries]
    _require_unlike(path, "the weights", places)
    return zoo


def _random_name(entry: ZooEntry) -> str:
    """Name that records of random weights have, whatever alias the entry gives."""
    return f"{RANDOM_PREFIX}{canonical(_named_arch(entry) or '')}"


def _named_arch(entry: ZooEntry) -> str | None:
    """The architecture that an entry names."""
    return entry.arch or (entry.ckpt.removeprefix(RANDOM_PREFIX) if entry.random else None)


def _place(zoo: Zoo, entry: ZooEntry) -> str:
    file = zoo.file(entry)
    return _random_name(entry) if file is None else os.path.realpath(file)


def _require_unlike(path: Path, what: str, named: Sequence[tuple[str, str]]) -> None:
    """Stop on the first identity that stands twice."""
    seen: dict[str, str] = {}
    for identity, name in named:
        if identity in seen:
            whose = f"{seen[identity]} and {name}" if seen[identity] != name else "two entries"
            raise ConfigError(f"{path}: {whose} have {what} {identity}: leave one out")
        seen[identity] = name


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
