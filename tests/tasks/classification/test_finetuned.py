"""Fine-tuned classification through `run_task`: the record, resuming, a plain loop of torch."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records import Record, read_record
from vicregl_bench.tasks.classification.finetuned import FinetunedClassification
from vicregl_bench.tasks.classification.finetuned_settings import FinetunedSettings
from vicregl_bench.tasks.classification.trained_classifier import TrainedClassifier
from vicregl_bench.tasks.finetune_job import _optimizer
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import run_task

SMALL: dict[str, Any] = {
    "data.variant": "folder",
    "data.crop": 48,
    "data.resize": 56,
    "schedule.iters": 3,
    "schedule.batch_size": 8,
    "sweep.lrs": [0.03],
    "classifier.lr": 0.08,
}
RUN = "lr 0.03, seed 0 (1 of 1)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 24 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=24, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, arch: str = "resnet18x0.25", **changes: Any) -> RunRequest:
    overrides = SMALL | changes.pop("overrides", {})
    return ask("folder_semi_1", overrides, root, out, arch, **changes)


def run(*args: Any, reporter: Any = None, **kwargs: Any) -> Record:
    return run_task(request(*args, **kwargs), reporter or Silent()).record


def domain_of(asked: RunRequest) -> FinetunedClassification:
    domain = make_plan(asked).domain
    assert isinstance(domain, FinetunedClassification)
    return domain


def test_a_run_leaves_a_whole_record(folder: Path, tmp_path: Path) -> None:
    overrides = {"sweep.seeds": 2}
    outcome = run_task(request(folder, tmp_path, overrides=overrides), Silent())
    record = read_record(outcome.path)
    assert (record.status, record.task.metric) == ("complete", "top1")
    assert [(one.lr, one.seed) for one in record.results] == [(0.03, 0), (0.03, 1)]
    assert record.progress.iterations == record.progress.of == 6
    assert record.frozen_hash_unchanged is None and record.trained == ()
    assert record.best and set(record.best.scores) == {"top1", "top5", "mean_per_class"}
    assert len(record.best.by_class) == 6
    assert run_task(request(folder, tmp_path, overrides=overrides), Silent()).skipped


def test_losses_are_those_of_a_plain_loop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backbone, nn.Linear, SGD of two groups, cosine, BatchNorm in training mode."""
    asked = request(folder, tmp_path)
    domain = domain_of(asked)
    losses: list[float] = []
    models: list[TrainedClassifier] = []
    original = TrainedClassifier.train_step

    def watched(self: TrainedClassifier, data: Any, optim_wrapper: Any) -> Any:
        if self not in models:
            models.append(self)
        told = original(self, data, optim_wrapper)
        losses.append(float(told["loss"]))
        return told

    monkeypatch.setattr(TrainedClassifier, "train_step", watched)
    assert run_task(asked, Silent()).record.status == "complete"

    start = domain.trained_model(HeadSpec(0.03, 0))
    body = asked.source.build().train()
    layer = nn.Linear(128, 6)
    layer.load_state_dict(start.head.state_dict())
    assert float(layer.weight.std().detach()) == pytest.approx(0.01, rel=0.1)
    assert not layer.bias.any()
    groups = [
        {"params": layer.parameters(), "lr": 0.08},
        {"params": body.parameters(), "lr": 0.03},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    batches = iter(
        Runner.build_dataloader(domain.train_loader(domain.dataset.train, workers=0), seed=0)
    )
    expected = []
    for _ in range(3):
        batch = start.data_preprocessor(next(batches), True)
        logits = layer(body.pooled(batch["inputs"]))
        loss = nn.functional.cross_entropy(logits, batch["data_samples"]["label"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, rel=1e-4)
    assert max(expected) - min(expected) > 1e-2  # the batches and steps tell something
    (trained,) = models
    ours, theirs = trained.backbone.body.state_dict(), body.state_dict()
    for key in ("conv1.weight", "bn1.running_mean", "layer4.1.bn2.running_var"):
        assert torch.allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-5)
        assert not torch.allclose(ours[key], asked.source.state_dict[key], rtol=1e-3)


def test_both_rates_reach_the_optimiser_and_fall_by_cosine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    original = TrainedClassifier.train_step

    def watched(self: TrainedClassifier, data: Any, optim_wrapper: Any) -> Any:
        seen.append([group["lr"] for group in optim_wrapper.optimizer.param_groups])
        return original(self, data, optim_wrapper)

    monkeypatch.setattr(TrainedClassifier, "train_step", watched)
    run(folder, tmp_path, overrides={"schedule.iters": 4, "classifier.lr": 0.5})
    falling = [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]  # (1 + cos(pi t / 4)) / 2
    assert [rates[0] for rates in seen] == pytest.approx([0.03 * one for one in falling])
    assert [rates[1] for rates in seen] == pytest.approx([0.5 * one for one in falling])


def test_norms_are_not_decayed_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    plan = make_plan(request(folder, tmp_path))
    model = plan.training.trained_model(HeadSpec(0.03, 0))
    schedule = plan.task.training.schedule
    optimizer = schedule.optimizer.model_copy(update={"norm_decay": False, "weight_decay": 0.1})
    changed = schedule.model_copy(update={"optimizer": optimizer})
    settings = plan.task.settings.model_copy(update={"schedule": changed})
    task = plan.task.model_copy(update={"settings": settings})
    asked = dataclasses.replace(plan, request=dataclasses.replace(plan.request, task=task))
    groups = _optimizer(asked, model, HeadSpec(0.03, 0)).optimizer.param_groups
    told = [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
    # ResNet-18: 20 convolutions, 20 BatchNorms of two parameters; the linear layer has two
    assert told == [(0.03, 0.1, 20), (0.03, 0.0, 40), (0.08, 0.1, 2), (0.08, 0.0, 0)]


@pytest.mark.parametrize(("stage", "step"), [("training", 2), ("validating", 12)])
def test_a_resumed_run_ends_where_it_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    whole = run(folder, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(folder, tmp_path / "parts", reporter=stop_after(patch, f"{stage} {RUN}", step))
    resumed = run(folder, tmp_path / "parts")
    assert resumed.results == whole.results and resumed.best == whole.best


@pytest.mark.parametrize("arch", ["convnext_atto", "vit_tiny_patch16"])
def test_other_families_and_parts_of_a_batch(folder: Path, tmp_path: Path, arch: str) -> None:
    """Without BatchNorm a batch in two parts is the same step."""
    few = {"schedule.iters": 1, "schedule.batch_size": 4}
    record = run(folder, tmp_path, arch, overrides={**few, "schedule.accumulate": 2})
    assert record.status == "complete"
    batch: Any = None
    told = []
    for parts in (None, 2):
        domain = domain_of(
            request(folder, tmp_path, arch, overrides={**few, "schedule.accumulate": parts})
        )
        loader = Runner.build_dataloader(domain.train_loader(domain.dataset.train, workers=0))
        batch = batch or next(iter(loader))
        model = domain.trained_model(HeadSpec(0.03, 0)).train()
        optimizer = OptimWrapper(torch.optim.SGD(model.param_groups(), lr=0.03))
        loss = float(model.train_step(batch, optimizer)["loss"])
        told.append((loss, *model.head.bias.detach().tolist()))
    assert told[0] == pytest.approx(told[1], rel=1e-4)


def test_a_share_of_train(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, overrides={"data.variant": "folder_10pct"})
    assert record.data.train == 6  # at least one of each class
    assert any("6 of 24 train pictures (10 % of each class" in one for one in record.deviations)


def test_epochs_count_the_share(folder: Path, tmp_path: Path) -> None:
    source = read_backbone("random:resnet18x0.25")
    task = load_task("folder_semi_1", "paper", {"schedule.batch_size": 8, "schedule.epochs": 2})
    plan = make_plan(
        RunRequest(task=task, source=source, data_root=folder, out=tmp_path, device="cpu")
    )
    assert plan.task.training.schedule.iters == 2  # ceil(2 * 6 / 8)


def test_held_out_pictures_choose(folder: Path, tmp_path: Path) -> None:
    record = run(folder, tmp_path, select="holdout")
    assert record.data.holdout == 2 and record.data.train == 22
    assert record.results[0].holdout is not None


def test_a_rate_that_is_too_large_diverges(folder: Path, tmp_path: Path) -> None:
    lost = run(folder, tmp_path, overrides={"classifier.lr": 1e30, "schedule.iters": 5})
    assert (lost.status, lost.best) == ("diverged", None)


def test_a_broken_model_is_marked_when_it_is_scored(folder: Path, tmp_path: Path) -> None:
    domain = domain_of(request(folder, tmp_path))
    model = domain.trained_model(HeadSpec(0.03, 0)).eval()
    loader = Runner.build_dataloader(domain.test_loader(domain.dataset.val, workers=0))
    batch = next(iter(loader))
    with torch.no_grad():
        model.head.weight.zero_()
        # all logits are equal: never right
        assert [int(one["ranks"][0]) for one in model.val_step(batch)] == [5] * 12
        assert int(model.diverged_at) == -1
        model.head.weight[2] = torch.nan
        model.val_step(batch)
    assert int(model.diverged_at) == 0


def test_views_are_averaged(folder: Path, tmp_path: Path) -> None:
    """Scoring five crops and their flips is scoring the mean vector."""
    domain = domain_of(request(folder, tmp_path, overrides={"data.views": "five_crops"}))
    model = domain.trained_model(HeadSpec(0.03, 0)).eval()
    loader = Runner.build_dataloader(domain.test_loader(domain.dataset.val, workers=0))
    batch = model.data_preprocessor(next(iter(loader)), False)
    assert batch["inputs"].shape == (120, 3, 48, 48)
    labels = batch["data_samples"]["label"]
    with torch.no_grad():
        found = model(batch["inputs"], batch["data_samples"])
        vectors = model.backbone.body.pooled(batch["inputs"]).view(12, 10, -1).mean(1)
        logits = model.head(vectors)
    order = logits.argsort(dim=1, descending=True)
    expected = (order == labels[:, None]).int().argmax(dim=1)
    assert [int(one["ranks"][0]) for one in found] == expected.tolist()


def test_the_papers_numbers() -> None:
    for percent, encoder, head in ((1, 0.03, 0.08), (10, 0.01, 0.1)):
        task = load_task(f"imagenet_semi_{percent}")
        s = task.settings
        assert isinstance(s, FinetunedSettings)
        assert (s.sweep.lrs, s.classifier.lr) == ((encoder,), head)
        assert (s.schedule.epochs, s.schedule.batch_size) == (20, 256)
        assert s.schedule.optimizer.weight_decay == 0.0 and s.schedule.cosine is not None
        assert s.data.variant == f"imagenet_{percent}pct" and not task.info.frozen


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"classifier.lr": 0}, "greater than 0"),
        ({"classifier.inputs": ["avg"]}, "no setting 'classifier.inputs'"),
        ({"classifier.batch_norm": True}, "classifier.batch_norm = true is impossible"),
        ({"data.variant": "imagenet_1pct"}, "folder has folder and folder_1pct and folder_10pct"),
    ],
)
def test_impossible_settings(overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_task("folder_semi_1", overrides=overrides)
