"""Faster R-CNN C4 in detectron2's terms: one run's config, its data and detections, its extra norm.

detectron2 is imported where it is used, never with this module; all but `require_detectron2` and
`register_extra_norm` works without it. `detectron2_config` is the one source of the numbers: what
lies in eval_configs/detectron2/ is its answer for profile paper (a test holds that).

Sources of the keys and of what is not this project's to choose: detectron2's `config/defaults.py`,
MoCo's `detection/configs`. Deviation from the latter: `SyncBN` instead of `naiveSyncBN`, which
averages the processes' statistics as they are, however many regions each has; on one device both
are plain BatchNorm.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.resnet import SPECS
from vicregl_bench.checkpoints import Card
from vicregl_bench.data import Annotations, DetectionData, Picture
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.detection.c4_split import REGION_SIDE
from vicregl_bench.tasks.detection.models import FasterRCNNOptions
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.settings import StepsSection, WarmupSection

Config = dict[str, Any]

EXTRA_NORM = "Res5ROIHeadsExtraNorm"
"""Of the region head with the extra BatchNorm, as MoCo's training script calls its own."""

VOC_TRAIN, VOC_TEST = ("voc_2007_trainval", "voc_2012_trainval"), ("voc_2007_test",)
"""detectron2's own names of the lists; it looks for them below DETECTRON2_DATASETS."""

INSTALL = (
    "python -m pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git'"
)
"""Its setup imports torch, so the build must see this environment's."""

_FLIPS = (0.0, 0.5)
_DEPTHS = (50, 101, 152)  # with bottlenecks; it has no ResNet-200
_LAST_PIXEL = np.array([0.0, 0.0, 1.0, 1.0])
"""What edges x1, y1, x2, y2 have more than VOC's boxes as mmdet reads them, see `metric`."""
_XYXY_ABS = 0  # detectron2's BoxMode.XYXY_ABS


def require_detectron2() -> str:
    """Import detectron2; its version.

    Raises:
        ConfigError: it is missing, or built for another torch.
    """
    try:
        package = importlib.import_module("detectron2")
    except ImportError:
        raise ConfigError(
            f"--engine detectron2 needs detectron2, which PyPI has no wheel of; with torch and a "
            f"C++ compiler (and CUDA's nvcc for a GPU) in place: {INSTALL}"
        ) from None
    try:
        importlib.import_module("detectron2.engine")
    except ImportError as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f"detectron2 is installed and cannot be imported ({lines[0]}); build it again for this "
            f"torch: {INSTALL} --force-reinstall --no-deps"
        ) from None
    return str(getattr(package, "__version__", "of unknown version"))


def register_extra_norm() -> None:
    """Make the region head with an extra BatchNorm known to detectron2 as `EXTRA_NORM`.

    It is detectron2's `Res5ROIHeads` with one more norm, of the kind of the others, after res5. A
    head that is registered under that name already stays.
    """
    from detectron2.layers import get_norm
    from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads

    def build(cfg: Any, input_shape: Any) -> Any:
        heads = Res5ROIHeads(cfg, input_shape)
        resnets = cfg.MODEL.RESNETS
        # res5 is 8 times as wide as res2
        heads.res5.add_module("norm", get_norm(resnets.NORM, 8 * resnets.RES2_OUT_CHANNELS))
        return heads

    build.__name__ = EXTRA_NORM  # fvcore's registries take an object's own name
    if EXTRA_NORM not in ROI_HEADS_REGISTRY:
        ROI_HEADS_REGISTRY.register(build)


def require_c4(architecture: Architecture) -> None:
    """Stop on a backbone that detectron2's C4 detector cannot be built of.

    Raises:
        ConfigError: no ResNet with bottlenecks, or of a depth that detectron2 does not know.
    """
    name = architecture.name
    if architecture.family != "resnet":
        raise ConfigError(
            f"--engine detectron2 takes ResNets alone, and {name} is none; mmdet's engine (the "
            "default) has it"
        )
    if SPECS[name].depth not in _DEPTHS:
        raise ConfigError(
            f"detectron2's C4 detector is of ResNet-{', -'.join(map(str, _DEPTHS))} alone, not of "
            f"{name}; mmdet's engine (the default) has it"
        )


def detectron2_config(
    settings: DetectionSettings,
    card: Card,
    weights: str,
    *,
    architecture: Architecture,
    lr: float,
    warmup: WarmupSection | None,
    device: str = "cuda",
    train: Sequence[str] = VOC_TRAIN,
    test: Sequence[str] = VOC_TEST,
    workers: int = 4,
    checkpoint_period: int = 5000,
    seed: int | None = None,
    output: str | None = None,
) -> Config:
    """All keys of one run: plain values that YAML can hold and `get_cfg()` can merge.

    Args:
        settings: of the task.
        card: of the weights: how pictures are normalised.
        weights: file of `convert --to detectron2`.
        architecture: of the backbone.
        lr: learning rate.
        warmup: of this run; None for none.
        device: torch's name of it; but on CUDA, BatchNorm is not one over processes.
        train: names of data sets in detectron2's catalogue.
        test: likewise.
        workers: processes that load data.
        checkpoint_period: iterations between checkpoints.
        seed: None for detectron2's own, a random one.
        output: folder; None for detectron2's own, ./output.

    Raises:
        ConfigError: a backbone or a setting that detectron2 has no counterpart of.
    """
    require_c4(architecture)
    steps = _steps(settings)
    spec, data, schedule = SPECS[architecture.name], settings.data, settings.schedule
    detector, options = settings.detector, FasterRCNNOptions()
    config: Config = {
        "VERSION": 2,
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "DEVICE": device,
            "WEIGHTS": weights,
            "MASK_ON": False,
            "PIXEL_MEAN": list(card.mean),
            "PIXEL_STD": list(card.std),
            "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 0},
            "RESNETS": {
                "DEPTH": spec.depth,
                "OUT_FEATURES": ["res4"],
                "NORM": "SyncBN" if device.startswith("cuda") else "BN",
                "STRIDE_IN_1X1": spec.style == "caffe",
                "WIDTH_PER_GROUP": spec.base * spec.inner,
                "STEM_OUT_CHANNELS": spec.base,
                "RES2_OUT_CHANNELS": architecture.widths[0],
            },
            "ANCHOR_GENERATOR": {
                "SIZES": [list(options.anchor_sizes)],
                "ASPECT_RATIOS": [list(options.anchor_ratios)],
            },
            "RPN": {
                "IN_FEATURES": ["res4"],
                "LOSS_WEIGHT": float(detector.rpn_loss_weight),  # of both its losses
                "BATCH_SIZE_PER_IMAGE": detector.anchors,
                "PRE_NMS_TOPK_TRAIN": detector.proposals_train[0],
                "POST_NMS_TOPK_TRAIN": detector.proposals_train[1],
                "PRE_NMS_TOPK_TEST": detector.proposals_test[0],
                "POST_NMS_TOPK_TEST": detector.proposals_test[1],
            },
            "ROI_HEADS": {
                "NAME": EXTRA_NORM,
                "IN_FEATURES": ["res4"],
                "NUM_CLASSES": data.num_classes,
                "BATCH_SIZE_PER_IMAGE": detector.regions,
                "SCORE_THRESH_TEST": float(detector.score_threshold),
                "NMS_THRESH_TEST": float(detector.nms_threshold),
            },
            "ROI_BOX_HEAD": {
                "POOLER_TYPE": "ROIAlignV2",
                "POOLER_RESOLUTION": REGION_SIDE,
                "POOLER_SAMPLING_RATIO": 0,
            },
        },
        "INPUT": {
            "FORMAT": card.channel_order.upper(),
            "MIN_SIZE_TRAIN": list(data.short_sides),
            "MIN_SIZE_TRAIN_SAMPLING": "choice",
            "MAX_SIZE_TRAIN": data.longest,
            "MIN_SIZE_TEST": data.test_short_side,
            "MAX_SIZE_TEST": data.longest,
            "RANDOM_FLIP": "horizontal" if data.flip else "none",
        },
        "DATASETS": {"TRAIN": list(train), "TEST": list(test)},
        "DATALOADER": {"NUM_WORKERS": workers},
        "SOLVER": {
            "IMS_PER_BATCH": schedule.batch_size,
            "MAX_ITER": schedule.iters,
            "BASE_LR": float(lr),
            "MOMENTUM": float(schedule.optimizer.momentum or 0.0),
            "WEIGHT_DECAY": float(schedule.optimizer.weight_decay),
            "WEIGHT_DECAY_NORM": (
                0.0 if schedule.optimizer.norm_decay is False else schedule.optimizer.weight_decay
            ),
            "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
            "STEPS": list(schedule.milestones),
            "GAMMA": float(steps.gamma),
            "WARMUP_METHOD": "linear",
            "WARMUP_ITERS": warmup.iters if warmup else 0,
            "WARMUP_FACTOR": float(warmup.start_factor) if warmup else 1.0,
            "CHECKPOINT_PERIOD": checkpoint_period,
        },
        "TEST": {
            "DETECTIONS_PER_IMAGE": detector.detections,
            "EVAL_PERIOD": 0,
            "PRECISE_BN": {"ENABLED": settings.precise_bn is not None},
        },
    }
    if settings.precise_bn is not None:
        config["TEST"]["PRECISE_BN"]["NUM_ITER"] = settings.precise_bn
    if seed is not None:
        config["SEED"] = seed
    if output is not None:
        config["OUTPUT_DIR"] = output
    return config


def _steps(settings: DetectionSettings) -> StepsSection:
    """The schedule's steps, everything else being as detectron2 can do it.

    Raises:
        ConfigError: it is not.
    """
    data, schedule = settings.data, settings.schedule
    problem = ""
    if data.dataset != "voc_boxes":
        problem = f"data.dataset = {data.dataset}: it is set up for voc_boxes alone"
    elif schedule.steps is None:
        problem = "schedule.poly: it is set up for schedule.steps alone"
    elif schedule.optimizer.type != "SGD":
        problem = f"schedule.optimizer.type = {schedule.optimizer.type}: it trains with SGD"
    elif schedule.accumulate is not None:
        problem = f"schedule.accumulate = {schedule.accumulate}: it computes a batch at once"
    elif data.flip not in _FLIPS:
        problem = f"data.flip = {data.flip:g}: it flips with probability 0.5 or not at all"
    if problem:
        raise ConfigError(f"--engine detectron2 cannot do {problem}")
    assert schedule.steps is not None
    return schedule.steps


def to_yaml(config: Config) -> str:
    """A config as a file that detectron2's `merge_from_file` reads."""
    return yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100)


def engine_deviations(version: str) -> tuple[str, ...]:
    """What differs from the same task with mmdet, for the record."""
    return (f"engine: detectron2 {version} instead of mmdet",)


def dataset_dicts(dataset: DetectionData, pictures: Sequence[Picture]) -> list[Config]:
    """Pictures and their objects as detectron2's data loaders take them.

    Boxes are edges, as detectron2 reads VOC: xmin - 1, ymin - 1, xmax, ymax. Difficult objects are
    kept, as there. (It keeps the fractions that a few boxes of VOC2012 have; here they are cut.)

    Raises:
        AnnotationError: a picture's annotation cannot be used.
    """
    return [_dataset_dict(picture, dataset.annotations(picture)) for picture in pictures]


def _dataset_dict(picture: Picture, content: Annotations) -> Config:
    edges = content.boxes + _LAST_PIXEL
    return {
        "file_name": str(picture.image),
        "image_id": str(picture.id),
        "height": content.height,
        "width": content.width,
        "annotations": [
            {"bbox": box, "bbox_mode": _XYXY_ABS, "category_id": label}
            for box, label in zip(edges.tolist(), content.labels.tolist(), strict=True)
        ],
    }


def as_mmdet(instances: Any) -> Config:
    """What detectron2 found in one picture, as mmdet's detectors say it.

    Args:
        instances: detectron2's `Instances` with `pred_boxes` (edges, in pixels of the original
            picture), `scores` and `pred_classes`.

    Returns:
        `bboxes` (n, 4), which end on their last pixel as VOC's do in mmdet, `scores` and `labels`.
    """
    edges = np.asarray(instances.pred_boxes.tensor.detach().cpu(), np.float64).reshape(-1, 4)
    return {
        "bboxes": edges - _LAST_PIXEL,
        "scores": np.asarray(instances.scores.detach().cpu(), np.float64),
        "labels": np.asarray(instances.pred_classes.detach().cpu(), np.int64),
    }
