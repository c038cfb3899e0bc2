"""The full check of a segmentation set: every picture and mask is decoded once.

`check_segmentation` reports all it finds. What other checks share is here too: `Report`, `Problems`
and the decoding of one file.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicregl_bench.data.detection import Severity
from vicregl_bench.data.segmentation import Pair, SegmentationData

_CLASSES_SHOWN = 20  # absent classes named in one warning

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Problem:
    """One finding: an error makes runs impossible or wrong, a warning may be intended."""

    severity: Severity
    file: str  # relative to the root, or the name of a split
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the check of any data set found."""

    root: str
    dataset: str
    variant: str
    train: int
    val: int
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that forbid a run."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that only deserve a look."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON types, with `ok`."""
        report = json.loads(json.dumps(asdict(self)))
        return {"ok": self.ok, **report}


@dataclass(frozen=True, kw_only=True)
class CheckReport(Report):
    """What `check_segmentation` found."""

    masks: str  # kind of mask values
    pixels: Mapping[str, tuple[int, ...]]  # by split: every class, then ignored
    pictures: Mapping[str, tuple[int, ...]]  # by split: pictures that show each class


@dataclass
class FileFindings:
    """What the files of one pair or picture show."""

    errors: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[tuple[Path, str]] = field(default_factory=list)
    counts: npt.NDArray[np.int64] | None = None  # (256,) pixels by label, of a mask


@dataclass
class Problems:
    """Collects problems of files in `root`; warnings of one text become one."""

    root: Path
    errors: list[Problem] = field(default_factory=list)
    warned: dict[str, list[str]] = field(default_factory=dict)

    def add_error(self, path: Path, text: str) -> None:
        """An error of a file."""
        self.errors.append(Problem("error", shown(path, self.root), text))

    def add_warning(self, path: Path, text: str) -> None:
        """A warning of a file, possibly one of many."""
        self.warned.setdefault(text, []).append(shown(path, self.root))

    def add(self, findings: FileFindings) -> None:
        """All findings of a pair or picture."""
        for path, text in findings.errors:
            self.add_error(path, text)
        for path, text in findings.warnings:
            self.add_warning(path, text)

    def listed(self) -> list[Problem]:
        """The errors as they came, then the warnings."""
        gathered = []
        for text, files in self.warned.items():
            more = f" ({len(files) - 1} more files like it)" if len(files) > 1 else ""
            gathered.append(Problem("warning", files[0], text + more))
        return [*self.errors, *gathered]


def check_segmentation(
    dataset: SegmentationData,
    *,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Decode every picture and mask of `dataset` in a thread pool and report what is wrong.

    Errors: a missing, truncated or undecodable picture or mask; a mask that is neither palette (P)
    nor greyscale (L); a value that the data set's masks cannot hold; a mask of another size than
    its picture; an empty split. Warnings: a palette other than VOC's for the labels present, any
    palette where masks are greyscale, a class absent in val, a picture that is not RGB. Warnings of
    one kind are gathered into one.

    `on_progress(done, total)` is called in the caller's thread after every pair.
    """
    jobs = [(split, pair) for split, pairs in dataset.splits.items() for pair in pairs]
    pixels = {split: np.zeros(256, dtype=np.int64) for split in dataset.splits}
    pictures = {split: np.zeros(256, dtype=np.int64) for split in dataset.splits}
    problems = Problems(dataset.root)
    problems.errors += empty_splits(dataset.splits)

    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        findings = pool.map(partial(_check_pair, dataset), [pair for _, pair in jobs])
        for done, ((split, _), finding) in enumerate(zip(jobs, findings, strict=True), start=1):
            problems.add(finding)
            if finding.counts is not None:
                pixels[split] += finding.counts
                pictures[split] += finding.counts > 0
            if on_progress is not None:
                on_progress(done, len(jobs))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

    absent = absent_classes(dataset.classes, dataset.val, pictures["val"].tolist(), "IoU")
    classes = len(dataset.classes)
    bins = [*range(classes), dataset.ignore]
    return CheckReport(
        root=str(dataset.root),
        dataset=dataset.name,
        variant=dataset.variant,
        masks=dataset.masks.kind,
        train=len(dataset.train),
        val=len(dataset.val),
        classes=dataset.classes,
        pixels={split: tuple(counts[bins].tolist()) for split, counts in pixels.items()},
        pictures={split: tuple(counts[:classes].tolist()) for split, counts in pictures.items()},
        problems=(*problems.listed(), *absent),
        notes=dataset.notes,
    )


def empty_splits(splits: Mapping[str, Sequence[object]]) -> list[Problem]:
    """An error for every split without pictures."""
    return [
        Problem("error", split, f"the split {split} is empty")
        for split, items in splits.items()
        if not items
    ]


def absent_classes(
    classes: Sequence[str], val: Sequence[object], counts: Sequence[int], metric: str
) -> list[Problem]:
    """A warning that names the classes no picture of `val` shows, by `counts`; none for no val."""
    if not val:
        return []
    absent = [name for name, count in zip(classes, counts, strict=False) if not count]
    if not absent:
        return []
    named = ", ".join(absent[:_CLASSES_SHOWN])
    if len(absent) > _CLASSES_SHOWN:
        named += f" and {len(absent) - _CLASSES_SHOWN} more classes"
    return [Problem("warning", "val", f"no val picture shows {named}: no {metric} for these")]


def shown(path: Path, root: Path) -> str:
    """A file as reports name it: relative to the root."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _check_pair(dataset: SegmentationData, pair: Pair) -> FileFindings:
    finding = FileFindings()
    picture = decode(pair.image, "picture", finding)
    mask = decode(pair.mask, "mask", finding)
    if picture is not None and picture.mode != "RGB":
        kind = "greyscale" if picture.mode in ("L", "LA") else f"of mode {picture.mode}"
        finding.warnings.append((pair.image, f"the picture is {kind}; it is read as RGB"))
    if picture is not None and mask is not None and picture.size != mask.size:
        finding.errors.append(
            (pair.mask, f"the mask is {_size(mask)}, its picture {_size(picture)}")
        )
    if mask is not None:
        _check_labels(pair.mask, mask, dataset, finding)
    return finding


def decode(path: Path, what: str, finding: FileFindings) -> Image.Image | None:
    """Decode a file whole; None, and an error in `finding`, where that fails."""
    if not path.is_file():
        finding.errors.append((path, f"the {what} is missing"))
        return None
    try:
        with Image.open(path) as image:
            image.verify()  # checksums of PNG chunks, which decoding does not look at
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more
        finding.errors.append((path, f"the {what} is truncated or cannot be decoded ({error})"))
        return None


def _check_labels(
    path: Path, mask: Image.Image, dataset: SegmentationData, finding: FileFindings
) -> None:
    masks = dataset.masks
    if mask.mode not in ("P", "L"):
        form = "palette" if masks.coloured else "greyscale"
        finding.errors.append(
            (
                path,
                f"the mask is of mode {mask.mode}: a {form} PNG with class indices is needed, "
                f"convert its colours to labels ({masks.text})",
            )
        )
        return
    values = np.asarray(mask)  # of a P image: the indices
    counts = np.bincount(values.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    impossible = [value for value in present.tolist() if value not in masks.labels]
    if impossible:
        finding.errors.append(
            (
                path,
                f"the mask holds the label{'s' if len(impossible) > 1 else ''} "
                f"{', '.join(map(str, impossible))}: {masks.text}",
            )
        )
    if mask.mode == "P" and not masks.coloured:
        finding.warnings.append((path, "the mask has a palette; its indices are taken as labels"))
    elif mask.mode == "P" and not _is_own_palette(mask, present, dataset):
        finding.warnings.append(
            (path, "the mask's palette is not VOC's: its indices may mean other classes")
        )
    counts[impossible] = 0
    finding.counts = np.zeros(256, dtype=np.int64)
    np.add.at(finding.counts, masks.lookup, counts)


def _is_own_palette(
    mask: Image.Image, values: npt.NDArray[np.intp], dataset: SegmentationData
) -> bool:
    flat = mask.getpalette("RGB") or []
    colours = np.zeros((256, 3), dtype=np.int64)
    colours.reshape(-1)[: len(flat)] = flat
    labels = dataset.masks.lookup[values]
    shown = labels < len(dataset.classes)
    return bool((colours[values[shown]] == dataset.colour_map()[labels[shown]]).all())


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
