"""Features of a list of pictures by a frozen trunk, computed once and never taken for others."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data import Labelled, MultiLabelled, fingerprint, stat_key
from vicregl_bench.data.fingerprint import Splits
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import CheckpointError, DataError, RecordError
from vicregl_bench.features.extractor import Extractor, load_crops
from vicregl_bench.features.shards import Features, encode

# Raised whenever the code here computes or stores features otherwise: older ones no longer count.
FEATURE_VERSION = 1
SHARD = 1024  # pictures a file: 4 MiB of 2,048 channels
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
    """

    def __init__(self, folder: Path, *, shard: int = SHARD) -> None:
        self.folder, self.shard = folder, shard

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
        a warning. Where another process computes the same, this one waits for it. What is whole
        when it is stopped is used by the next call, which gives bit for bit what an uninterrupted
        one gives, with the same batch size.

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
        home = self.folder / _sha256(identity)
        lock = FileLock(home / "lock")
        _acquire(lock, check_stop)
        try:
            index = _Index(home, identity, reporter.warn)
            missing = [number for number in range(len(states)) if not index.sound(number)]
            plan = {number: self._batches(number, pictures, batch_size) for number in missing}
            done = len(pictures) - sum(len(batch) for part in plan.values() for batch in part)
            update = reporter.stage(stage, len(pictures))
            update(done)
            with closing(
                load_crops(
                    [picture.image for picture in pictures],
                    [batch for part in plan.values() for batch in part],
                    extractor.transform,
                    workers=workers,
                )
            ) as crops:
                for number, part in plan.items():
                    vectors: list[Tensor] = []
                    for batch in part:
                        check_stop()
                        vectors.append(extractor(next(crops)))
                        _require_finite(vectors[-1], pictures[batch.start : batch.stop])
                        done += len(batch)
                        update(done)
                    if self._state(number, pictures) != states[number]:
                        first, last = pictures[part[0].start], pictures[part[-1].stop - 1]
                        raise DataError(
                            f"a picture between {first.image} and {last.image} was changed while "
                            "features were computed: run the same again"
                        )
                    index.add(number, encode(torch.cat(vectors)))
        finally:
            lock.release()
        paths = [index.path(number) for number in range(len(states))]
        return Features(paths, self.shard, len(pictures))

    def _batches(self, number: int, pictures: Pictures, size: int) -> list[range]:
        """Indices of the batches of one file: the same whatever else is to be computed."""
        begin = number * self.shard
        end = min(len(pictures), begin + self.shard)
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


def _require_finite(vectors: Tensor, pictures: Pictures) -> None:
    """Raise CheckpointError naming a picture whose features are not finite."""
    finite = vectors.isfinite().all(dim=1).tolist()
    for picture, fine in zip(pictures, finite, strict=True):
        if not fine:
            raise CheckpointError(
                f"the backbone gives features of {picture.image} that are not finite: look at its "
                "weights and their preprocessing, and at --precision"
            )


class _Index:
    """The checksums of the files in a folder.

    Args:
        folder: of one key.
        identity: what the key was taken over, kept for people.
        warn: told of what does not count.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], warn: Callable[[str], None]) -> None:
        self.folder, self.identity, self.warn = folder, identity, warn
        self.checksums: dict[str, str] = {}
        path = folder / _INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["identity"] != identity:
                raise ValueError("of other features")
            self.checksums = {str(name): str(value) for name, value in content["shards"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            warn(f"{path} is damaged: the features in its folder are computed anew")

    def path(self, number: int) -> Path:
        """A file of features."""
        return self.folder / f"{number:06d}.npy"

    def sound(self, number: int) -> bool:
        """Whether a file is there and is what was written."""
        path = self.path(number)
        expected = self.checksums.get(path.name)
        if expected is None:
            return False
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found != expected:
            self.warn(f"the stored features {path} are missing or damaged: they are computed anew")
        return found == expected

    def add(self, number: int, content: bytes) -> None:
        """Write a file, then its checksum.

        Raises:
            RecordError: as the file system says.
        """
        path = self.path(number)
        self.checksums[path.name] = hashlib.sha256(content).hexdigest()
        index = {"identity": self.identity, "shards": self.checksums}
        try:
            write_atomic(path, content)
            write_atomic(self.folder / _INDEX, json.dumps(index, indent=1).encode())
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def _acquire(lock: FileLock, check_stop: Callable[[], None]) -> None:
    """Wait until no other process has the lock.

    Raises:
        RecordError: the folder cannot be written.
    """
    folder = Path(lock.lock_file).parent
    while True:
        check_stop()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_POLL_S)
        except Timeout:
            continue
        except OSError as error:
            raise _unwritable(folder, error) from error
        return


def _unwritable(folder: Path, error: OSError) -> RecordError:
    return RecordError(
        f"cannot write features into {folder}: {error.strerror}; free some space or choose "
        "another folder, then run the same again: what is whole is kept"
    )


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
