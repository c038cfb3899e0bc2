"""The full check before a run: once per state of the files, a clean result remembered.

A run so never meets a damaged file half way, and no picture is decoded twice for nothing.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data.check import Problem, Progress, Report, check_segmentation
from vicregl_bench.data.check_classification import check_classification
from vicregl_bench.data.check_detection import check_detection
from vicregl_bench.data.classification import ClassificationData, MultiLabelData
from vicregl_bench.data.detection import DetectionData
from vicregl_bench.data.fingerprint import stat_key
from vicregl_bench.data.segmentation import SegmentationData
from vicregl_bench.errors import DataError

CACHE_VARIABLE = "VICREGL_BENCH_CACHE"
# Raised whenever the check learns to see more: older memos then no longer count.
CHECK_VERSION = 2
_SHOWN = 5  # problems named in one error message

DataSet = SegmentationData | DetectionData | ClassificationData | MultiLabelData


@dataclass(frozen=True)
class Soundness:
    """The warnings of a data set without errors, and whether an earlier check found them."""

    warnings: tuple[Problem, ...]
    remembered: bool


def check(dataset: DataSet, *, on_progress: Progress | None = None) -> Report:
    """Check a data set of any kind."""
    if isinstance(dataset, DetectionData):
        return check_detection(dataset, on_progress=on_progress)
    if isinstance(dataset, ClassificationData | MultiLabelData):
        return check_classification(dataset, on_progress=on_progress)
    return check_segmentation(dataset, on_progress=on_progress)


def require_sound(
    dataset: DataSet,
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
    report = check(dataset, on_progress=on_progress)
    if not report.ok:
        raise DataError(_summary(report))
    if memo is not None:
        _remember(memo, report)
    return Soundness(report.warnings, remembered=False)


def _default_cache_dir() -> Path:
    override = os.environ.get(CACHE_VARIABLE)
    base = Path(override) if override else platformdirs.user_cache_path("vicregl-bench")
    return base / "data_checks"


def _remembered(memo: Path, key: str, dataset: DataSet) -> tuple[Problem, ...] | None:
    """Return the warnings of an earlier clean check, or None where there is none."""
    try:
        content = json.loads(memo.read_text(encoding="utf-8"))
        known = content["check_version"] == CHECK_VERSION and content["stat_key"] == key
        report = content["report"]
        masks = dataset.masks.kind if isinstance(dataset, SegmentationData) else None
        same = (report["dataset"], report.get("masks")) == (dataset.name, masks)
        if not (known and same and report["ok"] is True):
            return None
        return tuple(Problem(**problem) for problem in report["problems"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memo: Path, report: Report) -> None:
    content = {
        "check_version": CHECK_VERSION,
        "stat_key": memo.stem,
        "report": report.to_json(),
    }
    # a cache that cannot be written only means that the check runs again
    with contextlib.suppress(OSError):
        write_atomic(memo, json.dumps(content).encode())


def _summary(report: Report) -> str:
    errors = report.errors
    named = "; ".join(f"{problem.file}: {problem.text}" for problem in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return (
        f"the data in {report.root} did not pass its check: {named}{more}. For the whole list run "
        f"`vicregl-bench data check {report.dataset} --data-root {report.root}`"
    )
