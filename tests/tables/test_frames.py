from typing import Any

from tests.records.test_store import make_record
from vicregl_bench.tables.frames import learning_rate_curve


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
