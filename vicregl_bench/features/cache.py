"""Features of a list of pictures by a frozen trunk, computed once and never taken for others."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data import Labelled, MultiLabelled, fingerprint, stat_key
from vicregl_bench.data.fingerprint import Splits
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import DataError, RecordError
from vicregl_bench.features.extractor import Extractor, load_crops
from vicregl_bench.features.finite import require_finite
from vicregl_bench.features.shards import Features, encode

# Raised whenever the code here computes or stores features otherwise: older ones no longer count.
FEATURE_VERSION = 1
SHARD = 1024  # pictures a file: 4 MiB of 2,048 channels
CLAIM = 16
_POLL_S = 0.2  # between looks at a lock that another process holds
_INDEX = "index.json"

Pictures = Sequence[Labelled | MultiLabelled]


class FeatureCache:
    """A folder of features, in a folder of its own for each key.

    The key is a sha256 over all that decides them: `Extractor.identity`, names, labels and order of
    the pictures, sizes and times of their files, up to 256 MiB also their content, the shard's
    size and `FEATURE_VERSION`. In its folder are files of `shards.encode` and an index of their
    checksums. Nothing is ever removed but what is replaced.

    Args:
        folder: of the cache; made where there is none.
        shard: pictures a file.
        claim: files that a process takes at once, so that others find some left.
    """

    def __init__(self, folder: Path, *, shard: int = SHARD, claim: int = CLAIM) -> None:
        self.folder, self.shard, self.claim = folder, shard, claim

    def key(self, extractor: Extractor, pictures: Pictures) -> str:
        """The sha256 under which the features of pictures are kept.

        Raises:
            DataError: a picture's file is missing.
        """
        return _sha256(self._identity(extractor, pictures, self._states(pictures)))

    def extract(
        self,
        extractor: Extractor,
        pictures: Pictures,
        *,
        reporter: Reporter,
        check_stop: Callable[[], None] = lambda: None,
        stage: str = "features",
        batch_size: int = 64,
        workers: int = 0,
    ) -> Features:
        """Features (N, D) of pictures, in their order, stored or computed now.

        Every stored file is held against its checksum; one that does not pass is computed anew with
        a warning. Processes that compute the same share the files between them, and each ends when
        all are there. What is whole when it is stopped is used by the next call, which gives bit
        for bit what an uninterrupted one gives, with the same batch size.

        Args:
            extractor: makes the features.
            pictures: of one list.
            reporter: told of the pictures that are done, and of files computed anew.
            check_stop: called between batches and while waiting; raises where the run is to stop.
                It must not wait for other processes, which may not come to the same place.
            stage: name of the work in the reporter.
            batch_size: pictures a forward; no batch spans two files.
            workers: data loading processes.

        Raises:
            DataError: no pictures, or one that is missing, cannot be read or was changed while its
                features were computed.
            RecordError: the folder cannot be written.
            CheckpointError: features that are not finite.
        """
        if not pictures:
            raise DataError("there are no pictures to take features of")
        states = self._states(pictures)
        identity = self._identity(extractor, pictures, states)
        index = _Index(self.folder / _sha256(identity), identity, reporter.warn)
        update = reporter.stage(stage, len(pictures))

        paths = [picture.image for picture in pictures]
        told: int | None = None

        def report(more: int = 0) -> None:
            nonlocal told
            done = more + sum(self._size(number, pictures) for number in index.verified)
            if done != told:
                update(done)
            told = done

        def vectors_of(number: int, crops: Iterator[Tensor]) -> Tensor:
            """Vectors of the pictures of one file."""
            vectors: list[Tensor] = []
            for batch in self._batches(number, pictures, batch_size):
                check_stop()
                vectors.append(extractor(next(crops)))
                require_finite(vectors[-1], paths[batch.start : batch.stop])
                report(sum(map(len, vectors)))
            if self._state(number, pictures) != states[number]:
                first, last = pictures[number * self.shard], pictures[batch.stop - 1]
                raise DataError(
                    f"a picture between {first.image} and {last.image} was changed while "
                    "features were computed: run the same again"
                )
            return torch.cat(vectors)

        while True:
            check_stop()
            missing = index.missing(len(states))
            report()
            if not missing:
                break
            with _claimed(index.folder, missing, self.claim) as claimed:
                mine = [number for number in index.missing(len(states)) if number in claimed]
                batches = [b for n in mine for b in self._batches(n, pictures, batch_size)]
                with closing(
                    load_crops(paths, batches, extractor.transform, workers=workers)
                ) as crops:
                    for number in mine:
                        index.add(number, encode(vectors_of(number, crops)))
            if not claimed:
                time.sleep(_POLL_S)
        return Features([index.path(n) for n in range(len(states))], self.shard, len(pictures))

    def _size(self, number: int, pictures: Pictures) -> int:
        """Pictures of one file."""
        return min(self.shard, len(pictures) - number * self.shard)

    def _batches(self, number: int, pictures: Pictures, size: int) -> list[range]:
        """Indices of the batches of one file: the same whatever else is to be computed."""
        begin = number * self.shard
        end = begin + self._size(number, pictures)
        return [range(first, min(end, first + size)) for first in range(begin, end, size)]

    def _state(self, number: int, pictures: Pictures) -> str:
        """What tells that the pictures of one file were not touched."""
        return stat_key(_split(pictures[number * self.shard : (number + 1) * self.shard]))

    def _states(self, pictures: Pictures) -> list[str]:
        return [self._state(number, pictures) for number in range(-(-len(pictures) // self.shard))]

    def _identity(
        self, extractor: Extractor, pictures: Pictures, states: Sequence[str]
    ) -> dict[str, Any]:
        labels = hashlib.sha256()
        for picture in pictures:
            label = picture.label if isinstance(picture, Labelled) else picture.labels
            labels.update(json.dumps([picture.name, label]).encode() + b"\n")
        content = fingerprint(_split(pictures))
        return {
            "feature_version": FEATURE_VERSION,
            **extractor.identity(),
            "shard": self.shard,
            "pictures": len(pictures),
            "labels": labels.hexdigest(),
            "files": _sha256(list(states)),
            content.kind: content.value,
        }


def _split(pictures: Pictures) -> Splits:
    """A data set of one split, as `data.fingerprint` takes it."""
    return cast(Splits, {"pictures": pictures})


class _Index:
    """The checksums of the files in a folder.

    Args:
        folder: of one key.
        identity: what the key was taken over, kept for people.
        warn: told of what does not count.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], warn: Callable[[str], None]) -> None:
        self.folder, self.identity, self.warn = folder, identity, warn
        self.verified: set[int] = set()
        self._warned: set[Path] = set()

    def path(self, number: int) -> Path:
        """A file of features."""
        return self.folder / f"{number:06d}.npy"

    def missing(self, count: int) -> list[int]:
        """The numbers, of so many files, that are not there or are not what was written."""
        checksums = self._read()
        for number in set(range(count)) - self.verified:
            if self._sound(self.path(number), checksums):
                self.verified.add(number)
        return [number for number in range(count) if number not in self.verified]

    def add(self, number: int, content: bytes) -> None:
        """Write a file, then its checksum among those that other processes wrote.

        Raises:
            RecordError: as the file system says.
        """
        path = self.path(number)
        try:
            write_atomic(path, content)
            with FileLock(self.folder / "index.lock"):
                checksums = self._read() | {path.name: hashlib.sha256(content).hexdigest()}
                index = {"identity": self.identity, "shards": checksums}
                write_atomic(self.folder / _INDEX, json.dumps(index, indent=1).encode())
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.verified.add(number)

    def _read(self) -> dict[str, str]:
        """Checksums by name; none, and `warn` is told once, where the file is damaged."""
        path = self.folder / _INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["identity"] != self.identity:
                raise ValueError("of other features")
            return {str(name): str(value) for name, value in content["shards"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._warn(path, f"{path} is damaged: the features in its folder are computed anew")
            return {}

    def _sound(self, path: Path, checksums: Mapping[str, str]) -> bool:
        expected = checksums.get(path.name)
        if expected is None:
            return False
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found != expected:
            text = f"the stored features {path} are missing or damaged: they are computed anew"
            self._warn(path, text)
        return found == expected

    def _warn(self, path: Path, text: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            self.warn(text)


@contextmanager
def _claimed(folder: Path, numbers: Sequence[int], most: int) -> Iterator[set[int]]:
    """Files that no other process has at work, at most so many, as this one's for the while.

    Raises:
        RecordError: the folder cannot be written.
    """
    with ExitStack() as stack:
        mine: set[int] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                if len(mine) == most:
                    break
                with suppress(Timeout):
                    stack.enter_context(FileLock(folder / f"{number:06d}.lock", timeout=0))
                    mine.add(number)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield mine


def _unwritable(folder: Path, error: OSError) -> RecordError:
    return RecordError(
        f"cannot write features into {folder}: {error.strerror}; free some space or choose "
        "another folder, then run the same again: what is whole is kept"
    )


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
