"""A memory of labelled patches, and how its nearest ones label a patch.

The dense retrieval of Balazevic et al. 2023, "Towards In-Context Scene Understanding" (2306.01667):
vectors of training patches beside the distribution of the labels in each; a patch's label is the
mean distribution of its nearest ones, weighted by a softmax of their cosine similarities. What the
paper leaves open is as in open-hummingbird-eval (vpariza). Deviations from the latter: ignored
pixels are left out of the distributions, there they are background; distributions are of the
annotation's own pixels, not of a resized one; the search is exact; votes are resized once more, to
the annotation's size, and scored there, while it upsamples them once to the input square and scores
at that size.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vicregl_bench.errors import DataError, RecordError
from vicregl_bench.features.checksums import Checksums
from vicregl_bench.features.extractor import Transform, load_crops
from vicregl_bench.features.finite import require_finite
from vicregl_bench.features.shards import Features, encode

FloatArray = npt.NDArray[np.float32]

MAP_BATCH = 8  # pictures a forward
_SHARD = 16384  # vectors a file, about: 64 MiB of 2,048 channels
_AT_ONCE = 2**25  # elements of neighbours' distributions: 128 MiB


def patch_labels(labels: npt.NDArray[np.uint8], classes: int, grid: tuple[int, int]) -> FloatArray:
    """Distribution (h * w, C) of the labels in every patch of a grid over an annotation.

    A pixel belongs to the patch that its upper left corner lies in; pixels of no class are left
    out. Rows of patches that have no others are zero.

    Args:
        labels: (H, W).
        classes: C.
        grid: (h, w) patches.
    """
    rows, columns = (
        np.arange(length) * count // length
        for length, count in zip(labels.shape, grid, strict=True)
    )
    patches = rows[:, None] * grid[1] + columns
    counted = labels < classes
    cells = patches[counted] * classes + labels[counted]
    counts = np.bincount(cells, minlength=grid[0] * grid[1] * classes).reshape(-1, classes)
    shares: FloatArray = (counts / np.maximum(1, counts.sum(axis=1, keepdims=True))).astype("f4")
    return shares


def choose_patches(shares: FloatArray, count: int, seed: Sequence[int]) -> npt.NDArray[np.int64]:
    """Indices, in order, of the patches of a picture that are remembered.

    As open-hummingbird-eval draws them: the `count` smallest of u * n, with u uniform and n the
    sum over the classes in a patch of how many patches have each. Rare classes so come first.
    Patches without labels are never chosen.

    Args:
        shares: (patches, C) of `patch_labels`.
        count: how many at the most.
        seed: of the draw.
    """
    there = shares > 0
    labelled = np.flatnonzero(there.any(axis=1))
    if len(labelled) <= count:
        return labelled
    common = there @ there.sum(axis=0)
    keys = common[labelled] * np.random.default_rng(list(seed)).random(len(labelled))
    return np.sort(labelled[np.argsort(keys, kind="stable")[:count]])


@dataclass(frozen=True)
class Annotated:
    """Pictures with annotations.

    Attributes:
        paths: of the pictures.
        labels: gives the annotation (H, W) of the picture of an index.
        classes: C; larger labels are ignored.
    """

    paths: Sequence[Path]
    labels: Callable[[int], npt.NDArray[np.uint8]]
    classes: int


class DenseBank:
    """Vectors (M, D) of remembered patches in files, `bank[a:b]`, and their label distributions.

    Args:
        paths: of the files of vectors, in order; beside each lies that of its labels.

    Attributes:
        labels: (M, C) float16, in memory: 430 MB for ten million patches of VOC's 21 classes.

    Raises:
        RecordError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        parts = [_read_labels(path) for path in paths]
        self.labels = torch.from_numpy(np.concatenate(parts))
        self._begins = np.cumsum([0, *map(len, parts)]).tolist()
        # a file is opened for as long as it is read
        self._shards = [
            Features([path], len(part), len(part)) if len(part) else None
            for path, part in zip(paths, parts, strict=True)
        ]
        width = next((one.shape[1] for one in self._shards if one is not None), 0)
        self.shape = (self._begins[-1], width)

    def __getitem__(self, rows: slice) -> Tensor:
        """Some vectors in a row, float32.

        Raises:
            ValueError: the slice has a step.
            RecordError: a file went away or broke.
        """
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError("vectors are read in a row: no step")
        parts = [
            shard[max(start - begin, 0) : max(stop - begin, 0)]
            for shard, begin in zip(self._shards, self._begins[:-1], strict=True)
            if shard is not None and begin < stop and begin + len(shard) > start
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.shape[1])


def build_bank(
    folder: Path,
    pictures: Annotated,
    maps: Callable[[Tensor], Tensor],
    transform: Transform,
    *,
    per_picture: int,
    seed: int,
    identity: Mapping[str, Any],
    workers: int = 0,
    warn: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int], None] = lambda done: None,
    check_stop: Callable[[], None] = lambda: None,
) -> DenseBank:
    """Remember patches of pictures in a folder, as far as it does not have them.

    What is whole when it is stopped is used by the next call, which gives the same bank: files that
    pass their checksums, of the same identity. Takes the memory of one file of vectors and of the
    maps of a few pictures.

    Args:
        folder: which belongs to these pictures and numbers alone.
        pictures: of train.
        maps: of crops (B, 3, H, W) uint8, (B, D, h, w).
        transform: of every picture, which shows all of it.
        per_picture: patches of each at the most.
        seed: of the choice of patches.
        identity: all that decides the maps, as JSON values.
        workers: data loading processes.
        warn: told of files that are computed anew.
        on_progress: told how many pictures are done.
        check_stop: called between batches; raises where the run is to stop.

    Raises:
        DataError: a picture or annotation cannot be read, or none has a labelled patch.
        CheckpointError: features that are not finite.
        RecordError: the folder cannot be written.
    """
    size = max(1, _SHARD // per_picture)
    total = len(pictures.paths)
    groups = [range(first, min(total, first + size)) for first in range(0, total, size)]
    paths = [folder / f"{number:06d}.npy" for number in range(len(groups))]
    stored = Checksums(folder, identity, warn)
    gone = set(stored.missing([name for path in paths for name in _names(path)]))
    missing = [
        (path, group)
        for path, group in zip(paths, groups, strict=True)
        if gone.intersection(_names(path))
    ]
    done = total - sum(len(group) for _, group in missing)
    on_progress(done)
    plan = [(path, batches_of(group)) for path, group in missing]
    with closing(
        load_crops(
            pictures.paths, [one for _, part in plan for one in part], transform, workers=workers
        )
    ) as crops:
        for path, part in plan:
            vectors: list[Tensor] = []
            labels: list[FloatArray] = []
            for batch in part:
                check_stop()
                found = maps(next(crops))
                require_finite(found, pictures.paths[batch.start : batch.stop])
                grid = (found.shape[2], found.shape[3])
                for index, one in zip(batch, found, strict=True):
                    shares = patch_labels(pictures.labels(index), pictures.classes, grid)
                    chosen = choose_patches(shares, per_picture, (seed, index))
                    vectors.append(one.flatten(1).T[torch.from_numpy(chosen).to(one.device)].cpu())
                    labels.append(shares[chosen])
                done += len(batch)
                on_progress(done)
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(labels).astype(np.float16), allow_pickle=False)
            contents = (encode(torch.cat(vectors)), buffer.getvalue())
            stored.add(dict(zip(_names(path), contents, strict=True)))
    bank = DenseBank(paths)
    if not bank.shape[0]:
        raise DataError("no training picture has a labelled pixel: check the annotations")
    return bank


def weighted_labels(
    similarities: Tensor,
    indices: Tensor,
    labels: Tensor,
    ks: Sequence[int],
    temperature: float,
) -> Tensor:
    """Label distributions (len(ks), Q, C), float32, of patches by their nearest ones.

    The mean of the nearest k's distributions, weighted by softmax(similarity / temperature).

    Args:
        similarities: (Q, k) of the nearest patches, nearest first.
        indices: (Q, k) of the same.
        labels: (M, C) distributions of the memory.
        ks: numbers of neighbours, each no larger than k.
        temperature: of the softmax.
    """
    classes = labels.shape[1]
    out = torch.empty(len(ks), len(similarities), classes)
    step = max(1, _AT_ONCE // (similarities.shape[1] * classes))
    for first in range(0, len(similarities), step):
        rows = slice(first, first + step)
        near = labels[indices[rows]].float()
        for number, k in enumerate(ks):
            weights = (similarities[rows, :k] / temperature).softmax(dim=1)
            out[number, rows] = torch.einsum("qk,qkc->qc", weights, near[:, :k])
    return out


def batches_of(group: range) -> list[range]:
    """A range of indices in batches of `MAP_BATCH`."""
    return [
        range(first, min(group.stop, first + MAP_BATCH))
        for first in range(group.start, group.stop, MAP_BATCH)
    ]


def _labels_path(path: Path) -> Path:
    return path.with_suffix(".labels.npy")


def _names(path: Path) -> tuple[str, str]:
    """Of a file of vectors and of that of its labels."""
    return path.name, _labels_path(path).name


def _read_labels(path: Path) -> npt.NDArray[np.float16]:
    own = _labels_path(path)
    try:
        labels: npt.NDArray[np.float16] = np.load(own, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordError(
            f"the memory's file {own} went away or broke: run the same again"
        ) from error
    return labels
