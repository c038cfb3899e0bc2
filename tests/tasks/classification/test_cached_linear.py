"""Linear probes on cached features through `run_task`: peers, resuming, selection, bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.classification.peers import crop_vectors, possible_ranks
from tests.tasks.stopping import stop_after, watch_flags
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.features import linear_training
from vicregl_bench.records import read_record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.tasks.classification import cached_linear
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task

SMALL: dict[str, Any] = {"data.crop": 48, "data.resize": [56, 56]}
SGD: dict[str, Any] = {"probe.solver": "sgd", "sgd.epochs": 3, "sweep.seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 30 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=30, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    return ask("folder_linear_cached", overrides, root, out, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def test_a_run_leaves_a_whole_record(folder: Path, tmp_path: Path) -> None:
    asked = request(folder, tmp_path)
    outcome = run_task(asked, Silent())
    record = read_record(outcome.path)
    assert record == outcome.record
    assert [one.notes for one in record.results] == [(), ()]
    assert (record.status, record.task.metric, record.trained) == ("complete", "top1", ())
    assert set(record.results[0].scores) == {"top1", "top5", "mean_per_class"}
    assert run(folder, tmp_path).skipped


def test_ranks_are_scikit_learns(folder: Path, tmp_path: Path) -> None:
    """Of every picture: of random features the scores alone may agree by chance."""
    grid = run(folder, tmp_path).record
    assert [(one.lr, one.options) for one in grid.results] == [
        (None, {"l2": 1e-3}),
        (None, {"l2": 1e-1}),
    ]
    plan = make_plan(request(folder, tmp_path))
    train, val = (crop_vectors(plan.request, one) for one in (plan.train, plan.dataset.val))
    labels = [one.label for one in plan.dataset.val]
    scaler = StandardScaler().fit(train)
    found = []
    for result in grid.results:
        l2 = result.options["l2"]
        record = run(folder, tmp_path, overrides={"sweep.l2": [l2]}).record
        assert record.results == (result,)
        outcome = LabelRanks.from_arrays(read_arrays(tmp_path / str(record.pictures_file)))
        assert outcome.names == tuple(one.name for one in plan.dataset.val)
        peer = LogisticRegression(C=1 / (l2 * len(train)), max_iter=1000, tol=1e-6)
        peer.fit(scaler.transform(train), [one.label for one in plan.train])
        # features are stored in half precision
        logits = peer.decision_function(scaler.transform(val))
        least, largest = possible_ranks(logits, labels, 0.01)
        assert (least == largest).mean() > 0.8
        found.append(outcome.ranks[:, 0])
        assert (least <= found[-1]).all() and (found[-1] <= largest).all()
        assert result.score == pytest.approx(100 * (found[-1] == 0).mean(), abs=1e-3)
    assert (found[0] != found[1]).any()


def test_a_grid_of_sgd(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, overrides=SGD).record
    assert [(one.lr, one.seed, one.options) for one in record.results] == [
        (lr, seed, {"weight_decay": 1e-6}) for lr in (0.1, 0.01) for seed in (0, 1)
    ]
    assert record.best is not None and record.best.seeds == 2
    assert 'probe.solver: "sgd" instead of "lbfgs"' in record.deviations


@pytest.mark.parametrize("overrides", [{}, SGD], ids=["lbfgs", "sgd"])
def test_a_resumed_run_ends_where_it_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any]
) -> None:
    whole = run(folder, tmp_path / "whole", overrides=overrides).record
    of = len(whole.results)
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunInterruptedError, match=f"after 1 of {of} points of the grid"),
    ):
        run(
            folder,
            tmp_path / "parts",
            overrides=overrides,
            reporter=stop_after(patch, "fitting", 1),
        )
    made: list[Any] = []
    original = cached_linear.CachedLinear._fit

    def counted(self: Any, head: Any, *args: Any) -> Any:
        made.append(head)
        return original(self, head, *args)

    monkeypatch.setattr(cached_linear.CachedLinear, "_fit", counted)
    resumed = run(folder, tmp_path / "parts", overrides=overrides).record
    assert resumed.results == whole.results and resumed.best == whole.best
    assert len(made) == of - 1


def test_sgd_stops_between_epochs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, epochs = watch_flags(monkeypatch), []
    original = torch.randperm

    def second_asks_to_stop(*args: Any, **kwargs: Any) -> torch.Tensor:
        epochs.append(args)
        flags[-1].requested = len(epochs) == 2
        return original(*args, **kwargs)

    monkeypatch.setattr(linear_training.torch, "randperm", second_asks_to_stop)
    with pytest.raises(RunInterruptedError, match="after 0 of 4 points"):
        run(folder, tmp_path, overrides=SGD)
    assert len(epochs) == 2


def test_held_out_pictures_choose(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, select="holdout").record
    assert record.data.holdout == 3 and record.data.train == 27
    best = max(record.results, key=lambda one: -1.0 if one.holdout is None else one.holdout)
    assert record.best is not None and record.best.options == best.options


def test_what_did_not_converge_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Silent()
    asked: dict[str, Any] = {"lbfgs.max_iter": 1}
    record = run(folder, tmp_path / "whole", overrides=asked, reporter=reporter).record
    told = [text for text in reporter.warnings if "did not converge" in text]
    assert len(told) == 2 and "l2 0.001" in told[0] and "l2 0.1" in told[1]
    note = "L-BFGS did not converge, in at most 1 iterations"
    assert [one.notes for one in record.results] == [(note,), (note,)]
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        stopping = stop_after(patch, "fitting", 1)
        run(folder, tmp_path / "parts", overrides=asked, reporter=stopping)
    assert run(folder, tmp_path / "parts", overrides=asked).record.results == record.results


def test_a_diverged_point_has_no_score(folder: Path, tmp_path: Path) -> None:
    reporter = Silent()
    rates = SGD | {"sweep.lrs": [0.1, 1e38], "sweep.seeds": 1}
    record = run(folder, tmp_path / "one", overrides=rates, reporter=reporter).record
    assert record.results[0].score is not None and record.results[1].score is None
    assert record.best is not None and record.best.lr == 0.1
    assert any("lr 1e+38" in text and "diverged" in text for text in reporter.warnings)
    every = run(folder, tmp_path / "all", overrides=rates | {"sweep.lrs": [1e38]}).record
    assert every.status == "diverged" and every.results[0].score is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sweep.l2", [0.0], "greater than 0"),
        ("sweep.l2", [0.1, 0.1], "a value stands twice"),
        ("probe.solver", "adam", "lbfgs"),
        ("sweep.weight_decays", [], "at least one value"),
    ],
)
def test_impossible_settings_are_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}.*{said}"):
        load_task("folder_linear_cached", overrides={key: value})


@pytest.mark.parametrize("name", ["imagenet_linear_cached", "folder_linear_cached"])
def test_protocols(name: str) -> None:
    task = load_task(name)
    dumped = task.settings.dump()
    assert dumped["data"] == {
        "dataset": name.partition("_")[0],
        "variant": name.partition("_")[0],
        "crop": 224,
        "resize": [256, 256],
    }
    assert dumped["probe"] == {"solver": "lbfgs", "scaling": "standardize"}
    assert dumped["sweep"]["l2"] == [10.0**power for power in range(-6, 2)]
    assert task.info.frozen and task.info.probe and task.info.tables == ()
