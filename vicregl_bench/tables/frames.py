"""A record's learning-rate curve as a table, and its scores and points in words."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from vicregl_bench.records.schema import Best, HeadResult, Record


def number_text(value: float, digits: int, sign: str = "") -> str:
    """A number as every table shows it, never as "-0.0".

    It is rounded as the binary fraction that it is, and halves to even: 97.25 is 97.2.

    Args:
        value: the number.
        digits: after the point.
        sign: "+" where positive numbers have a sign too.
    """
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def spread_text(score: float, std: float | None, digits: int) -> str:
    """A score and its deviation over seeds, where it has one."""
    spread = "" if std is None else f" ± {number_text(std, digits)}"
    return f"{number_text(score, digits)}{spread}"


def score_text(best: Best, digits: int) -> str:
    """Score and its spread over seeds; of one seed, which has none, the score alone."""
    return spread_text(best.score, best.std if best.seeds > 1 else None, digits)


def curve_points(record: Record) -> list[dict[str, Any]]:
    """Every point of a record's grid, the largest learning rate first: means over its seeds.

    Points of one rate, or of none, stay in the order of the grid.

    Returns:
        One a point: `lr` (None where there is none), `options` (what else the grid varies, in
        words, or empty), `point` (both), `score` and `std` (of the task's metric, None where every
        seed diverged), `holdout` where a held-out slice chose, the other metrics by their names
        (None where unknown), and `diverged`, the number of seeds that did.
    """
    metric = record.task.metric
    others = [name for result in record.results for name in result.scores if name != metric]
    names = list(dict.fromkeys(others))
    held_out = any(result.holdout is not None for result in record.results)
    groups: dict[tuple[float | None, str], list[HeadResult]] = {}
    for result in record.results:
        groups.setdefault((result.lr, options_text(result)), []).append(result)
    points = []
    for (lr, options), seeds in groups.items():
        scores = _known(one.score for one in seeds)
        point = {"lr": lr, "options": options, "point": point_text(seeds[0])}
        point |= {"score": _mean(scores), "std": statistics.pstdev(scores) if scores else None}
        if held_out:
            point["holdout"] = _mean(_known(one.holdout for one in seeds))
        for name in names:
            point[name] = _mean(_known(one.scores.get(name) for one in seeds))
        points.append(point | {"diverged": len(seeds) - len(scores)})
    return sorted(
        points, key=lambda point: -math.inf if point["lr"] is None else point["lr"], reverse=True
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def learning_rate_curve(record: Record) -> pd.DataFrame:
    """`curve_points` as a table: its names are the columns, NaN is what is None there."""
    curve = pd.DataFrame(curve_points(record))
    words = ("options", "point", "diverged")
    return curve.astype({name: float for name in curve if name not in words})


def options_text(result: HeadResult | Best) -> str:
    """What a grid varies beside the learning rate, in words; empty where it varies nothing else."""
    return ", ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
        for name, value in sorted(result.options.items())
    )


def point_text(result: HeadResult | Best) -> str:
    """A point of a grid in words, its learning rate where there is one."""
    words = [] if result.lr is None else [f"lr {result.lr:g}"]
    return ", ".join([*words, *filter(None, [options_text(result)])])
