"""The mmengine models of fine-tuned detection: mmdetection's, stepped as our runs are."""

from typing import Any

import torch
from mmdet.models import FasterRCNN, MaskRCNN

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.tasks.detection.dataset import preprocessor
from vicregl_bench.tasks.detection.models import (
    FasterRCNNOptions,
    MaskRCNNOptions,
    build_frcnn_c4,
    build_mask_rcnn_fpn,
)
from vicregl_bench.tasks.detection.settings import DetectionSettings, DetectorSection
from vicregl_bench.tasks.trained import TrainedSteps


class TrainedFasterRCNN(TrainedSteps, FasterRCNN):  # type: ignore[misc]
    """mmdet's Faster R-CNN, stepped as `TrainedSteps` says."""


class TrainedMaskRCNN(TrainedSteps, MaskRCNN):  # type: ignore[misc]
    """mmdet's Mask R-CNN, stepped as `TrainedSteps` says."""


def build_trained(
    settings: DetectionSettings, source: BackboneSource, *, masks: bool, head_seed: int
) -> Any:
    """The model of one run of a fine-tuned task.

    Args:
        settings: of the task.
        source: of the backbone.
        masks: Mask R-CNN with a feature pyramid, else Faster R-CNN C4.
        head_seed: seed of the new layers, of sampling and of the order of random numbers.

    Returns:
        A `TrainedMaskRCNN` or a `TrainedFasterRCNN`.

    Raises:
        ConfigError: a backbone that has no such detector.
    """
    build: Any = build_mask_rcnn_fpn if masks else build_frcnn_c4
    run_seed = settings.sweep.run_seed
    return build(
        source,
        _options(MaskRCNNOptions if masks else FasterRCNNOptions, settings.detector),
        num_classes=settings.data.num_classes,
        data_preprocessor=preprocessor(source.card, masks=masks),
        run_seed=run_seed,
        head_seed=head_seed,
        detector=TrainedMaskRCNN if masks else TrainedFasterRCNN,
        accumulate=settings.schedule.accumulate or 1,
        step_seeds=(run_seed, head_seed),
        one_size=False,
    )


def _options(kind: type[Any], section: DetectorSection) -> Any:
    return kind(**section.model_dump())


def is_finite(model: torch.nn.Module) -> bool:
    """Whether every parameter and buffer of a model is."""
    tensors = (*model.parameters(), *model.buffers())
    return all(bool(torch.isfinite(one).all()) for one in tensors if one.is_floating_point())
