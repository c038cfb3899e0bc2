from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.made_record import make_record
from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.frames import curve_points, learning_rate_curve, number_text, score_text
from vicregl_bench.tables.leaderboard import leaderboard, leaderboard_grid
from vicregl_bench.tables.paper_output import paper_grid
from vicregl_bench.tables.paper_table import paper_table
from vicregl_bench.tables.rendering import render


def head(lr: float | None, seed: int, miou: float | None, **more: Any) -> dict[str, Any]:
    lost = {"score": miou, "scores": {"miou": miou, "pixel_accuracy": miou}}
    return {"lr": lr, "seed": seed, **lost, "diverged_at": 3 if miou is None else None} | more


def test_curve_is_the_mean_over_seeds_and_counts_the_diverged() -> None:
    heads = [head(0.1, 0, 40.0), head(0.1, 1, 44.0), head(1.0, 0, None), head(1.0, 1, 10.0)]
    curve = learning_rate_curve(make_record(results=heads))
    assert curve["lr"].tolist() == [1.0, 0.1]
    assert curve["score"].tolist() == [10.0, 42.0]
    assert curve["std"].tolist() == [0.0, 2.0]
    assert curve["diverged"].tolist() == [1, 0]
    assert curve["pixel_accuracy"].tolist() == [10.0, 42.0] and "holdout" not in curve


def test_points_are_plain_and_those_of_no_rate_come_last() -> None:
    heads = [
        head(None, 0, None),
        head(0.1, 0, 40.0, options={"warmup": 2}, holdout=30.0),
        head(0.1, 0, None, options={"warmup": 1}),
    ]
    points = curve_points(make_record(results=heads))
    assert points == [
        {
            "lr": 0.1, "options": "warmup 2", "point": "lr 0.1, warmup 2", "score": 40.0,
            "std": 0.0, "holdout": 30.0, "pixel_accuracy": 40.0, "diverged": 0,
        },
        {
            "lr": 0.1, "options": "warmup 1", "point": "lr 0.1, warmup 1", "score": None,
            "std": None, "holdout": None, "pixel_accuracy": None, "diverged": 1,
        },
        {
            "lr": None, "options": "", "point": "", "score": None,
            "std": None, "holdout": None, "pixel_accuracy": None, "diverged": 1,
        },
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_curves_are_those_of_pandas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heads = [
        head(lr, one, None if rng.random() < 0.2 else rng.uniform(0, 100), options={"warmup": warm})
        for lr in rng.permutation([0.1, 0.3, 1.0])
        for warm in (1, 2)
        for one in range(3)
    ]
    frame = pd.DataFrame(
        [
            {"lr": h["lr"], "options": f"warmup {h['options']['warmup']}", "s": h["score"]}
            for h in heads
        ]
    ).astype({"s": float})
    direct = frame.groupby(["lr", "options"], sort=False)["s"].agg(
        score="mean", std=lambda s: s.std(ddof=0), diverged=lambda s: int(s.isna().sum())
    )
    direct = direct.reset_index().sort_values("lr", ascending=False, kind="stable")
    curve = learning_rate_curve(make_record(results=heads))
    pd.testing.assert_frame_equal(
        curve[list(direct)], direct.reset_index(drop=True), check_dtype=False
    )


def test_every_table_rounds_alike() -> None:
    assert [number_text(value, 1) for value in (97.25, 97.35, -0.04)] == ["97.2", "97.3", "0.0"]
    assert [number_text(value, 1, "+") for value in (0.25, -0.26)] == ["+0.2", "-0.3"]
    record = make_record(best={"score": 97.25, "std": 0.25})
    assert record.best is not None
    assert score_text(record.best, 1) == "97.2 ± 0.2"
    entry = Entry(record, Path("x.json"))
    for grid in (
        leaderboard_grid(leaderboard([entry])),
        paper_grid(paper_table("1", [entry], show="measured")),
    ):
        assert "97.2 ± 0.2" in render(grid, "markdown")
