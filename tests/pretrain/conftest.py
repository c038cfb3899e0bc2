"""Made-up pictures and a recipe small enough for seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.recipe import Recipe, load_recipe

SMALL: dict[str, Any] = {
    "views.large_size": 64,
    "model.expander": [32, 32],
    "model.projector": [16, 16],
    "criterion.num_matches": [2, 1],
    "schedule.epochs": 2,
    "schedule.batch_size": 4,
    "schedule.warmup_epochs": 0.5,
    "run.save_every": 3,
    "run.watch_every": 2,
    "run.log_every": 1,
}


def small_recipe(**overrides: Any) -> Recipe:
    """The recipe `tiny` made smaller; dots in keys are written as two underscores."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe("tiny", SMALL | dotted)


@pytest.fixture()
def pictures(tmp_path: Path) -> Path:
    """Class folders a, b with ten 80 px pictures each: five batches of four an epoch."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(10):
            noise = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "data" / name / f"{k}.png")
    return tmp_path / "data"
