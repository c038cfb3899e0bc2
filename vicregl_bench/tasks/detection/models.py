"""The fine-tuned detectors: mmdetection's Faster R-CNN C4 and Mask R-CNN FPN on our backbones.

All of a backbone is trained, BatchNorm's statistics included. New layers are initialised from two
seeds alone. Sources: detectron2's `config/defaults.py` and MoCo's `detection/configs` (C4);
mmdetection's `_base_/models/mask-rcnn_r50_fpn.py` (FPN).

What is left of the difference between mmdetection's parts, set as they are here, and detectron2's:

- Anchors are the same boxes, around the same points (multiples of the stride, no half stride
  added), with height over width as ratio. mmdetection orders a point's anchors by ratio, then
  size, detectron2 the other way round: a permutation of the RPN's output channels.
- Anchors around points in a picture's padding to the size of its batch are no examples here,
  background there.
- An anchor that is the best of one object and nearer to another learns the former here, the latter
  there.
- RPN losses are divided by the number of anchors drawn, which is 256 a picture unless a picture has
  fewer, there always by 256.
"""

from dataclasses import dataclass
from types import new_class
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import initialize, kaiming_init
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.engine.mmcv_ext import install_mmcv_ext
from vicregl_bench.errors import ConfigError
from vicregl_bench.heads.region_proposals import ANY_OVERLAP
from vicregl_bench.heads.streams import INITIALISATION, seeded
from vicregl_bench.tasks.detection.c4_split import REGION_SIDE, split_c4
from vicregl_bench.tasks.trained import TrainedBackbone

Config = dict[str, Any]

MASK_SIDE = 28
"""Rows and columns of a mask head's output: 14 x 14 regions, once upsampled."""


@dataclass(frozen=True)
class FasterRCNNOptions:
    """Settings of `build_frcnn_c4`; the defaults are MoCo's and detectron2's."""

    rpn_loss_weight: float = 1.0  # of both RPN losses; 0.2 in preset lars (VICReg, appendix B.3)
    rpn_channels: int | None = None  # of the RPN's 3x3 convolution; None: as many as the map has
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # px, side of the square one
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width
    anchors: int = 256  # drawn a picture to train the RPN
    proposals_train: tuple[int, int] = (12000, 2000)  # a picture, before and after NMS
    proposals_test: tuple[int, int] = (6000, 1000)
    regions: int = 512  # drawn a picture to train the region head
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100  # a picture


@dataclass(frozen=True)
class MaskRCNNOptions:
    """Settings of `build_mask_rcnn_fpn`; the defaults are mmdetection's R50-FPN 1x."""

    rpn_loss_weight: float = 1.0
    channels: int = 256  # of FPN's maps, the RPN and the mask head
    fc_channels: int = 1024  # of the box head's two layers
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors: int = 256
    proposals_train: tuple[int, int] = (2000, 1000)  # before NMS a level, after it a picture
    proposals_test: tuple[int, int] = (1000, 1000)
    regions: int = 512
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100


class RegionHead(nn.Module):
    """The layers that run on every region, then one extra BatchNorm.

    The BatchNorm is that of `Res5ROIHeadsExtraNorm` in MoCo's detection code: weights that come
    without one would reach the linear layers at any scale. Here it stands after ConvNeXt's and
    ViT's layers too, in the place of the norm at the backbone's end.

    Args:
        stage: (N, C, 14, 14) -> (N, width, side, side).
        width: channels that `stage` gives.
    """

    def __init__(self, stage: nn.Module, width: int) -> None:
        super().__init__()
        self.stage = stage
        self.norm = nn.BatchNorm2d(width)

    def forward(self, regions: Tensor) -> Tensor:
        """Features (N, width, side, side) of regions (N, C, 14, 14)."""
        features: Tensor = self.norm(self.stage(regions))
        return features

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""


def build_frcnn_c4(
    source: BackboneSource,
    options: FasterRCNNOptions,
    *,
    num_classes: int,
    data_preprocessor: Config,
    run_seed: int,
    head_seed: int,
    detector: type[Any] | None = None,
    **more: Any,
) -> Any:
    """Faster R-CNN C4 on a backbone: its last part is the region head (`c4_split`).

    RPN on the map of stride 16, RoIAlign 14 x 14, the region layers with one extra BatchNorm, their
    mean over the region, and one linear layer for classes (softmax with background) and one for
    boxes, four numbers a class.

    The weights are final: its `init_weights`, which mmengine's Runner calls, does nothing. The
    global generator is left as it was.

    Args:
        source: of the backbone.
        options: what protocols and presets choose.
        num_classes: without background.
        data_preprocessor: mmdet's configuration of it; `pad_size_divisor` is set here.
        run_seed: seed of the whole run.
        head_seed: seed of the new layers.
        detector: a subclass of mmdet's FasterRCNN to build instead of it.
        more: options of that subclass.

    Returns:
        mmdet's FasterRCNN in training mode.

    Raises:
        ConfigError: a backbone that cannot be split.
    """
    install_mmcv_ext()
    from mmdet.models import FasterRCNN

    with torch.random.fork_rng(devices=[]):  # placeholders draw random numbers
        split = split_c4(source)
        regions = RegionHead(split.regions, split.region_width)
    head = {
        "type": "StandardRoIHead",
        "shared_head": {"type": _given, "module": regions},
        "bbox_roi_extractor": _roi_align(REGION_SIDE, split.width, (split.stride,)),
        "bbox_head": {
            "type": "BBoxHead",
            "with_avg_pool": True,
            "roi_feat_size": split.region_side,
            "in_channels": split.region_width,
            **_box_losses(num_classes),
        },
    }
    anchors = {
        "type": "AnchorGenerator",
        "base_sizes": [1],  # so that scales are pixels, whatever the stride
        "scales": list(options.anchor_sizes),
        "ratios": list(options.anchor_ratios),
        "strides": [split.stride],
    }
    return _build(
        detector or FasterRCNN,
        (run_seed, head_seed),
        data_preprocessor={**data_preprocessor, "pad_size_divisor": split.divisor},
        backbone={"type": _given, "module": split.trunk},
        rpn_head=_rpn(options, split.width, options.rpn_channels or split.width, anchors),
        roi_head=head,
        train_cfg=_train_settings(options, ANY_OVERLAP, low_quality_regions=False),
        test_cfg=_test_settings(options),
        **more,
    )


def build_mask_rcnn_fpn(
    source: BackboneSource,
    options: MaskRCNNOptions,
    *,
    num_classes: int,
    data_preprocessor: Config,
    run_seed: int,
    head_seed: int,
    detector: type[Any] | None = None,
    **more: Any,
) -> Any:
    """Mask R-CNN on a feature pyramid over a backbone's four maps.

    mmdetection's R50-FPN 1x but for the backbone, no part of which is frozen. FPN and heads have no
    norm. As mmdetection's other models it wants masks as polygons where mmcv has no compiled
    operators (`poly2mask=False`).

    The weights are final: its `init_weights`, which mmengine's Runner calls, does nothing. The
    global generator is left as it was.

    Args:
        source: of the backbone, a ResNet, ConvNeXt or Swin.
        options: what protocols choose.
        num_classes: without background.
        data_preprocessor: mmdet's configuration of it; `pad_mask` and `pad_size_divisor` are set
            here.
        run_seed: seed of the whole run.
        head_seed: seed of the new layers.
        detector: a subclass of mmdet's MaskRCNN to build instead of it.
        more: options of that subclass.

    Returns:
        mmdet's MaskRCNN in training mode.

    Raises:
        ConfigError: a backbone without maps of strides 4, 8, 16 and 32.
    """
    install_mmcv_ext()
    from mmdet.models import MaskRCNN

    arch = source.architecture
    if arch.strides != (4, 8, 16, 32):
        raise ConfigError(
            f"{source.arch} has maps of strides {arch.strides}; FPN reads 4, 8, 16 and 32"
        )
    with torch.random.fork_rng(devices=[]):
        body = source.build()
    if arch.family == "convnext":
        body.head = nn.Identity()  # its norm is of the pooled vector: without gradient here
    strides, channels = list(arch.strides), options.channels
    head = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": _roi_align(7, channels, arch.strides),
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "in_channels": channels,
            "fc_out_channels": options.fc_channels,
            "roi_feat_size": 7,
            **_box_losses(num_classes),
        },
        "mask_roi_extractor": _roi_align(MASK_SIDE // 2, channels, arch.strides),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": channels,
            "conv_out_channels": channels,
            "num_classes": num_classes,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }
    anchors = {
        "type": "AnchorGenerator",
        "scales": [8],
        "ratios": list(options.anchor_ratios),
        "strides": [*strides, 64],
    }
    train = _train_settings(options, 0.3, low_quality_regions=True)
    train.rcnn.mask_size = MASK_SIDE
    test = _test_settings(options)
    test.rcnn.mask_thr_binary = 0.5
    return _build(
        detector or MaskRCNN,
        (run_seed, head_seed),
        data_preprocessor={**data_preprocessor, "pad_mask": True, "pad_size_divisor": 32},
        backbone={"type": _given, "module": TrainedBackbone(body)},
        neck={
            "type": "FPN",
            "in_channels": list(arch.widths),
            "out_channels": channels,
            "num_outs": 5,
        },
        rpn_head=_rpn(options, channels, channels, anchors),
        roi_head=head,
        train_cfg=train,
        test_cfg=test,
        **more,
    )


class _Initialised:
    """In front of a detector: its weights are final."""

    def init_weights(self) -> None:
        """Nothing: the builders did it (mmengine's Runner calls this before training)."""


def _initialised(detector: type[Any]) -> type[Any]:
    return new_class(detector.__name__, (_Initialised, detector))


def _given(module: nn.Module) -> nn.Module:
    """What mmengine's registry calls to build a part that is there already."""
    return module


def _build(detector: type[Any], seeds: tuple[int, int], **config: Any) -> Any:
    """The detector, its new layers initialised."""
    with (
        seeded(torch.device("cpu"), *seeds, INITIALISATION),
        DefaultScope.overwrite_default_scope("mmdet"),
    ):
        model = _initialised(detector)(**config)
        mask_head = getattr(model.roi_head, "mask_head", None)
        for part in (getattr(model, "neck", None), model.rpn_head, model.roi_head.bbox_head):
            if part is not None:
                # what `init_weights` does, without a line in the log for every parameter
                initialize(part, part.init_cfg)
        if mask_head is not None:  # the same; its other convolutions initialise themselves
            kaiming_init(mask_head.upsample)
            kaiming_init(mask_head.conv_logits)
    return model


def _roi_align(side: int, channels: int, strides: tuple[int, ...]) -> Config:
    """The extractor of mmdet on torchvision's RoIAlign: aligned, samples as many as a bin needs."""
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {
            "type": "RoIAlign",
            "output_size": side,
            "sampling_ratio": 0,
            "aligned": True,
            "use_torchvision": True,
        },
        "out_channels": channels,
        "featmap_strides": list(strides),
    }


def _rpn(
    options: FasterRCNNOptions | MaskRCNNOptions, width: int, channels: int, anchors: Config
) -> Config:
    weight = options.rpn_loss_weight
    return {
        "type": "RPNHead",
        "in_channels": width,
        "feat_channels": channels,
        "anchor_generator": anchors,
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": weight},
        "loss_bbox": {"type": "L1Loss", "loss_weight": weight},
    }


def _box_losses(num_classes: int) -> Config:
    """Classes and class-specific boxes, by cross-entropy and L1 (both projects' defaults)."""
    return {
        "num_classes": num_classes,
        "reg_class_agnostic": False,
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_stds": [0.1, 0.1, 0.2, 0.2],  # detectron2: weights 10, 10, 5, 5
        },
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _proposals(counts: tuple[int, int]) -> Config:
    return {
        "nms_pre": counts[0],
        "max_per_img": counts[1],
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }


def _train_settings(
    options: FasterRCNNOptions | MaskRCNNOptions,
    least_overlap: float,
    *,
    low_quality_regions: bool,
) -> ConfigDict:
    """Who is positive, and how many are drawn.

    Args:
        options: of the detector.
        least_overlap: IoU from which an object's best anchor is positive.
        low_quality_regions: mmdet's switch of the same for regions; from IoU 0.5 on, it only
            decides which of two objects a region learns.
    """
    return ConfigDict(
        rpn={
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.7,
                "neg_iou_thr": 0.3,
                "min_pos_iou": least_overlap,
                "match_low_quality": True,
                "ignore_iof_thr": -1,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": options.anchors,
                "pos_fraction": 0.5,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": False,
            },
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        rpn_proposal=_proposals(options.proposals_train),
        rcnn={
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.5,
                "neg_iou_thr": 0.5,
                "min_pos_iou": 0.5,
                "match_low_quality": low_quality_regions,
                "ignore_iof_thr": -1,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": options.regions,
                "pos_fraction": 0.25,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": True,
            },
            "pos_weight": -1,
            "debug": False,
        },
    )


def _test_settings(options: FasterRCNNOptions | MaskRCNNOptions) -> ConfigDict:
    return ConfigDict(
        rpn=_proposals(options.proposals_test),
        rcnn={
            "score_thr": options.score_threshold,
            "nms": {"type": "nms", "iou_threshold": options.nms_threshold},
            "max_per_img": options.detections,
        },
    )
