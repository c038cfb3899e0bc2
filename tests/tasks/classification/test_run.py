"""Linear classification through `run_task`: the record, resuming, one pass against single heads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch import nn
from torchvision import transforms

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import make_image_folder
from vicregl_bench.data.reading import read_rgb
from vicregl_bench.errors import ConfigError, DataError, RunInterruptedError
from vicregl_bench.records import Record, read_record
from vicregl_bench.tasks.classification.dataset import LabelledPictures, train_loader
from vicregl_bench.tasks.classification.domain import Classification
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.classification.settings import ClassificationSettings
from vicregl_bench.tasks.grid import learning_rate_schedule
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import run_task

SMALL: dict[str, Any] = {
    "data.crop": 48,
    "data.resize": [56, 56],
    "schedule.epochs": 2,
    "schedule.batch_size": 8,
    "sweep.lrs": [0.3, 0.03],
    "sweep.seeds": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 18 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=18, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, arch: str = "resnet18x0.25", **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    return ask("folder_linear", overrides, root, out, arch, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> Record:
    return run_task(request(*args, **kwargs), reporter or Silent()).record


def test_a_run_leaves_a_whole_record(folder: Path, tmp_path: Path) -> None:
    outcome = run_task(request(folder, tmp_path), Silent())
    record = read_record(outcome.path)
    assert (record.status, record.task.metric) == ("complete", "top1")
    assert (record.data.train, record.data.val) == (18, 12)
    assert record.progress.iterations == record.progress.of == 5  # ceil(2 * 18 / 8)
    assert record.frozen_hash_unchanged is True
    assert [parameter.shape for parameter in record.trained] == [(6, 128), (6,)]
    assert record.predictions_file is None
    best = record.best
    assert best and set(best.scores) == {"top1", "top5", "mean_per_class"}
    assert best.interval[0] <= best.score <= best.interval[1]
    with np.load(tmp_path / str(record.pictures_file)) as arrays:
        kept = LabelRanks.from_arrays(dict(arrays))
    assert kept.ranks.shape == (12, 2)  # of the best point's seeds
    again = [kept.head(k).score for k in range(2)]
    assert best.score == pytest.approx(np.mean(again), abs=1e-3)
    assert run_task(request(folder, tmp_path), Silent()).skipped


@pytest.mark.parametrize("arch", ["convnext_atto", "vit_tiny_patch16"])
def test_other_families(folder: Path, tmp_path: Path, arch: str) -> None:
    few = {"schedule.epochs": 1, "sweep.lrs": [0.1], "sweep.seeds": 1}
    assert run(folder, tmp_path, arch, overrides=few).status == "complete"


@pytest.mark.parametrize(("stage", "step"), [("training", 2), ("validating", 12)])
def test_a_resumed_run_ends_where_it_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    whole = run(folder, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(folder, tmp_path / "parts", reporter=stop_after(patch, stage, step))
    resumed = run(folder, tmp_path / "parts")
    assert resumed.results == whole.results and resumed.best == whole.best


def test_held_out_pictures_choose(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, select="holdout")
    assert record.data.holdout == 2 and record.data.train == 16
    assert record.progress.of == 4  # ceil(2 * 16 / 8)
    assert all(result.holdout is not None for result in record.results)


def test_heads_are_those_of_a_plain_linear_evaluation(folder: Path, tmp_path: Path) -> None:
    """Frozen features, nn.Linear, cross-entropy, torch's SGD and cosine: one head after another."""
    asked = request(folder, tmp_path)
    plan = make_plan(asked)
    domain = plan.domain
    assert isinstance(domain, Classification)
    settings = domain.settings
    model = domain.sweep_model(FrozenTrunk(asked.source.build()))
    sweep = model.sweep
    layers = []
    for k in range(len(sweep.heads)):
        layer = nn.Linear(128, 6)
        with torch.no_grad():
            layer.weight.copy_(sweep.weights[k])
            layer.bias.copy_(sweep.biases[k])
        layers.append(layer)
    backbone = asked.source.build().eval()
    record = run(folder, tmp_path)
    batches = iter(Runner.build_dataloader(domain.train_loader(plan.train, workers=0), seed=0))
    optimizers = [
        torch.optim.SGD(layer.parameters(), lr=head.lr, momentum=0.9, weight_decay=1e-6)
        for layer, head in zip(layers, sweep.heads, strict=True)
    ]
    steps = settings.schedule.iters
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(one, T_max=steps) for one in optimizers]
    preprocess = model.data_preprocessor
    for _ in range(steps):
        batch = preprocess(next(batches), True)
        with torch.no_grad():
            features = backbone.pooled(batch["inputs"])
        for layer, optimizer, schedule in zip(layers, optimizers, schedules, strict=True):
            loss = nn.functional.cross_entropy(layer(features), batch["data_samples"]["label"])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    transform = transforms.Compose(
        [transforms.Resize((56, 56)), transforms.CenterCrop(48), transforms.ToTensor()]
    )
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (asked.source.card.mean, asked.source.card.std)
    )
    pictures = torch.stack(
        [(transform(read_rgb(one.image)) * 255 - mean) / std for one in domain.dataset.val]
    )
    labels = torch.tensor([one.label for one in domain.dataset.val])
    with torch.no_grad():
        features = backbone.pooled(pictures)
        for layer, result in zip(layers, record.results, strict=True):
            top1 = (layer(features).argmax(dim=1) == labels).float().mean()
            assert result.score == pytest.approx(100 * float(top1), abs=1e-3)


def test_the_schedule_is_torchs_cosine() -> None:
    task = load_task("folder_linear", overrides={"schedule.epochs": None, "schedule.iters": 7})
    (cosine,) = learning_rate_schedule(task.settings)
    assert cosine["type"] == "CosineAnnealingLR" and cosine["T_max"] == 7


def test_the_papers_numbers() -> None:
    task = load_task("imagenet_linear")
    s = task.settings
    assert isinstance(s, ClassificationSettings)
    assert s.sweep.lrs == (30, 10, 1.0, 0.3, 0.1, 0.03, 0.01)
    assert (s.schedule.epochs, s.schedule.batch_size) == (100, 256)
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 1e-6)
    assert (s.data.crop, s.data.resize, s.data.scale) == (224, (256, 256), (0.08, 1.0))
    assert task.info.tables == ("1", "2") and task.info.frozen


def test_epochs_or_iterations() -> None:
    with pytest.raises(ConfigError, match="either epochs or iters"):
        load_task("folder_linear", overrides={"schedule.iters": 10})


def test_augmentation_follows_from_the_position(folder: Path, tmp_path: Path) -> None:
    domain = make_plan(request(folder, tmp_path)).domain
    config = train_loader(
        domain.dataset.train, domain.settings.data, batch_size=4, seed=0, workers=0
    )
    pictures = LabelledPictures(domain.dataset.train, config["dataset"]["transform"], seed=0)
    state = torch.random.get_rng_state()
    first, again, other = (pictures[place]["inputs"] for place in ((3, 1), (3, 1), (4, 1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    in_loader = next(iter(Runner.build_dataloader(config, seed=0)))["inputs"]
    in_workers = next(iter(Runner.build_dataloader({**config, "num_workers": 2}, seed=0)))["inputs"]
    assert torch.equal(in_loader, in_workers)


def test_ranks() -> None:
    ranks = LabelRanks(
        names=("a", "b", "c"),
        labels=np.array([0, 0, 2]),
        ranks=np.array([[0, 5], [1, 0], [4, 0]]),
        classes=6,
    )
    first, second = ranks.head(0), ranks.head(1)
    assert first.scores == {
        "top1": pytest.approx(100 / 3),
        "top5": pytest.approx(100.0),
        "mean_per_class": pytest.approx(25.0),
    }
    assert first.by_class == (50.0, None, 0.0, None, None, None)
    assert second.score == pytest.approx(200 / 3)
    alone = [LabelRanks(ranks.names, ranks.labels, ranks.ranks[:, [k]], 6) for k in range(2)]
    joined = LabelRanks.together([alone[0], None, alone[1]])
    assert joined is not None and joined.head(0).scores == first.scores
    assert joined.head(1).score == 0.0 and joined.head(2).scores == second.scores
    assert LabelRanks.together([None]) is None


def test_a_constant_classifier_is_never_right(folder: Path, tmp_path: Path) -> None:
    domain = make_plan(request(folder, tmp_path)).domain
    model = domain.sweep_model(FrozenTrunk(domain.source.build()))
    for parameter in model.sweep.parameters():
        parameter.data.zero_()
    batch = next(iter(Runner.build_dataloader(domain.test_loader(domain.dataset.val, workers=0))))
    found = model.test_step(batch)
    assert all((one["ranks"] == 5).all() for one in found)


@pytest.mark.parametrize("scale", [[0.9, 0.1], [0.0, 0.0]])
def test_crops_of_no_area_are_refused(scale: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"setting data\.scale .*the least share is above 0"):
        load_task("folder_linear", overrides={"data.scale": scale})


def test_a_damaged_picture(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"none")
    with pytest.raises(DataError, match=r"cannot read the picture .*broken\.png"):
        read_rgb(path)
