from typing import Any

import pytest

from tests.records.test_store import make_record
from vicregl_bench.errors import ConfigError
from vicregl_bench.tables.frames import (
    explain_deviations,
    leaderboard,
    learning_rate_curve,
    measurements,
    render_latex,
)


def test_one_row_a_checkpoint_and_one_column_a_protocol() -> None:
    records = [
        make_record(name="a.pth"),
        make_record(name="b.pth", deviations=("schedule.iters: 5 instead of 60",)),
        make_record(name="a.pth", task="voc_linear_released"),
        make_record(name="a.pth", version=2),
        make_record(name="c.pth", status="interrupted", best=None, results=()),
    ]
    frame = leaderboard(records)
    assert frame.columns.tolist()[3:] == [
        "voc_linear v1 (ci)",
        "voc_linear_released v1 (ci)",
        "voc_linear v2 (ci)",
    ]
    assert frame["checkpoint"].tolist() == ["a.pth", "b.pth"]
    assert frame["voc_linear v1 (ci)"].tolist() == ["50.0 ± 1.0", "50.0 ± 1.0†"]
    assert frame["voc_linear v2 (ci)"].tolist() == ["50.0 ± 1.0", "–"]
    assert explain_deviations(records) == [
        "† b.pth, voc_linear v1 (ci): schedule.iters: 5 instead of 60"
    ]


def test_two_settings_of_one_checkpoint_are_two_rows() -> None:
    frame = leaderboard([make_record(), make_record(deviations=("x: 1 instead of 2",))])
    assert frame["voc_linear v1 (ci)"].tolist() == ["50.0 ± 1.0", "50.0 ± 1.0†"]


def test_a_table_of_the_paper_keeps_its_protocols() -> None:
    assert len(leaderboard([make_record()], "1")) == 1
    with pytest.raises(ConfigError, match="table 9"):
        leaderboard([make_record()], "9")


def test_curve_is_the_mean_over_seeds_and_counts_the_diverged() -> None:
    def head(lr: float, seed: int, miou: float | None) -> dict[str, Any]:
        lost = {"score": miou, "scores": {"miou": miou, "pixel_accuracy": miou}}
        return {"lr": lr, "seed": seed, **lost, "diverged_at": 3 if miou is None else None}

    heads = [head(0.1, 0, 40.0), head(0.1, 1, 44.0), head(1.0, 0, None), head(1.0, 1, 10.0)]
    curve = learning_rate_curve(make_record(results=heads))
    assert curve["lr"].tolist() == [1.0, 0.1]
    assert curve["score"].tolist() == [10.0, 42.0]
    assert curve["std"].tolist() == [0.0, 2.0]
    assert curve["diverged"].tolist() == [1, 0]


def test_latex_is_escaped() -> None:
    latex = render_latex(leaderboard([make_record(name="a_b.pth")]))
    assert r"a\_b.pth" in latex and r"\toprule" in latex


def test_equal_file_names_of_other_weights_are_other_rows() -> None:
    other = make_record().checkpoint.model_copy(update={"weights_sha256": "x" * 64})
    frame = leaderboard([make_record(), make_record(checkpoint=other.model_dump())])
    assert frame["checkpoint"].tolist() == ["a.pth (w)", "a.pth (xxxxxxxx)"]
    other = other.model_copy(update={"weights_sha256": "w", "arch": "resnet50"})
    frame = leaderboard([make_record(), make_record(checkpoint=other.model_dump())])
    assert frame["backbone"].tolist() == ["resnet18", "resnet50"]


def test_measurements_are_numbers() -> None:
    row = measurements([make_record(deviations=("x: 1 instead of 2",))]).iloc[0]
    assert (row["score"], row["std"], row["low"]) == (50.0, 1.0, 45.0)
    assert row["deviations"] == "x: 1 instead of 2"


def test_explained_is_only_what_is_shown() -> None:
    records = [make_record(), make_record(name="b.pth", deviations=("d",))]
    assert explain_deviations(records, "1") == ["† b.pth, voc_linear v1 (ci): d"]
    with pytest.raises(ConfigError):
        explain_deviations(records, "9")
