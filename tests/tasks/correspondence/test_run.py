"""Correspondence through `run_task`: known answers, the record, resuming, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import CheckpointError, ConfigError, RunInterruptedError
from vicregl_bench.records import Record, read_record
from vicregl_bench.records.matches import load_matches
from vicregl_bench.tasks.correspondence.outcome import MatchShares
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.run import RunOutcome, run_task

SMALL: dict[str, Any] = {"views.size": 96, "sweep.seeds": 2}  # 3x3 cells
NO_COLOUR: dict[str, Any] = {
    "views.jitter_chance": 0.0,
    "views.grey": 0.0,
    "views.blur": [0.0, 0.0],
    "views.solarise": [0.0, 0.0],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 6 training and 8 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=6, val=8, seed=0, size=(120, 100)
    )


def request(root: Path, out: Path, name: str = "folder_correspondence", **changes: Any) -> Any:
    overrides = SMALL | changes.pop("overrides", {})
    return ask(name, overrides, root, out, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def scores(record: Record) -> dict[str, float | None]:
    assert record.best is not None
    return dict(record.best.scores)


def cell_colours(self: FrozenTrunk, images: Tensor) -> tuple[Tensor, ...]:
    """A trunk whose features say what is seen in each cell, mirrored or not."""
    means, squares = (functional.avg_pool2d(images**power, 32) for power in (1, 2))
    return (torch.cat([means, (squares - means**2).clamp(min=0).sqrt()], dim=1),)


def test_a_run_leaves_a_whole_record(folder: Path, tmp_path: Path) -> None:
    outcome = run(folder, tmp_path, pictures=3)
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.metric) == ("complete", "match_accuracy")
    assert [(one.lr, one.seed, one.options) for one in record.results] == [
        (None, 0, {}),
        (None, 1, {}),
    ]
    first, second = record.results
    assert first.scores != second.scores  # other views
    assert record.best is not None and record.best.seeds == 2
    assert record.best.score == pytest.approx(((first.score or 0) + (second.score or 0)) / 2)
    low, high = record.best.interval
    assert low < record.best.score < high
    assert set(first.scores) == {
        "match_accuracy",
        "mirrored_accuracy",
        "match_chance",
        "distance_error",
    }
    assert first.scores["match_chance"] == pytest.approx(100 / 9, abs=1e-4)
    assert first.score == first.scores["match_accuracy"]
    assert len(record.best.by_class) == 6
    assert record.frozen_hash_unchanged is True
    with np.load(tmp_path / str(record.pictures_file)) as arrays:
        assert arrays["right"].shape == (8, 2)
        assert 100 * arrays["right"].mean() == pytest.approx(record.best.score, abs=1e-3)
    kept = load_matches(tmp_path / str(record.predictions_file))
    assert len(kept) == 3 and all(len(one.cells) == 9 for one in kept)
    for one in kept:
        assert one.views.shape == (2, 96, 96, 3) and one.grid == (3, 3)
        assert one.accuracy == pytest.approx(100 * one.right.mean())  # all nine are kept
        assert (np.diff(one.similarity) <= 0).all()
    assert run(folder, tmp_path).skipped


def test_voc_has_no_classes_and_needs_no_masks(tiny_voc: Path, tmp_path: Path) -> None:
    record = run(tiny_voc, tmp_path, "voc_correspondence").record
    assert (record.data.variant, record.data.val) == ("voc12", 6)
    assert record.best is not None and record.best.by_class == {}
    assert record.best.score > 0


@pytest.mark.parametrize("arch", ["resnet18x0.25", "vit_tiny_patch16"])
def test_identical_views_match_whatever_the_features(
    folder: Path, tmp_path: Path, arch: str
) -> None:
    record = run(folder, tmp_path, arch=arch, overrides=NO_COLOUR | {"views.flip": 0.0}).record
    cells = 9 if arch.startswith("resnet") else 36
    assert scores(record) == {
        "match_accuracy": 100.0,
        "mirrored_accuracy": None,
        "match_chance": pytest.approx(100 / cells, abs=1e-4),
        "distance_error": 0.0,
    }


def test_what_is_seen_matches_mirrored_views_and_random_weights_do_less(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = NO_COLOUR | {"views.pairs": 3}
    random = scores(run(folder, tmp_path / "random", overrides=plain).record)
    monkeypatch.setattr(FrozenTrunk, "__call__", cell_colours)
    seen = scores(run(folder, tmp_path / "seen", overrides=plain).record)
    assert (seen["mirrored_accuracy"], seen["distance_error"]) == (100.0, 0.0)
    assert (random["mirrored_accuracy"] or 0) < 80
    coloured = scores(run(folder, tmp_path / "coloured").record)
    assert 100 / 9 < (coloured["match_accuracy"] or 0) < 100


def test_constant_features_are_right_by_chance(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        FrozenTrunk, "__call__", lambda self, images: (torch.ones(len(images), 4, 3, 3),)
    )
    found = scores(run(folder, tmp_path).record)
    assert found["match_accuracy"] == pytest.approx(found["match_chance"], abs=1e-3)
    # the first cell is found for all: distances to it on a grid of three, or across it
    assert 50 < (found["distance_error"] or 0) < 60


def test_more_pairs_are_the_mean_of_more(folder: Path, tmp_path: Path) -> None:
    one = run(folder, tmp_path, overrides={"views.pairs": 1}).record
    three = run(folder, tmp_path, overrides={"views.pairs": 3}).record
    assert one.results[0].by_class != three.results[0].by_class
    with np.load(tmp_path / str(three.pictures_file)) as arrays:
        assert np.allclose(arrays["right"] * 27, np.round(arrays["right"] * 27))


def test_a_resumed_run_ends_where_it_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(folder, tmp_path / "whole").record
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunInterruptedError, match="after 1 of 2 points of the grid"),
    ):
        run(folder, tmp_path / "parts", reporter=stop_after(patch, "matches, seed 0", 8))
    (path,) = (tmp_path / "parts").glob("*.json")
    assert read_record(path).status == "interrupted"
    stages: list[str] = []
    resumed = run(
        folder, tmp_path / "parts", reporter=Silent(lambda name, done: stages.append(name))
    ).record
    assert "matches, seed 1" in stages and "matches, seed 0" not in stages
    assert resumed.results == whole.results and resumed.best == whole.best
    kept = [
        load_matches(tmp_path / name / str(one.predictions_file))
        for name, one in (("whole", whole), ("parts", resumed))
    ]
    for left, right in zip(*kept, strict=True):
        assert left.name == right.name and (left.views == right.views).all()
        assert (left.cells == right.cells).all()


def test_bad_input(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="chooses nothing"):
        run(folder, tmp_path, select="holdout")
    with pytest.raises(ConfigError, match=r"views of 100 px are no whole cells of 32 px"):
        run(folder, tmp_path, overrides={"views.size": 100})
    with pytest.raises(ConfigError, match=r"32 px have one cell, which every match finds"):
        run(folder, tmp_path, overrides={"views.size": 32})
    with pytest.raises(ConfigError, match=r"setting views.scale .* least share"):
        run(folder, tmp_path, overrides={"views.scale": [0.0, 1.0]})
    with pytest.raises(ConfigError, match=r"setting data.variant .* voc has voc12"):
        run(folder, tmp_path, "voc_correspondence", overrides={"data.variant": "voc12aug"})
    with pytest.raises(ConfigError, match="no val picture 'nothing'"):
        run(folder, tmp_path, pictures=("nothing",))
    monkeypatch.setattr(
        FrozenTrunk, "__call__", lambda self, images: (images[:, :, ::32, ::32] * torch.nan,)
    )
    with pytest.raises(CheckpointError, match="not finite"):
        run(folder, tmp_path)


def test_another_output_stride_has_more_cells(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, overrides={"backbone.output_stride": 16}).record
    assert scores(record)["match_chance"] == pytest.approx(100 / 36, abs=1e-4)
    assert any(one.startswith("backbone.output_stride") for one in record.deviations)


def shares(**changes: Any) -> MatchShares:
    values: dict[str, Any] = {
        "names": ("a", "b"),
        "labels": np.array([2, 0]),
        "right": np.array([[0.5], [1.0]]),
        "error": np.array([[0.2], [0.0]]),
        "mirrored": np.array([[np.nan], [0.25]]),
        "cells": 4,
        "classes": 3,
    }
    return MatchShares(**(values | changes))


def test_scores_by_hand() -> None:
    score = shares().head(0)
    assert score.score == 75.0
    assert score.scores == {
        "match_accuracy": 75.0,
        "mirrored_accuracy": 25.0,  # of the picture that has such pairs
        "match_chance": 25.0,
        "distance_error": 10.0,
    }
    assert score.by_class == (100.0, None, 50.0)
    back = MatchShares.from_arrays(shares().to_arrays())
    assert back.head(0) == score and back.names == ("a", "b")
    both = MatchShares.together([None, shares()])
    assert both is not None and both.head(1) == score and np.isnan(both.head(0).score)
    assert MatchShares.together([None]) is None


def test_protocols_are_dinos_augmentation() -> None:
    for name in ("folder_correspondence", "voc_correspondence"):
        settings = load_task(name).settings.dump()
        assert settings["views"] == {
            "size": 224,
            "pairs": 1,
            "scale": [0.4, 1.0],
            "flip": 0.5,
            "jitter": [0.4, 0.4, 0.2, 0.1],
            "jitter_chance": 0.8,
            "grey": 0.2,
            "blur": [1.0, 0.1],
            "solarise": [0.0, 0.2],
        }
        assert settings["sweep"]["seeds"] == 3
        assert load_task(name).info.probe
