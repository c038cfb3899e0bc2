"""The full check of a detection set: every picture is decoded and every annotation read once."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vicregl_bench.data.check import (
    FileFindings,
    Problems,
    Progress,
    Report,
    absent_classes,
    decode,
    empty_splits,
    shown,
)
from vicregl_bench.data.detection import Annotations, DetectionData, Picture, shared_names


@dataclass(frozen=True, kw_only=True)
class DetectionReport(Report):
    """What `check_detection` found."""

    objects: Mapping[str, tuple[int, ...]]  # by split: objects of each class, ignored ones left out
    pictures: Mapping[str, tuple[int, ...]]  # by split: pictures that show each class so
    ignored: Mapping[str, int]  # by split: difficult objects and crowds
    empty: Mapping[str, int]  # by split: pictures without any object


@dataclass
class _Seen:
    """What one picture shows."""

    findings: FileFindings
    annotations: Annotations | None
    sha256: str | None


def check_detection(
    dataset: DetectionData,
    *,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> DetectionReport:
    """Decode every picture of `dataset` in a thread pool, read its objects, report what is wrong.

    Errors: a missing, truncated or undecodable picture; a missing or malformed XML or JSON; an
    unknown class, category or image id; COCO categories other than the official ones; a box that
    is empty (VOC), of negative size, or more than a pixel outside of the picture; a size other
    than the picture's; a segmentation that is neither polygons nor a run-length code of the
    picture's size; a picture listed for train and val; an empty split. Warnings: byte for byte the
    same picture under two names; a box a pixel outside of the picture or a pixel wide (VOC), an
    object that mmdet leaves out (COCO), a class absent in val, a picture that is not RGB.

    `on_progress(done, total)` is called in the caller's thread after every picture.
    """
    jobs = [(split, picture) for split, pictures in dataset.splits.items() for picture in pictures]
    classes = len(dataset.classes)
    objects = {split: np.zeros(classes, dtype=np.int64) for split in dataset.splits}
    pictures = {split: np.zeros(classes, dtype=np.int64) for split in dataset.splits}
    ignored = dict.fromkeys(dataset.splits, 0)
    empty = dict.fromkeys(dataset.splits, 0)
    problems = Problems(dataset.root)
    problems.errors += empty_splits(dataset.splits)
    for finding in dataset.reader.shared():  # and parses what is common to many pictures, once
        problems.add_error(finding.path, finding.text)
    twice = {picture.image for picture in shared_names(dataset.train, dataset.val)}
    by_content: dict[str, tuple[str, Picture]] = {}

    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        results = pool.map(partial(_look, dataset), [picture for _, picture in jobs])
        for done, ((split, picture), seen) in enumerate(zip(jobs, results, strict=True), start=1):
            problems.add(seen.findings)
            if split == "val" and picture.image in twice:
                problems.add_error(picture.image, _LEAK)
            elif seen.sha256 is not None:
                first_split, first = by_content.setdefault(seen.sha256, (split, picture))
                if first is not picture:
                    text = (
                        f"byte for byte {shown(first.image, dataset.root)} of {first_split}: "
                        + (
                            "tested on a training picture"
                            if split != first_split
                            else "listed under two names"
                        )
                    )
                    problems.add_warning(picture.image, text)
            if seen.annotations is not None:
                counts = _counts(seen.annotations, classes)
                objects[split] += counts
                pictures[split] += counts > 0
                ignored[split] += int(seen.annotations.ignored.sum())
                empty[split] += not len(seen.annotations.labels)
            if on_progress is not None:
                on_progress(done, len(jobs))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

    absent = absent_classes(dataset.classes, dataset.val, pictures["val"].tolist(), "AP")
    return DetectionReport(
        root=str(dataset.root),
        dataset=dataset.name,
        variant=dataset.variant,
        train=len(dataset.train),
        val=len(dataset.val),
        classes=dataset.classes,
        objects={split: tuple(counts.tolist()) for split, counts in objects.items()},
        pictures={split: tuple(counts.tolist()) for split, counts in pictures.items()},
        ignored=ignored,
        empty=empty,
        problems=(*problems.listed(), *absent),
        notes=dataset.notes,
    )


_LEAK = "the picture is listed for train and val: training pictures must not be tested on"


def _look(dataset: DetectionData, picture: Picture) -> _Seen:
    findings = FileFindings()
    image = decode(picture.image, "picture", findings)
    annotations, found = dataset.reader.read(picture)
    for finding in found:
        kind = findings.errors if finding.severity == "error" else findings.warnings
        kind.append((finding.path, finding.text))
    sha256 = None
    if image is not None:
        if image.mode != "RGB":
            grey = "greyscale" if image.mode in ("L", "LA") else f"of mode {image.mode}"
            findings.warnings.append((picture.image, f"the picture is {grey}; it is read as RGB"))
        with picture.image.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if annotations is not None and image.size != (annotations.width, annotations.height):
            text = (
                f"the annotation of {picture.image.name} is for {annotations.width}x"
                f"{annotations.height}, the picture {image.width}x{image.height}"
            )
            findings.errors.append((picture.annotation, text))
    return _Seen(findings, annotations, sha256)


def _counts(annotations: Annotations, classes: int) -> npt.NDArray[np.int64]:
    labels = annotations.labels[~annotations.ignored]
    return np.bincount(labels, minlength=classes).astype(np.int64)
