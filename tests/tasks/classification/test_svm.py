"""VOC07's SVMs through `run_task`: against scikit-learn, resuming, difficult objects, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import make_voc_boxes, read_voc07_classification
from vicregl_bench.errors import ConfigError, DataError, RunInterruptedError
from vicregl_bench.features import svm as svm_module
from vicregl_bench.features.extractor import CentralCrop, Extractor
from vicregl_bench.records import read_record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task

COSTS = [0.01, 1.0, 100.0]
SMALL: dict[str, Any] = {"data.crop": 48, "data.resize": 48, "svm.costs": COSTS}
MADE = ("aeroplane", "bicycle", "bird")


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of VOC's classes, 24 training and 12 test pictures."""
    return make_voc_boxes(
        tmp_path_factory.mktemp("voc"), train=24, val=12, seed=0, size=(72, 64), classes=3
    )


def request(root: Path, out: Path, **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    return ask("voc07_svm", overrides, root, out, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def test_a_run_leaves_a_whole_record(devkit: Path, tmp_path: Path) -> None:
    outcome = run(devkit, tmp_path)
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.metric) == ("complete", "map")
    (result,) = record.results
    assert (result.lr, result.options) == (None, {})
    assert result.by_class is not None and len(result.by_class) == 20
    scored = {name: value for name, value in result.by_class.items() if value is not None}
    assert set(scored) == set(MADE)
    assert result.score == pytest.approx(np.mean(list(scored.values())), abs=1e-3)
    assert set(result.scores) == {"map", "map_area"} and result.scores["map"] == result.score
    assert any("no score for 17 of 20 classes" in one for one in record.deviations)
    best = record.best
    assert best is not None and best.interval[0] <= best.score <= best.interval[1]
    assert record.frozen_hash_unchanged is True
    arrays = read_arrays(tmp_path / str(record.pictures_file))
    assert arrays["scores"].shape == (12, 1, 20) and arrays["scores"].dtype == np.float32
    assert set(arrays["costs"][0, :3]) <= set(COSTS) and np.isnan(arrays["costs"][0, 3:]).all()
    assert run(devkit, tmp_path).skipped


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_are_plain_scikit_learns(devkit: Path, tmp_path: Path) -> None:
    asked = request(devkit, tmp_path)
    record = run_task(asked, Silent()).record
    data = read_voc07_classification(devkit)
    extractor = Extractor(asked.source, FrozenTrunk(asked.source.build()), CentralCrop(48, 48))

    def vectors(pictures: Any) -> Any:
        crops = [extractor.transform(Image.open(one.image).convert("RGB")) for one in pictures]
        found = extractor(torch.stack(crops)).double().numpy()
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    train, val = vectors(data.train), vectors(data.val)
    labels = np.array([one.labels for one in data.train])
    arrays = read_arrays(tmp_path / str(record.pictures_file))
    for label in range(3):
        own = labels[:, label]
        rows = own != 0
        models = [
            LinearSVC(C=cost, class_weight={1: 2}, max_iter=2000, random_state=0, dual=True)
            for cost in COSTS
        ]
        precisions = [
            cross_val_score(one, train[rows], own[rows], cv=3, scoring="average_precision").mean()
            for one in models
        ]
        best = int(np.argmax(precisions))
        assert arrays["costs"][0, label] == COSTS[best]
        expected = models[best].fit(train[rows], own[rows]).decision_function(val)
        # features are kept in half precision, and C up to 100 makes the most of that
        np.testing.assert_allclose(arrays["scores"][:, 0, label], expected, atol=0.05)


def test_a_resumed_run_has_the_classes_that_were_done(
    devkit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(devkit, tmp_path / "whole").record
    # after the second C of the second class
    step = len(COSTS) + 2
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunInterruptedError, match="after 0 of 1 points of the grid"),
    ):
        run(devkit, tmp_path / "parts", reporter=stop_after(patch, "SVMs", step))
    (path,) = (tmp_path / "parts").glob("*.json")
    assert read_record(path).status == "interrupted"
    (kept,) = (tmp_path / "parts").rglob("class-*.npz")
    assert kept.name == "class-aeroplane.npz"
    fitted: list[float] = []
    original = svm_module.SvmOptions.classifier

    def counted(self: svm_module.SvmOptions, cost: float) -> Any:
        fitted.append(cost)
        return original(self, cost)

    monkeypatch.setattr(svm_module.SvmOptions, "classifier", counted)
    resumed = run(devkit, tmp_path / "parts").record
    assert len(fitted) == 2 * (len(COSTS) + 1)
    assert resumed.results == whole.results and resumed.best == whole.best
    assert not list((tmp_path / "parts").rglob("class-*.npz"))


def test_a_damaged_part_is_made_anew(
    devkit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(devkit, tmp_path, reporter=stop_after(patch, "SVMs", len(COSTS) + 1))
    (kept,) = tmp_path.rglob("class-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    whole = run(devkit, tmp_path / "whole").record
    assert run(devkit, tmp_path).record.results == whole.results


def test_held_out_pictures_are_scored_too(devkit: Path, tmp_path: Path) -> None:
    record = run(devkit, tmp_path, select="holdout", overrides={"sweep.holdout": 0.25}).record
    assert record.data.holdout == 6 and record.results[0].holdout is not None


def test_classes_that_the_slice_leaves_too_few_are_named(devkit: Path, tmp_path: Path) -> None:
    asked = {"svm.folds": 5, "sweep.holdout": 0.25}  # of birds, 5 pictures of 24 have none
    whole = run(devkit, tmp_path / "whole", overrides=asked).record
    assert whole.results[0].by_class is not None
    assert whole.results[0].by_class["bird"] is not None
    reporter = Silent()
    record = run(
        devkit, tmp_path / "part", select="holdout", overrides=asked, reporter=reporter
    ).record
    assert record.results[0].by_class is not None
    assert record.results[0].by_class["bird"] is None
    (told,) = (text for text in reporter.warnings if "leaves too few pictures" in text)
    assert "SVMs of bird: no score" in told
    assert record.results[0].notes == (
        "the held-out slice leaves too few pictures for SVMs of bird",
    )


def test_too_few_pictures_are_refused(devkit: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no class of .* has 13 pictures with it and 13 without"):
        run(devkit, tmp_path, overrides={"svm.folds": 13})


def test_costs_are_checked() -> None:
    for costs in ([], [0.0], [1.0, 1.0]):
        with pytest.raises(ConfigError, match=r"svm\.costs"):
            load_task("voc07_svm", overrides={"svm.costs": costs})


def test_the_protocol_is_that_of_goyal() -> None:
    task = load_task("voc07_svm")
    settings = task.settings.dump()
    costs = settings["svm"].pop("costs")
    assert costs[:16] == [2.0**-n for n in range(19, 3, -1)]
    assert costs[16:] == pytest.approx([10.0**n for n in range(-7, 3)])
    assert settings == {
        "data": {"dataset": "voc_labels", "variant": "voc07", "crop": 224, "resize": 224},
        "backbone": {},
        "sweep": {"run_seed": 0, "holdout": 0.1},
        "svm": {"folds": 3, "positive_weight": 2.0, "max_iter": 2000},
    }
    assert task.info.frozen and task.info.probe
