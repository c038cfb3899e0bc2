"""A record's learning-rate curve as a table, and its scores and points in words."""

import pandas as pd

from vicregl_bench.records.schema import Best, HeadResult, Record


def score_text(best: Best, digits: int) -> str:
    """Score and its spread over seeds; of one seed, which has none, the score alone."""
    spread = f" ± {best.std:.{digits}f}" if best.seeds > 1 else ""
    return f"{best.score:.{digits}f}{spread}"


def learning_rate_curve(record: Record) -> pd.DataFrame:
    """Every point of a record's grid, the largest learning rate first: means over its seeds.

    Points of one rate, or of none, stay in the order of the grid.

    Returns:
        Columns `lr` (NaN where there is none), `options` (what else the grid varies, in words, or
        empty), `point` (both), `score` and `std` (of the task's metric), `holdout` where a held-out
        slice chose, the other metrics by their names, and `diverged`, the number of seeds that did.
    """
    metric = record.task.metric
    others = [name for result in record.results for name in result.scores if name != metric]
    names = list(dict.fromkeys(others))
    frame = pd.DataFrame(
        [
            {"lr": result.lr, "score": result.score, "holdout": result.holdout}
            | {name: result.scores.get(name) for name in names}
            for result in record.results
        ]
    ).astype(float)
    frame["options"] = [options_text(result) for result in record.results]
    frame["point"] = [point_text(result) for result in record.results]
    grouped = frame.groupby(["lr", "options"], sort=False, dropna=False)
    curve = pd.DataFrame(
        {
            "lr": grouped["lr"].first(),
            "options": grouped["options"].first(),
            "point": grouped["point"].first(),
            "score": grouped["score"].mean(),
            "std": grouped["score"].std(ddof=0),
        }
    )
    if frame["holdout"].notna().any():
        curve["holdout"] = grouped["holdout"].mean()
    for name in names:
        curve[name] = grouped[name].mean()
    curve["diverged"] = grouped["score"].apply(lambda scores: int(scores.isna().sum()))
    curve = curve.reset_index(drop=True)
    return curve.sort_values("lr", ascending=False, ignore_index=True, kind="stable")


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
