"""Searched linear probes: what is searched, on what, and that resuming changes nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.reporter import Silent
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.records import read_record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.tasks.classification import search
from vicregl_bench.tasks.classification.cached_linear import LabelledFeatures
from vicregl_bench.tasks.classification.probe_settings import ProbeSearchSettings
from vicregl_bench.tasks.classification.search import (
    TRIALS,
    ProbeSearch,
    Trial,
    next_params,
    search_space,
)
from vicregl_bench.tasks.probing import Probing
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task

SMALL: dict[str, Any] = {
    "data.crop": 48,
    "data.resize": [56, 56],
    "search.trials": 5,
    "search.epochs": [1, 4],
    "sweep.seeds": 2,
    "sweep.holdout": 0.3,
}
POINT = {"weight_decay", "optimizer", "schedule", "epochs"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 30 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=30, val=12, seed=0, size=(72, 64)
    )


def run(root: Path, out: Path, reporter: Any = None, **changes: Any) -> RunOutcome:
    task = load_task("folder_probe_search", "ci", SMALL | changes.pop("overrides", {}))
    request = RunRequest(
        task=task,
        source=read_backbone("random:resnet18x0.25"),
        data_root=root,
        out=out,
        workers=0,
        device="cpu",
        **changes,
    )
    return run_task(request, reporter or Silent())


class Watched:
    """What every trial and every training read, and the trials' scores."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int]] = []
        self.trials: list[Trial] = []
        self.names: list[tuple[set[str], set[str]]] = []
        original, features = ProbeSearch._try, Probing.features

        def tried(
            domain: ProbeSearch,
            params: Any,
            train: LabelledFeatures,
            held: LabelledFeatures,
            probing: Probing,
        ) -> float:
            score = original(domain, params, train, held, probing)
            self.events.append(("trial", len(self.trials)))
            self.trials.append(Trial(params, score))
            self.names.append((set(train.names), set(held.names)))
            return score

        def read(probing: Probing, extractor: Any, pictures: Sequence[Any], stage: str) -> Any:
            self.events.append((stage, len(pictures)))
            return features(probing, extractor, pictures, stage)

        patch.setattr(ProbeSearch, "_try", tried)
        patch.setattr(Probing, "features", read)


def test_a_slice_of_train_chooses_and_val_is_not_read_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, sizes = Watched(monkeypatch), list[int]()
    original = ProbeSearch._train

    def trained(self: Any, trial: Trial, train: LabelledFeatures, *args: Any) -> Any:
        sizes.append(len(train.labels))
        return original(self, trial, train, *args)

    monkeypatch.setattr(ProbeSearch, "_train", trained)
    outcome = run(folder, tmp_path)
    record = read_record(outcome.path)
    assert record == outcome.record and record.status == "complete"
    assert watched.events == [
        ("features of train", 30),
        ("features of the held-out slice", 9),
        *(("trial", number) for number in range(5)),
        ("features of val", 12),
    ]
    assert sizes == [21] * 5 + [30] * 2
    for learned, held in watched.names:
        assert len(learned) == 21 and len(held) == 9 and not learned & held
    best = max(watched.trials, key=lambda trial: trial.score)
    assert [one.seed for one in record.results] == [0, 1]
    for one in record.results:
        assert set(one.options) == POINT and one.holdout is None
        assert {"lr": one.lr, **one.options} == best.params
    assert record.best is not None and (record.best.lr, record.best.seeds) == (best.params["lr"], 2)
    assert (record.progress.iterations, record.progress.of) == (2, 2)
    assert (record.data.train, record.data.holdout) == (30, 0)
    assert record.task.select == "holdout"  # whatever was asked for
    kept = read_arrays(tmp_path / str(record.pictures_file))
    tried = [
        Trial(json.loads(str(one)), score)
        for one, score in zip(kept["trials"], kept["trial_scores"], strict=True)
    ]
    assert tried == watched.trials
    assert run(folder, tmp_path).skipped


def test_with_holdout_the_slice_is_the_same_and_stays_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        usual = Watched(patch)
        run(folder, tmp_path / "val")
    watched = Watched(monkeypatch)
    record = run(folder, tmp_path / "holdout", select="holdout").record
    assert watched.names == usual.names and watched.trials == usual.trials
    assert (record.data.train, record.data.holdout) == (21, 9)
    best = max(trial.score for trial in watched.trials)
    assert record.results[0].holdout == pytest.approx(best, abs=1e-4)  # the same seed


@pytest.mark.parametrize(("stage", "step", "left"), [("searching", 3, 2), ("fitting", 1, 0)])
def test_a_resumed_search_is_the_same(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    step: int,
    left: int,
) -> None:
    # so many trials that the sampler looks back
    many = {"search.trials": 13} if stage == "searching" else {}
    step, total = (11, 13) if many else (step, 5)
    with monkeypatch.context() as patch:
        watched = Watched(patch)
        whole = run(folder, tmp_path / "whole", overrides=many).record
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(folder, tmp_path / "parts", overrides=many, reporter=stop_after(patch, stage, step))
    resumed_trials = Watched(monkeypatch)
    resumed = run(folder, tmp_path / "parts", overrides=many).record
    assert resumed_trials.trials == watched.trials[total - left :]
    assert resumed.results == whole.results and resumed.best == whole.best


@pytest.mark.parametrize("damage", [b"{", b'{"params": 3}\n', b"\xff\n", b"[]\n"])
def test_damaged_trials_are_made_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(folder, tmp_path, reporter=stop_after(patch, "searching", 2))
    (path,) = tmp_path.glob(f"work/*/points/{TRIALS}")
    path.write_bytes(damage)
    watched = Watched(monkeypatch)
    run(folder, tmp_path)
    assert len(watched.trials) == 5


def test_a_diverged_trial_is_never_right(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    hot = {"search.lr": [1e37, 1e38], "search.optimizers": ["SGD"], "search.epochs": [4, 4]}
    record = run(folder, tmp_path, overrides=hot).record
    assert [trial.score for trial in watched.trials] == [0.0] * 5
    assert record.status == "diverged"


def test_the_sampler_stays_in_the_space_and_finds_what_is_good() -> None:
    settings = load_task("folder_probe_search").settings
    assert isinstance(settings, ProbeSearchSettings)
    space = search_space(settings.search)
    past: list[Trial] = []
    for _ in range(40):
        params = next_params(space, past, 0)
        assert next_params(space, past, 0) == params
        assert 1e-4 <= params["lr"] <= 1e-1 and 1e-6 <= params["weight_decay"] <= 1e-3
        assert params["optimizer"] in ("SGD", "AdamW") and params["schedule"] in ("cosine", "step")
        assert 10 <= params["epochs"] <= 100
        past.append(Trial(params, 100.0 * (params["optimizer"] == "AdamW") + params["lr"]))
    assert next_params(space, [], 1) != past[0].params

    def share(trials: list[Trial]) -> float:
        return sum(trial.params["optimizer"] == "AdamW" for trial in trials) / len(trials)

    # at random it would be one half
    assert share(past[20:]) >= 0.8


def test_optuna_stays_silent(capfd: pytest.CaptureFixture[str]) -> None:
    settings = load_task("folder_probe_search").settings
    assert isinstance(settings, ProbeSearchSettings)
    before = search.optuna.logging.get_verbosity()
    next_params(search_space(settings.search), [], 0)
    assert capfd.readouterr() == ("", "")
    assert search.optuna.logging.get_verbosity() == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("search.lr", [0.1, 0.01], "lower end first"),
        ("search.epochs", [0, 10], "greater than 0"),
        ("search.optimizers", ["SGD", "SGD"], "stands twice"),
        ("search.schedules", ["poly"], "cosine"),
    ],
)
def test_impossible_settings_are_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}.*{said}"):
        load_task("folder_probe_search", overrides={key: value})


def test_the_protocol_is_the_papers_text() -> None:
    task = load_task("folder_probe_search")
    dumped = task.settings.dump()["search"]
    assert (dumped["lr"], dumped["weight_decay"]) == ([1e-4, 1e-1], [1e-6, 1e-3])
    assert dumped["optimizers"] == ["SGD", "AdamW"] and dumped["schedules"] == ["cosine", "step"]
    assert dumped["epochs"][1] == 100
    assert task.info.frozen and task.info.probe and task.info.tables == ()
