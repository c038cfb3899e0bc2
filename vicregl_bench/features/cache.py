"""Features of a list of pictures by a frozen trunk, computed once and never taken for others."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import PIL
import torch
import torchvision
from torch import Tensor

from vicregl_bench.data import Labelled, MultiLabelled, fingerprint, stat_key
from vicregl_bench.data.fingerprint import Splits
from vicregl_bench.digest import json_sha256
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import DataError
from vicregl_bench.features.checksums import Checksums
from vicregl_bench.features.extractor import Extractor, load_crops
from vicregl_bench.features.finite import require_finite
from vicregl_bench.features.shards import Features, encode
from vicregl_bench.features.shared_files import Made, make_together, when_changed

# Raised whenever our code computes or stores features otherwise: older ones no longer count.
# tests/features/test_golden_features.py notices what computes them otherwise.
FEATURE_VERSION = 1
SHARD = 256  # pictures a file, 1 MiB of 2,048 channels: what an interruption loses at the most
CLAIM = 64  # files at once: loading begins anew with every claim

Pictures = Sequence[Labelled | MultiLabelled]


class FeatureCache:
    """A folder of features, in a folder of its own for each key.

    The key is a sha256 over all that decides them: `Extractor.identity`, names, labels and order of
    the pictures, sizes and times of their files, up to 256 MiB also their content, the shard's
    size and `code_version`. In its folder are files of `shards.encode` and an index of their
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
        return json_sha256(self._identity(extractor, pictures, self._states(pictures)))

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
        index = Checksums(self.folder / json_sha256(identity), identity, reporter.warn)
        numbers = {f"{number:06d}.npy": number for number in range(len(states))}
        update = when_changed(reporter.stage(stage, len(pictures)))
        paths = [picture.image for picture in pictures]

        def report(more: int = 0) -> None:
            update(more + sum(self._size(numbers[name], pictures) for name in index.verified))

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

        def make(names: Sequence[str]) -> Made:
            batches = [
                batch
                for name in names
                for batch in self._batches(numbers[name], pictures, batch_size)
            ]
            with closing(load_crops(paths, batches, extractor.transform, workers=workers)) as crops:
                for name in names:
                    yield name, encode(vectors_of(numbers[name], crops))

        make_together(
            index, tuple(numbers), make, claim=self.claim, report=report, check_stop=check_stop
        )
        return Features([index.folder / name for name in numbers], self.shard, len(pictures))

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
            **code_version(),
            **extractor.identity(),
            "shard": self.shard,
            "pictures": len(pictures),
            "labels": labels.hexdigest(),
            "files": json_sha256(list(states)),
            content.kind: content.value,
        }


def code_version() -> dict[str, Any]:
    """What computes features: `FEATURE_VERSION`, and the libraries that read and see pictures."""
    return {
        "feature_version": FEATURE_VERSION,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


def _split(pictures: Pictures) -> Splits:
    """A data set of one split, as `data.fingerprint` takes it."""
    return cast(Splits, {"pictures": pictures})
