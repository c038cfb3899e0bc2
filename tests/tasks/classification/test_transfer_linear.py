"""Places205 and iNaturalist 2018, frozen: steps in epochs, from settings to the optimiser."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.label_lists import make_inat18, make_places205
from tests.reporter import Silent
from tests.tasks.asking import ask
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.classification.frozen_classifier import FrozenSweepClassifier
from vicregl_bench.tasks.grid import learning_rate_schedule
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import run_task

SMALL: dict[str, Any] = {
    "data.crop": 48,
    "data.resize": 56,
    "schedule.batch_size": 9,
    "sweep.seeds": 1,
}
IN_ITERATIONS: dict[str, Any] = {
    "schedule.epochs": None,
    "schedule.iters": 10,
    "schedule.steps.epochs": None,
    "schedule.steps.milestones": [4, 9],
}


def request(name: str, root: Path, out: Path, **overrides: Any) -> RunRequest:
    return ask(name, SMALL | overrides, root, out)


@pytest.mark.parametrize(
    ("name", "lr", "epochs", "steps"),
    [("places205_linear", 0.003, 28, (4, 8, 12)), ("inat18_linear", 0.005, 84, (24, 48, 72))],
)
def test_the_papers_numbers(name: str, lr: float, epochs: int, steps: tuple[int, ...]) -> None:
    s = load_task(name).training
    assert s.sweep.lrs == (lr,)
    assert (s.schedule.epochs, s.schedule.batch_size) == (epochs, 256)
    assert s.schedule.steps and (s.schedule.steps.epochs, s.schedule.steps.gamma) == (steps, 0.1)
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 1e-4)


def test_steps_in_epochs_follow_from_the_data() -> None:
    """28 epochs of 1,000 pictures in batches of 256: 109.4 iterations, 3.9 an epoch."""
    schedule = load_task("places205_linear").training.schedule.on(1_000)
    assert (schedule.iters, schedule.milestones) == (110, (16, 32, 48))
    schedule = load_task("inat18_linear").training.schedule.on(437_513)
    assert schedule.iters == 143_559  # ceil(84 * 437513 / 256)
    assert schedule.milestones == (41_017, 82_034, 123_051)  # 1709.04 iterations an epoch
    dumped = load_task("inat18_linear").settings.dump()["schedule"]
    assert "iters" not in dumped and dumped["steps"] == {"epochs": [24, 48, 72], "gamma": 0.1}


def test_steps_in_iterations_still_are() -> None:
    settings = load_task("places205_linear", overrides=IN_ITERATIONS).training
    assert settings.schedule.on(1_000_000) == settings.schedule
    (falling,) = learning_rate_schedule(settings)
    assert (falling["type"], falling["milestones"]) == ("MultiStepLR", [4, 9])


def test_rates_fall_at_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighteen pictures in batches of nine: an epoch is two iterations."""
    seen: list[float] = []
    original = FrozenSweepClassifier.train_step

    def watched(self: FrozenSweepClassifier, data: Any, optim_wrapper: Any) -> Any:
        seen.append(optim_wrapper.optimizer.param_groups[0]["lr"])
        return original(self, data, optim_wrapper)

    monkeypatch.setattr(FrozenSweepClassifier, "train_step", watched)
    root = make_places205(tmp_path / "data")
    record = run_task(request("places205_linear", root, tmp_path / "out"), Silent()).record
    assert (record.status, record.progress.iterations) == ("complete", 8)
    assert seen == pytest.approx([3e-3] * 2 + [3e-4] * 2 + [3e-5] * 2 + [3e-6] * 2)
    assert record.best and record.best.lr == 0.003
    assert "data: 18 train pictures, Places205 has 2,448,873" in record.deviations


def test_held_out_pictures_move_the_steps(tmp_path: Path) -> None:
    root = make_inat18(tmp_path)
    asked = request("inat18_linear", root, tmp_path, **{"schedule.batch_size": 2})
    whole = make_plan(asked).task.training.schedule
    assert (whole.iters, whole.milestones) == (36, (9, 18, 27))
    held = RunRequest(**{**vars(asked), "select": "holdout"})
    part = make_plan(held).task.training.schedule
    assert (part.iters, part.milestones) == (32, (8, 16, 24))


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"schedule.steps.epochs": [2, 28]}, "a step at 28 of 28 epochs is none"),
        ({"schedule.steps.epochs": [3, 2]}, "milestones rise"),
        ({"schedule.steps.milestones": [3]}, "either milestones, in iterations, or epochs"),
        ({"schedule.steps.epochs": None}, "either milestones, in iterations, or epochs"),
        (
            {"schedule.steps.epochs": None, "schedule.steps.milestones": [3]},
            "a schedule in epochs has its steps in epochs: schedule.steps.epochs",
        ),
        (
            {"schedule.epochs": None, "schedule.iters": 100},
            "a schedule in iterations has its steps in iterations: schedule.steps.milestones",
        ),
        ({**IN_ITERATIONS, "schedule.iters": 9}, "a step at 9 of 9 iterations is none"),
        ({"data.variant": "places205_1pct"}, "places205 has places205"),
    ],
)
def test_impossible_settings(overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_task("places205_linear", overrides=overrides)
