"""What identifies a data set in a record, and what tells that its files were not touched since."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vicregl_bench.data.classification import Labelled, MultiLabelled
from vicregl_bench.data.detection import Picture
from vicregl_bench.data.segmentation import Pair
from vicregl_bench.errors import DataError

# Hashing this much takes about a second; ADE20k and Cityscapes are far beyond it.
CONTENT_LIMIT = 256 * 2**20

Splits = (
    Mapping[str, Sequence[Pair]]
    | Mapping[str, Sequence[Picture]]
    | Mapping[str, Sequence[Labelled]]
    | Mapping[str, Sequence[MultiLabelled]]
)


@dataclass(frozen=True)
class Fingerprint:
    """A sha256 over a data set and what it was taken over."""

    value: str
    kind: Literal["content", "names+sizes"]


def fingerprint(splits: Splits, *, content_limit: int = CONTENT_LIMIT) -> Fingerprint:
    """Identify a data set, for the record; the same wherever the set is stored.

    Up to `content_limit` bytes in all: over split, name and the content of picture and mask, or
    picture and annotation files, of every pair (the picture alone where its name tells its class).
    Beyond it: over split, names and sizes. Pairs count in the order of their list, since a run's
    data order follows from it.

    Raises DataError naming a file that is missing or unreadable.
    """
    sizes = {
        path: _stat(path).st_size
        for pairs in splits.values()
        for pair in pairs
        for path in _files(pair)
    }
    content = cache(_content)  # one JSON may annotate all pictures
    if sum(sizes.values()) <= content_limit:
        return Fingerprint(
            _digest(
                [split, pair.name, *map(content, _files(pair))]
                for split, pairs in splits.items()
                for pair in pairs
            ),
            "content",
        )
    return Fingerprint(
        _digest(
            [split, pair.name]
            + [item for path in _files(pair) for item in (_relative(path), sizes[path])]
            for split, pairs in splits.items()
            for pair in pairs
        ),
        "names+sizes",
    )


def stat_key(splits: Splits) -> str:
    """Return a sha256 over names, sizes and modification times: the key of a remembered check.

    It changes whenever a file was written, and says nothing about content: never put it into a
    record. Raises DataError naming a file that is missing or unreadable.
    """

    @cache
    def entry(path: Path) -> list[object]:
        stat = _stat(path)
        return [_relative(path), stat.st_size, stat.st_mtime_ns]

    return _digest(
        [split, pair.name, *(item for path in _files(pair) for item in entry(path))]
        for split, pairs in splits.items()
        for pair in pairs
    )


def _files(item: Pair | Picture | Labelled | MultiLabelled) -> tuple[Path, ...]:
    return (item.image, item.mask) if isinstance(item, Pair) else item.files


def _digest(rows: Iterable[list[object]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _relative(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} is in the list of pictures but missing: restore the file")
    return DataError(f"cannot read {path}: {error.strerror}")
