"""From histograms to results: scores of every head, the best learning rate, what is kept."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vicregl_bench.records import Best, HeadResult
from vicregl_bench.records.arrays import write_arrays
from vicregl_bench.tasks.segmentation.metric import FloatArray, PictureAreas, bootstrap_interval
from vicregl_bench.tasks.segmentation.training import Measured


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def _by_class(classes: Sequence[str], row: FloatArray) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(classes, row, strict=True)}


def head_results(measured: Measured, classes: Sequence[str]) -> tuple[HeadResult, ...]:
    """Scores of every head in percent; a diverged head has none."""
    areas, held, diverged = measured.scores.areas, measured.scores.held, measured.diverged_at
    iou = areas.iou() if areas is not None else None
    accuracy = areas.pixel_accuracy() if areas is not None else None
    held_iou = held.iou() if held is not None else None
    results = []
    for k, head in enumerate(measured.heads):
        if diverged[k] >= 0 or iou is None or accuracy is None:
            results.append(
                HeadResult(
                    lr=head.lr,
                    seed=head.seed,
                    score=None,
                    diverged_at=diverged[k] if diverged[k] >= 0 else None,
                )
            )
            continue
        results.append(
            HeadResult(
                lr=head.lr,
                seed=head.seed,
                score=_number(np.nanmean(iou[k])),
                scores={
                    "miou": _number(np.nanmean(iou[k])),
                    "pixel_accuracy": _number(accuracy[k]),
                },
                by_class=_by_class(classes, iou[k]),
                holdout=_number(np.nanmean(held_iou[k])) if held_iou is not None else None,
            )
        )
    return tuple(results)


def choose_best(
    results: Sequence[HeadResult], classes: Sequence[str], areas: PictureAreas
) -> Best | None:
    """The learning rate with the highest mean score over its seeds, and its mIoU on val.

    The score is the held-out slice's where there is one, val's else (the papers' habit). A rate of
    which a seed diverged counts only where every rate has lost one. The interval is the bootstrap
    over val pictures of the mean over the rate's seeds. None where every head diverged.
    """
    by_lr: dict[float, list[int]] = {}
    for k, result in enumerate(results):
        by_lr.setdefault(result.lr, []).append(k)
    converged = {
        lr: [k for k in heads if results[k].score is not None] for lr, heads in by_lr.items()
    }
    candidates = {lr: ks for lr, ks in converged.items() if len(ks) == len(by_lr[lr])} or {
        lr: ks for lr, ks in converged.items() if ks
    }
    if not candidates:
        return None

    def score(lr: float) -> float:
        values = [
            results[k].holdout if results[k].holdout is not None else results[k].score
            for k in candidates[lr]
        ]
        return float(np.mean([value for value in values if value is not None]))

    lr = max(candidates, key=score)
    heads = candidates[lr]
    iou = areas.iou()[heads]
    means = np.nanmean(iou, axis=1)
    low, high = bootstrap_interval(areas, heads)
    with np.errstate(invalid="ignore"):
        per_class = iou.mean(axis=0)
    return Best(
        lr=lr,
        score=round(float(means.mean()), 4),
        std=round(float(means.std()), 4),
        seeds=len(heads),
        interval=(round(low, 4), round(high, 4)),
        scores={
            "miou": round(float(means.mean()), 4),
            "pixel_accuracy": round(float(areas.pixel_accuracy()[heads].mean()), 4),
        },
        by_class=_by_class(classes, per_class),
    )


def save_areas(path: Path, areas: PictureAreas) -> None:
    """Keep the histograms of every val picture beside the record, for paired comparisons."""
    write_arrays(path, areas.to_arrays())
