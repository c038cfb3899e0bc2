"""The mmengine model of a fine-tuned task: one head, and the whole backbone trained along.

Each (learning rate, seed) is a run of mmsegmentation's `EncoderDecoder`.
"""

import warnings
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import initialize
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.heads.streams import INITIALISATION, seeded
from vicregl_bench.tasks.segmentation.decode_head import SplitLinearHead
from vicregl_bench.tasks.segmentation.settings import (
    FcnHeadSection,
    SegmentationSettings,
    SlideSection,
)
from vicregl_bench.tasks.trained import TrainedBackbone, TrainedSteps


class TrainedSegmentor(TrainedSteps, EncoderDecoder):  # type: ignore[misc]
    """mmseg's segmentor, stepped as `TrainedSteps` says; all crops of a task are of one size."""

    def inference(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
        """Logits (B, C, H, W) as mmseg's; where not finite, the last step broke the model."""
        logits: Tensor = super().inference(inputs, batch_img_metas)
        if not torch.isfinite(logits).all():
            self.mark_broken()
        return logits


def build_trained(
    settings: SegmentationSettings,
    source: BackboneSource,
    data_preprocessor: dict[str, Any],
    *,
    run_seed: int,
    head_seed: int,
) -> TrainedSegmentor:
    """The model of one run of a fine-tuned task: a backbone with its weights, and fresh heads.

    The heads' initialisation follows from the two seeds alone. The global generator is left as it
    was.

    Args:
        settings: of the task.
        source: of the backbone.
        data_preprocessor: mmseg's configuration of it.
        run_seed: seed of the whole run.
        head_seed: seed of the heads.

    Raises:
        ConfigError: an output stride that the backbone cannot have.
    """
    with torch.random.fork_rng(devices=[]):
        backbone = source.build(settings.backbone.output_stride)
    start = seeded(torch.device("cpu"), run_seed, head_seed, INITIALISATION)
    with start, warnings.catch_warnings():
        # mmseg's loss warns that it averages over ignored pixels too, which is what is wanted
        warnings.filterwarnings("ignore", message="Default ``avg_non_ignore`` is False")
        model = TrainedSegmentor(
            accumulate=settings.schedule.accumulate or 1,
            step_seeds=(run_seed, head_seed),
            data_preprocessor=data_preprocessor,
            backbone={"type": TrainedBackbone, "body": backbone},
            **_heads(settings, source.architecture),
            test_cfg=_test_options(settings.slide),
        )
        for head in (model.decode_head, getattr(model, "auxiliary_head", None)):
            if head is not None:
                # what `init_weights` does, without a line in the log for every parameter; hidden
                # convolutions initialise themselves
                initialize(head, head.init_cfg)
    return model


def _test_options(slide: SlideSection | None) -> ConfigDict:
    if slide is None:
        return ConfigDict(mode="whole")
    return ConfigDict(mode="slide", crop_size=(slide.crop,) * 2, stride=(slide.stride,) * 2)


def _heads(settings: SegmentationSettings, architecture: Architecture) -> dict[str, Any]:
    """Configurations of the decode head and, of FCN, the auxiliary one."""
    widths = architecture.widths
    if settings.head is not None:
        head = {
            "type": SplitLinearHead,
            "in_channels": [widths[index] for index in architecture.segmentation],
            "in_index": architecture.segmentation,
            "num_classes": settings.data.num_classes,
            "ignore_index": settings.data.ignore_index,
            **settings.head.model_dump(),
        }
        return {"decode_head": head}
    assert settings.fcn is not None  # Settings has either
    auxiliary = settings.fcn.auxiliary
    earlier = architecture.auxiliary
    return {
        "decode_head": _fcn_head(settings.fcn, settings, widths[-1], -1, 1.0),
        "auxiliary_head": _fcn_head(
            auxiliary, settings, widths[earlier], earlier, auxiliary.loss_weight
        ),
    }


def _fcn_head(
    section: FcnHeadSection,
    settings: SegmentationSettings,
    width: int,
    index: int,
    loss_weight: float,
) -> dict[str, Any]:
    return {
        "type": FCNHead,
        "in_channels": width,
        "in_index": index,
        "channels": section.channels,
        "num_convs": section.num_convs,
        "concat_input": section.concat_input,
        "dropout_ratio": section.dropout,
        "num_classes": settings.data.num_classes,
        "ignore_index": settings.data.ignore_index,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "align_corners": False,
        "loss_decode": {"type": CrossEntropyLoss, "loss_weight": loss_weight},
    }
