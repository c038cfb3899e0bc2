"""The full check of a segmentation set: every picture and mask is decoded once.

`check_segmentation` reports all it finds; `require_sound` runs it once per state of the files,
remembers a clean result and raises on errors, so that a run never meets a damaged file half way.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs
from PIL import Image

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data.fingerprint import stat_key
from vicregl_bench.data.segmentation import Pair, SegmentationData
from vicregl_bench.errors import DataError

CACHE_VARIABLE = "VICREGL_BENCH_CACHE"
# Raised whenever the check learns to see more: older memos then no longer count.
CHECK_VERSION = 2
_SHOWN = 5  # problems named in one error message
_CLASSES_SHOWN = 20  # absent classes named in one warning

Progress = Callable[[int, int], None]
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One finding: an error makes runs impossible or wrong, a warning may be intended."""

    severity: Severity
    file: str  # relative to the root, or the name of a split
    text: str


@dataclass(frozen=True)
class CheckReport:
    """What `check_segmentation` found."""

    root: str
    dataset: str
    variant: str
    masks: str  # kind of mask values
    train: int
    val: int
    classes: tuple[str, ...]
    pixels: Mapping[str, tuple[int, ...]]  # by split: every class, then ignored
    pictures: Mapping[str, tuple[int, ...]]  # by split: pictures that show each class
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


@dataclass
class _Finding:
    """What one pair shows."""

    errors: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[tuple[Path, str]] = field(default_factory=list)
    counts: npt.NDArray[np.int64] | None = None  # (256,) pixels by label


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
    problems: list[Problem] = []
    warned: dict[str, list[str]] = {}
    for split, pairs in dataset.splits.items():
        if not pairs:
            problems.append(Problem("error", split, f"the split {split} is empty"))

    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        findings = pool.map(partial(_check_pair, dataset), [pair for _, pair in jobs])
        for done, ((split, _), finding) in enumerate(zip(jobs, findings, strict=True), start=1):
            problems += [
                Problem("error", _shown(path, dataset.root), text) for path, text in finding.errors
            ]
            for path, text in finding.warnings:
                warned.setdefault(text, []).append(_shown(path, dataset.root))
            if finding.counts is not None:
                pixels[split] += finding.counts
                pictures[split] += finding.counts > 0
            if on_progress is not None:
                on_progress(done, len(jobs))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

    for text, files in warned.items():
        more = f" ({len(files) - 1} more files like it)" if len(files) > 1 else ""
        problems.append(Problem("warning", files[0], text + more))
    absent = [name for label, name in enumerate(dataset.classes) if not pictures["val"][label]]
    if absent and dataset.val:
        named = ", ".join(absent[:_CLASSES_SHOWN])
        if len(absent) > _CLASSES_SHOWN:
            named += f" and {len(absent) - _CLASSES_SHOWN} more classes"
        problems.append(
            Problem("warning", "val", f"no val picture shows {named}: no IoU for these")
        )
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
        problems=tuple(problems),
        notes=dataset.notes,
    )


@dataclass(frozen=True)
class Soundness:
    """The warnings of a data set without errors, and whether an earlier check found them."""

    warnings: tuple[Problem, ...]
    remembered: bool


def require_sound(
    dataset: SegmentationData,
    *,
    on_progress: Progress | None = None,
    cache_dir: Path | None = None,
) -> Soundness:
    """Make sure that `dataset` passes the full check, now or in an earlier run.

    A clean check is remembered by `stat_key` in `cache_dir`, by default `data_checks` in the
    user's cache folder or in the folder that the variable VICREGL_BENCH_CACHE names. A cache that
    cannot be read or written only means that the check runs again. Errors are not remembered.

    Raises DataError naming the first problems.
    """
    memo: Path | None = None
    # A missing file leaves no key: the full check then names all that are missing.
    with contextlib.suppress(DataError):
        key = stat_key(dataset.splits)
        memo = (cache_dir or _default_cache_dir()) / f"{key}.json"
        remembered = _remembered(memo, key, dataset)
        if remembered is not None:
            return Soundness(remembered, remembered=True)
    report = check_segmentation(dataset, on_progress=on_progress)
    if not report.ok:
        raise DataError(_summary(report))
    if memo is not None:
        _remember(memo, report)
    return Soundness(report.warnings, remembered=False)


def _default_cache_dir() -> Path:
    override = os.environ.get(CACHE_VARIABLE)
    base = Path(override) if override else platformdirs.user_cache_path("vicregl-bench")
    return base / "data_checks"


def _remembered(memo: Path, key: str, dataset: SegmentationData) -> tuple[Problem, ...] | None:
    """Return the warnings of an earlier clean check, or None where there is none."""
    try:
        content = json.loads(memo.read_text(encoding="utf-8"))
        known = content["check_version"] == CHECK_VERSION and content["stat_key"] == key
        report = content["report"]
        same = (report["dataset"], report["masks"]) == (dataset.name, dataset.masks.kind)
        if not (known and same and report["ok"] is True):
            return None
        return tuple(Problem(**problem) for problem in report["problems"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memo: Path, report: CheckReport) -> None:
    content = {
        "check_version": CHECK_VERSION,
        "stat_key": memo.stem,
        "report": report.to_json(),
    }
    # a cache that cannot be written only means that the check runs again
    with contextlib.suppress(OSError):
        write_atomic(memo, json.dumps(content).encode())


def _summary(report: CheckReport) -> str:
    errors = report.errors
    named = "; ".join(f"{problem.file}: {problem.text}" for problem in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return (
        f"the data in {report.root} did not pass its check: {named}{more}. For the whole list run "
        f"`vicregl-bench data check {report.dataset} --data-root {report.root}`"
    )


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _check_pair(dataset: SegmentationData, pair: Pair) -> _Finding:
    finding = _Finding()
    picture = _decode(pair.image, "picture", finding)
    mask = _decode(pair.mask, "mask", finding)
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


def _decode(path: Path, what: str, finding: _Finding) -> Image.Image | None:
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
    path: Path, mask: Image.Image, dataset: SegmentationData, finding: _Finding
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
