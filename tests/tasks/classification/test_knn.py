"""kNN classification through `run_task`: against scikit-learn, the cache, resuming, bad input."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.classification.peers import crop_vectors, possible_ranks
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.records import read_record
from vicregl_bench.records.arrays import read_arrays
from vicregl_bench.tables.frames import learning_rate_curve
from vicregl_bench.tables.pictures import draw_curve
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import RunOutcome, run_task

SMALL: dict[str, Any] = {"data.crop": 48, "data.resize": [56, 56], "knn.ks": [1, 3, 10]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 30 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=30, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, arch: str = "resnet18x0.25", **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    return ask("folder_knn", overrides, root, out, arch, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> RunOutcome:
    return run_task(request(*args, **kwargs), reporter or Silent())


def test_a_run_leaves_a_whole_record(folder: Path, tmp_path: Path) -> None:
    outcome = run(folder, tmp_path)
    record = read_record(outcome.path)
    assert record == outcome.record
    assert (record.status, record.task.metric) == ("complete", "top1")
    assert [(one.lr, one.options) for one in record.results] == [
        (None, {"k": 1}),
        (None, {"k": 3}),
        (None, {"k": 10}),
    ]
    assert (record.progress.iterations, record.progress.of) == (3, 3)
    assert record.frozen_hash_unchanged is True and record.trained == ()
    assert record.best is not None and record.best.lr is None
    assert record.best.score == max(one.score or 0.0 for one in record.results)
    curve = learning_rate_curve(record)
    assert list(curve["point"]) == ["k 1", "k 3", "k 10"] and curve["lr"].isna().all()
    draw_curve(record, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").is_file()
    assert run(folder, tmp_path).skipped


# a random ResNet's vectors have cosines above 0.95
@pytest.mark.parametrize(
    ("arch", "temperature"), [("resnet18x0.25", 0.01), ("vit_tiny_patch16", 0.07)]
)
def test_ranks_are_scikit_learns(
    folder: Path, tmp_path: Path, arch: str, temperature: float
) -> None:
    """Of every picture: of random features the scores alone may agree by chance."""
    plan = make_plan(request(folder, tmp_path, arch))
    train, val = (crop_vectors(plan.request, one) for one in (plan.train, plan.dataset.val))
    labels = [one.label for one in plan.dataset.val]
    found = {}
    for k, chosen in ((1, None), (10, None), (3, temperature), (10, temperature)):
        settings = {"knn.ks": [k], "knn.temperature": chosen}
        record = run(folder, tmp_path, arch, overrides=settings).record
        outcome = LabelRanks.from_arrays(read_arrays(tmp_path / str(record.pictures_file)))
        assert outcome.names == tuple(one.name for one in plan.dataset.val)
        weights = None if chosen is None else partial(weights_of, temperature=chosen)
        peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
        shares = peer.fit(train, [one.label for one in plan.train]).predict_proba(val)
        # relative: features are stored in half precision
        least, largest = possible_ranks(np.log(shares + 1e-30), labels, 0.01)
        least[shares[range(len(val)), labels] == 0] = len(plan.dataset.classes) - 1
        ranks = found[k, chosen] = outcome.ranks[:, 0]
        assert (least <= ranks).all() and (ranks <= largest).all()
        assert record.results[0].score == pytest.approx(100 * (ranks == 0).mean(), abs=1e-3)
    # the last that was asked for needs its temperature
    assert ((found[10, None] < least) | (found[10, None] > largest)).any()
    grid = run(folder, tmp_path, arch, overrides={"knn.temperature": temperature}).record
    expected = [100 * (found[k, temperature] == 0).mean() for k in (3, 10)]
    assert [one.score for one in grid.results[1:]] == pytest.approx(expected, abs=1e-3)


def weights_of(distances: Any, temperature: float) -> Any:
    """Of neighbours at cosine distances."""
    return np.exp((1 - distances) / temperature)


def test_features_are_computed_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path)
    calls: list[int] = []
    original = FrozenTrunk.pooled

    def counted(self: FrozenTrunk, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FrozenTrunk, "pooled", counted)
    run(folder, tmp_path, overrides={"knn.ks": [5]})
    assert calls == []
    run(folder, tmp_path, overrides={"data.crop": 40})
    assert sum(calls) == 42


def test_a_resumed_run_ends_where_it_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(folder, tmp_path / "whole").record
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunInterruptedError, match="after 0 of 3 points of the grid"),
    ):
        run(folder, tmp_path / "parts", reporter=stop_after(patch, "features of train", 30))
    (path,) = (tmp_path / "parts").glob("*.json")
    assert read_record(path).status == "interrupted"
    resumed = run(folder, tmp_path / "parts").record
    assert resumed.results == whole.results and resumed.best == whole.best


def test_held_out_pictures_choose(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, select="holdout").record
    assert record.data.holdout == 3 and record.data.train == 27
    best = max(record.results, key=lambda one: -1.0 if one.holdout is None else one.holdout)
    assert record.best is not None and record.best.options == best.options


def test_more_neighbours_than_pictures_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"200 neighbours of 30 training pictures.*--set knn.ks"):
        run(folder, tmp_path, overrides={"knn.ks": [10, 200]})


@pytest.mark.parametrize("name", ["imagenet_knn", "folder_knn"])
def test_protocols(name: str) -> None:
    task = load_task(name)
    assert task.settings.dump() == {
        "data": {
            "dataset": name.removesuffix("_knn"),
            "variant": name.removesuffix("_knn"),
            "crop": 224,
            "resize": [256, 256],
        },
        "backbone": {},
        "sweep": {"run_seed": 0, "holdout": 0.1},
        "knn": {"ks": [10, 20, 100, 200], "temperature": 0.07},
    }
    assert task.info.frozen and task.info.probe
    with pytest.raises(ConfigError, match=r"no setting 'sweep.lrs'"):
        load_task(name, overrides={"sweep.lrs": [0.1]})


def test_a_second_process_computes_what_is_shared_and_waits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(folder, tmp_path / "alone").record
    asked = request(folder, tmp_path / "two")
    joined: list[RunOutcome] = []
    there = threading.Event()

    class Second(Silent):
        def warn(self, text: str) -> None:
            super().warn(text)
            there.set()

    second = Second()
    thread = threading.Thread(target=lambda: joined.append(run_task(asked, second)))

    def begin(name: str, done: int) -> None:
        if name == "features of train" and done == 30:
            thread.start()
            assert there.wait(60)

    first = run_task(asked, Silent(begin))
    thread.join(60)
    assert [text for text in second.warnings if "what both need is computed together" in text]
    assert first.record.results == joined[0].record.results == alone.results
    assert joined[0].path == first.path
