"""From outcomes to results: scores of every head, and the best point of the grid."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vicregl_bench.records import Best, HeadResult
from vicregl_bench.tasks.measured import Measured
from vicregl_bench.tasks.outcome import Outcome

Point = tuple[float | None, tuple[tuple[str, Any], ...]]
"""Of the grid: a learning rate, where there is one, and what else is varied."""


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


def point_of(result: HeadResult | Best) -> Point:
    """The point of the grid that a result is of."""
    return result.lr, tuple(sorted(result.options.items()))


def head_results(measured: Measured, classes: Sequence[str]) -> tuple[HeadResult, ...]:
    """Scores of every head in percent; a diverged head has none."""
    val, held, diverged = measured.scores.val, measured.scores.held, measured.diverged_at
    notes = measured.scores.notes or ((),) * len(measured.heads)
    results = []
    for k, head in enumerate(measured.heads):
        common: dict[str, Any] = {"lr": head.lr, "seed": head.seed, "options": dict(head.options)}
        if diverged[k] >= 0 or val is None:
            at = diverged[k] if diverged[k] >= 0 else None
            results.append(HeadResult(**common, score=None, diverged_at=at))
            continue
        one = val.head(k)
        results.append(
            HeadResult(
                **common,
                score=_number(one.score),
                scores={name: _number(value) for name, value in one.scores.items()},
                by_class=dict(zip(classes, map(_number, one.by_class), strict=True)),
                holdout=_number(held.head(k).score) if held is not None else None,
                notes=notes[k],
            )
        )
    return tuple(results)


def choose_best(
    results: Sequence[HeadResult], classes: Sequence[str], val: Outcome
) -> tuple[Best, tuple[int, ...]] | None:
    """The point of the grid with the highest mean score over its seeds, and its score on val.

    The score is the held-out slice's where there is one, val's else (the papers' habit). A point of
    which a seed diverged counts only where every point has lost one. The interval is the bootstrap
    over val pictures of the mean over the point's seeds.

    Returns:
        The best point and the indices of its heads; None where every head diverged.
    """
    by_point: dict[Point, list[int]] = {}
    for k, result in enumerate(results):
        by_point.setdefault(point_of(result), []).append(k)
    converged = {
        point: [k for k in heads if results[k].score is not None]
        for point, heads in by_point.items()
    }
    candidates = {
        point: ks for point, ks in converged.items() if len(ks) == len(by_point[point])
    } or {point: ks for point, ks in converged.items() if ks}
    if not candidates:
        return None

    held = any(result.holdout is not None for result in results)

    def score(point: Point) -> float:
        values = [results[k].holdout if held else results[k].score for k in candidates[point]]
        return float(np.mean([-math.inf if value is None else value for value in values]))

    point = max(candidates, key=score)
    heads = candidates[point]
    each = [val.head(k) for k in heads]
    scores = [one.score for one in each]
    low, high = val.interval(heads)
    best = Best(
        lr=point[0],
        score=round(float(np.mean(scores)), 4),
        std=round(float(np.std(scores)), 4),
        seeds=len(heads),
        interval=(round(low, 4), round(high, 4)),
        scores={name: _mean([one.scores[name] for one in each]) for name in each[0].scores},
        by_class={
            name: _mean([one.by_class[index] for one in each]) for index, name in enumerate(classes)
        },
        options=dict(point[1]),
    )
    return best, tuple(heads)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean over heads; None where one of them has no value."""
    numbers = [value for value in values if value is not None]
    return _number(float(np.mean(numbers))) if len(numbers) == len(values) else None
