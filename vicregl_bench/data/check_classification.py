"""The full check of a classification set: every picture is decoded once."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vicregl_bench.data.check import (
    FileFindings,
    Problem,
    Problems,
    Progress,
    Report,
    absent_classes,
    decode,
    empty_splits,
    shown,
)
from vicregl_bench.data.classification import (
    ClassificationData,
    Labelled,
    MultiLabelData,
    MultiLabelled,
)

_BATCH = 4096  # pictures handed to the pool at a time: a task each for ImageNet would take 1 GB

_LEAK = "a training picture is tested on"
_TWO_LABELS = "one picture with two labels"
_TWICE = "one picture under two names"


@dataclass(frozen=True, kw_only=True)
class ClassificationReport(Report):
    """What `check_classification` found."""

    pictures: Mapping[str, tuple[int, ...]]  # by split: pictures of each class
    left_out: Mapping[str, tuple[int, ...]]  # by split: with only difficult objects of each class
    leaked: int  # val pictures that are, byte for byte, train's


def check_classification(
    dataset: ClassificationData | MultiLabelData,
    *,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> ClassificationReport:
    """Decode every picture of `dataset` in a thread pool and report what is wrong.

    Errors: a missing, truncated or undecodable picture; an empty split. Warnings: byte for byte the
    same picture in train and val, in a split with two labels, or in a split under two names (one
    warning a kind, with the first two files); a class absent in train or val; a picture that is not
    RGB.

    `on_progress(done, total)` is called in the caller's thread after every picture.
    """
    jobs: list[tuple[str, Labelled | MultiLabelled]] = [
        (split, item) for split, items in dataset.splits.items() for item in items
    ]
    problems = Problems(dataset.root)
    problems.errors += empty_splits(dataset.splits)
    by_content: dict[bytes, tuple[str, Labelled | MultiLabelled]] = {}
    copies: dict[str, list[tuple[Path, Path]]] = {}
    results = _look_at_all([item.image for _, item in jobs], workers)
    for done, ((split, item), (findings, digest)) in enumerate(
        zip(jobs, results, strict=True), start=1
    ):
        problems.add(findings)
        if digest is not None:
            first_split, first = by_content.setdefault(digest, (split, item))
            if first is not item:
                kind = _kind(split, item, first_split, first)
                copies.setdefault(kind, []).append((item.image, first.image))
        if on_progress is not None:
            on_progress(done, len(jobs))

    classes = range(len(dataset.classes))
    present = {split: _count(items, 1, classes) for split, items in dataset.splits.items()}
    absent = absent_classes(
        dataset.classes,
        dataset.val,
        present["val"],
        "accuracy" if isinstance(dataset, ClassificationData) else "AP",
    )
    return ClassificationReport(
        root=str(dataset.root),
        dataset=dataset.name,
        variant=dataset.variant,
        train=len(dataset.train),
        val=len(dataset.val),
        classes=dataset.classes,
        pictures=present,
        left_out={split: _count(items, 0, classes) for split, items in dataset.splits.items()},
        leaked=len(copies.get(_LEAK, [])),
        problems=(
            *problems.listed(),
            *_copy_warnings(copies, dataset.root),
            *_untrained(dataset, present["train"]),
            *absent,
        ),
        notes=dataset.notes,
    )


def _look_at_all(
    paths: Sequence[Path], workers: int | None
) -> Iterator[tuple[FileFindings, bytes | None]]:
    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(paths), _BATCH):
            yield from pool.map(_look, paths[start : start + _BATCH])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _look(path: Path) -> tuple[FileFindings, bytes | None]:
    """What is wrong with a picture, and the sha256 of its file where it can be decoded."""
    findings = FileFindings()
    image = decode(path, "picture", findings)
    if image is None:
        return findings, None
    if image.mode != "RGB":
        kind = "greyscale" if image.mode in ("L", "LA") else f"of mode {image.mode}"
        findings.warnings.append((path, f"the picture is {kind}; it is read as RGB"))
    with path.open("rb") as file:
        return findings, hashlib.file_digest(file, "sha256").digest()


def _kind(
    split: str,
    item: Labelled | MultiLabelled,
    first_split: str,
    first: Labelled | MultiLabelled,
) -> str:
    if split != first_split:
        return _LEAK
    return _TWICE if _labels(item) == _labels(first) else _TWO_LABELS


def _labels(item: Labelled | MultiLabelled) -> object:
    return item.label if isinstance(item, Labelled) else item.labels


def _count(
    items: Sequence[Labelled | MultiLabelled], value: int, classes: range
) -> tuple[int, ...]:
    """Pictures that have each class (1), or only difficult objects of it (0)."""
    counts = [0] * len(classes)
    for item in items:
        if isinstance(item, Labelled):
            counts[item.label] += value
        else:
            for label in classes:
                counts[label] += item.labels[label] == value
    return tuple(counts)


def _copy_warnings(
    copies: Mapping[str, Sequence[tuple[Path, Path]]], root: Path
) -> Iterator[Problem]:
    for kind, pairs in copies.items():
        path, first = pairs[0]
        more = f" ({len(pairs) - 1:,} more pictures like it)" if len(pairs) > 1 else ""
        text = f"byte for byte {shown(first, root)}: {kind}{more}"
        yield Problem("warning", shown(path, root), text)


def _untrained(
    dataset: ClassificationData | MultiLabelData, counts: Sequence[int]
) -> Iterator[Problem]:
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if absent and dataset.train:
        text = f"{len(absent):,} classes have no train picture, the first is {absent[0]}"
        yield Problem("warning", "train", text)
