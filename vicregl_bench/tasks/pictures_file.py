"""What a record keeps of every val picture, read back: `pictures_file`, beside the record."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.tasks.outcome import Outcome

_ROUNDING = 0.01
"""Points between a record's scores, by class too, and those of its file: records round to four
decimals, files of detections hold float32."""


@dataclass(frozen=True)
class Measurement:
    """A record and what its best point's heads did.

    Attributes:
        path: of the record.
        record: with a best point.
        outcome: of all heads that are kept.
        heads: of these, the best point's, one a seed.
    """

    path: Path
    record: Record
    outcome: Outcome
    heads: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        best = self.record.best
        return () if best is None else tuple(best.by_class)


def outcome_class(metric: str) -> type[Outcome]:
    """Which class reads the file of a task with this metric.

    Raises:
        RecordError: no task has it.
    """
    match metric:
        case "miou":
            from vicregl_bench.tasks.segmentation.outcome import PictureAreas

            return PictureAreas
        case "top1" | "mean_per_class":
            from vicregl_bench.tasks.classification.outcome import LabelRanks

            return LabelRanks
        case "map":
            from vicregl_bench.tasks.classification.multi_label_outcome import MultiLabelScores

            return MultiLabelScores
        case "match_accuracy":
            from vicregl_bench.tasks.correspondence.outcome import MatchShares

            return MatchShares
        case "ap":
            from vicregl_bench.engine.mmcv_ext import install_mmcv_ext

            install_mmcv_ext()  # mmdet settles at its import which of mmcv's operators there are
            from vicregl_bench.tasks.detection.outcome import DetectionOutcome

            return DetectionOutcome
        case _:
            raise RecordError(f"no task has the metric {metric!r}")


def read_measurement(path: Path, record: Record) -> Measurement:
    """Read what a record keeps of every val picture.

    Args:
        path: of the record.
        record: read from there.

    Raises:
        RecordError: the record has no best point or keeps no such file, or the file is missing,
            damaged, of other heads or classes than the record, or does not give its scores, over
            all or by class.
    """
    best = record.best
    if best is None:
        raise RecordError(
            f"{path} has no score to compare: its status is {record.status}; run its task again"
            f"{' with smaller learning rates (--lrs)' if record.status == 'diverged' else ''}"
        )
    name = record.pictures_file
    if name is None:
        raise RecordError(f"{path} keeps nothing of its pictures; run its task again with --force")
    if Path(name).name != name:
        raise RecordError(f"{path} names a file of pictures that is not beside it: {name!r}")
    file = path.parent / name
    try:
        arrays = read_arrays(file)
    except FileNotFoundError as error:
        raise RecordError(
            f"{file} is missing: put it beside its record, or run the task again with --force"
        ) from error
    kind = outcome_class(record.task.metric)
    try:
        outcome = kind.from_arrays(arrays)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise RecordError(
            f"{file} is not what {record.task.name} keeps of its pictures: {missing}"
        ) from error
    heads = _best_heads(file, record, outcome)
    once = np.ones((1, len(outcome.names)))
    point = outcome.weighted(heads, once)[0]
    if len(point) - 1 != len(best.by_class):
        raise RecordError(
            f"{file} is of {len(point) - 1} classes, its record of {len(best.by_class)}"
        )
    names = ("all", *best.by_class)
    for name, found, said in zip(names, point, (best.score, *best.by_class.values()), strict=True):
        if not _same(float(found), said):
            raise RecordError(
                f"{file} is not that of {path}: of {name} it gives {_text(found)}, the record says "
                f"{_text(said)}; run the task again with --force"
            )
    return Measurement(path, record, outcome, heads)


def _same(found: float, said: float | None) -> bool:
    """Whether a score of the file (NaN for none) is the record's."""
    if said is None or math.isnan(found):
        return said is None and math.isnan(found)
    return abs(found - said) <= _ROUNDING


def _text(score: float | None) -> str:
    return "none" if score is None or math.isnan(score) else f"{score:.2f}"


def _best_heads(file: Path, record: Record, outcome: Outcome) -> tuple[int, ...]:
    """Which of the kept heads are the best point's: all, or those of its place in the grid."""
    best, results = record.best, record.results
    assert best is not None
    if outcome.heads == len(results):
        return tuple(
            k
            for k, one in enumerate(results)
            if (one.lr, one.options) == (best.lr, best.options) and one.score is not None
        )
    if outcome.heads != best.seeds:
        raise RecordError(
            f"{file} is of {outcome.heads} heads, its record of {len(results)}, "
            f"{best.seeds} of them at the best point"
        )
    return tuple(range(outcome.heads))
