"""Test-time augmentation: ten views of every picture that is scored, their features averaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from torchvision.transforms import functional

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import make_image_folder
from vicregl_bench.data.reading import read_rgb
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.tasks.classification.domain import Classification
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.run import run_task

SMALL: dict[str, dict[str, Any]] = {
    "folder_knn": {"knn.ks": [1, 3]},
    "folder_linear_cached": {"sweep.l2": [0.1]},
    "folder_probe_search": {"search.trials": 2, "search.epochs": [1, 2]},
    "folder_linear": {"schedule.epochs": 1, "schedule.batch_size": 8, "sweep.lrs": [0.3, 0.03]},
}
CROPS = {"data.crop": 48, "data.resize": [60, 56]}
VIEWS = {"data.views": "five_crops"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, 18 training and 12 val pictures."""
    return make_image_folder(
        tmp_path_factory.mktemp("folder"), train=18, val=12, seed=0, size=(72, 64)
    )


def request(root: Path, out: Path, task: str, **overrides: Any) -> RunRequest:
    return ask(task, SMALL[task] | CROPS | overrides, root, out)


@pytest.mark.parametrize("task", list(SMALL))
def test_they_are_a_named_deviation(task: str) -> None:
    plain, views = load_task(task), load_task(task, overrides=VIEWS)
    assert "views" not in plain.settings.dump()["data"]
    assert [str(one) for one in views.deviations] == ['data.views: "five_crops" instead of none']
    with pytest.raises(ConfigError, match=r"data\.views = \"six\""):
        load_task(task, overrides={"data.views": "six"})
    with pytest.raises(ConfigError, match=r"a crop of 300 px needs data\.resize"):
        load_task(task, overrides={"data.crop": 300, **VIEWS})


@pytest.mark.parametrize("task", ["folder_knn", "folder_linear_cached", "folder_probe_search"])
def test_a_probe_learns_from_crops_and_scores_views(
    task: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 2 if task == "folder_probe_search" else 0  # a slice of train, which it scores
    seen: list[int] = []
    original = FrozenTrunk.pooled

    def counted(self: FrozenTrunk, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FrozenTrunk, "pooled", counted)
    plain = run_task(request(folder, tmp_path, task), Silent()).record
    assert sum(seen) == 18 + held + 12
    seen.clear()
    views = run_task(request(folder, tmp_path, task, **VIEWS), Silent()).record
    assert sum(seen) == (held + 12) * 10  # train's were in the cache
    assert views.key != plain.key
    seen.clear()
    other = {"data.metric": "mean_per_class"}
    balanced = run_task(request(folder, tmp_path, task, **VIEWS, **other), Silent()).record
    assert seen == []
    assert balanced.task.metric == "mean_per_class" and balanced.best is not None
    assert balanced.best.score == balanced.best.scores["mean_per_class"]


def linear_model(asked: RunRequest) -> tuple[Classification, Any]:
    domain = make_plan(asked).domain
    assert isinstance(domain, Classification)
    return domain, domain.sweep_model(FrozenTrunk(asked.source.build()))


@pytest.mark.parametrize("inputs", ["pooled", "pooled,stages"])
def test_the_linear_models_ranks_are_a_hand_loops(
    folder: Path, tmp_path: Path, inputs: str
) -> None:
    names = inputs.split(",")
    asked = request(folder, tmp_path, "folder_linear", **VIEWS, **{"classifier.inputs": names})
    domain, model = linear_model(asked)
    sweep, card = model.sweep, asked.source.card
    loader = Runner.build_dataloader(domain.test_loader(domain.dataset.val, workers=0))
    found = [one for batch in loader for one in model.test_step(batch)]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (card.mean, card.std))
    trunk = FrozenTrunk(asked.source.build())
    assert [one["index"] for one in found] == list(range(12))
    for one, picture in zip(found, domain.dataset.val, strict=True):
        views = functional.ten_crop(functional.resize(read_rgb(picture.image), [60, 56]), 48)
        pixels = torch.stack([functional.pil_to_tensor(view) for view in views]).float()
        vectors = {
            name: vector.mean(dim=0)
            for name, vector in trunk.vectors((pixels - mean) / std).items()
        }
        for k, name in enumerate(sweep.inputs):
            logits = sweep.weights[k].detach() @ vectors[name] + sweep.biases[k].detach()
            rank = int((logits > logits[picture.label]).sum())
            assert one["ranks"][k] == rank


def test_a_constant_picture_has_the_same_logits(folder: Path, tmp_path: Path) -> None:
    asked = request(folder, tmp_path, "folder_linear", **VIEWS)
    _, model = linear_model(asked)
    one = torch.full((3, 3, 48, 48), 0.25) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    many = one.repeat_interleave(10, dim=0)
    torch.testing.assert_close(
        model.mean_features(many, 3)["pooled"], model.features(one)["pooled"], rtol=1e-5, atol=1e-6
    )


def test_linear_end_to_end_and_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_task(request(folder, tmp_path / "whole", "folder_linear", **VIEWS), Silent()).record
    assert whole.status == "complete" and whole.data.val == 12
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        stopping = stop_after(patch, "validating", 12)
        run_task(request(folder, tmp_path / "parts", "folder_linear", **VIEWS), stopping)
    resumed = run_task(
        request(folder, tmp_path / "parts", "folder_linear", **VIEWS), Silent()
    ).record
    assert resumed.results == whole.results
