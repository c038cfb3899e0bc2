"""A run's detectors against mmdetection's plain ones, stepped by mmengine's own `train_step`."""

from typing import Any

import pytest
import torch
from mmdet.models import FasterRCNN, MaskRCNN
from mmengine.optim import OptimWrapper
from torch import nn

from tests.tasks.detection.pictures import CLASSES, batch
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.tasks.detection.dataset import preprocessor
from vicregl_bench.tasks.detection.models import (
    FasterRCNNOptions,
    MaskRCNNOptions,
    build_frcnn_c4,
    build_mask_rcnn_fpn,
)
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.detection.trained_detector import build_trained, is_finite
from vicregl_bench.tasks.protocol import load_task

SMALL: dict[str, Any] = {
    "proposals_train": (200, 50),
    "proposals_test": (100, 20),
    "anchors": 64,
    "regions": 32,
}
TINY = "random:resnet18x0.25"


def settings(name: str, **options: Any) -> DetectionSettings:
    overrides = {
        f"detector.{key}": list(v) if isinstance(v, tuple) else v for key, v in SMALL.items()
    }
    found = load_task(name, "ci", overrides | options.pop("overrides", {}), **options).settings
    assert isinstance(found, DetectionSettings)
    return found


def sgd(model: nn.Module) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


def distance(one: nn.Module, other: nn.Module) -> float:
    """Largest difference of a parameter, relative to its norm."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float(((a - b).norm() / b.norm().clamp(min=1e-12)).detach()) for a, b in pairs)


def peer(name: str, preset: str | None) -> Any:
    """Mmdetection's own class, with the numbers that the protocol's run has."""
    source = read_backbone(TINY)
    shared: dict[str, Any] = {"run_seed": 0, "head_seed": 3}
    if name == "coco_maskrcnn":
        return build_mask_rcnn_fpn(
            source,
            MaskRCNNOptions(**SMALL),
            num_classes=80,
            data_preprocessor=preprocessor(source.card, masks=True),
            **shared,
        )
    weight = {"moco": 1.0, "lars": 0.2}[str(preset)]
    return build_frcnn_c4(
        source,
        FasterRCNNOptions(**SMALL, rpn_loss_weight=weight),
        num_classes=20,
        data_preprocessor=preprocessor(source.card),
        **shared,
    )


@pytest.mark.parametrize(
    ("name", "preset"),
    [("voc_det_frcnn_c4", "moco"), ("voc_det_frcnn_c4", "lars"), ("coco_maskrcnn", None)],
)
def test_three_iterations_equal_mmdetection(name: str, preset: str | None) -> None:
    masks = name == "coco_maskrcnn"
    mine = build_trained(
        settings(name, preset=preset), read_backbone(TINY), masks=masks, head_seed=3
    )
    theirs = peer(name, preset)
    plain = MaskRCNN if masks else FasterRCNN
    assert isinstance(theirs, plain) and isinstance(mine, plain)
    assert type(theirs).train_step is plain.train_step is not type(mine).train_step
    assert distance(mine, theirs) == 0
    begun = [parameter.detach().clone() for parameter in theirs.parameters()]
    my_wrapper, their_wrapper = sgd(mine), sgd(theirs)
    for step in range(3):
        mine.train()
        theirs.train()
        mine.seed_step()  # the same anchors and regions are drawn
        log = theirs.train_step(batch(step), their_wrapper)
        torch.manual_seed(step)  # whatever was drawn in between
        found = mine.train_step(batch(step), my_wrapper)
        assert float(found["loss"]) == pytest.approx(float(log["loss"].detach()), rel=1e-4)
        assert int(found["heads"]) == 1
    assert int(mine.iteration) == 3 and int(mine.diverged_at) == -1
    assert distance(mine, theirs) < 1e-4
    for name_, buffer in theirs.named_buffers():
        if "running" in name_:
            torch.testing.assert_close(mine.get_buffer(name_), buffer, rtol=1e-4, atol=1e-6)
    moved = [not torch.equal(a, b) for a, b in zip(begun, theirs.parameters(), strict=True)]
    assert all(moved)


def test_samples_follow_from_seeds_and_iteration() -> None:
    def first_loss(head_seed: int, iteration: int) -> float:
        model = build_trained(
            settings("voc_det_frcnn_c4"), read_backbone(TINY), masks=False, head_seed=0
        )
        model.step_seeds = (0, head_seed)
        model.iteration.fill_(iteration)
        model.train()
        return float(model.train_step(batch(0), sgd(model))["loss"])

    losses = [first_loss(*entropy) for entropy in [(0, 0), (0, 0), (1, 0), (0, 1)]]
    assert losses[0] == losses[1] and len(set(losses)) == 3


def test_a_broken_model_says_so() -> None:
    model = build_trained(
        settings("voc_det_frcnn_c4"), read_backbone(TINY), masks=False, head_seed=0
    )
    assert model.roi_head.bbox_head.num_classes >= CLASSES
    assert is_finite(model)
    model.train()
    model.train_step(batch(0), sgd(model))
    model.roi_head.shared_head.norm.running_var[3] = float("nan")
    assert not is_finite(model)
    model.mark_broken()
    assert int(model.diverged_at) == 0
    model.iteration += 5
    model.mark_broken()  # once is enough
    assert int(model.diverged_at) == 0
