"""The settings of detection: data, and what detectors draw, propose and keep."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from vicregl_bench.data import coco, voc_boxes
from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import KnownDataSection, Sets, Share, TrainedSettings

Proposals = tuple[PositiveInt, PositiveInt]
"""Of a picture, before NMS and after it."""


class DetectionDataSection(KnownDataSection):
    """Data set, augmentation and test scale, in pixels; pictures keep their aspect ratio."""

    sets: ClassVar[Sets] = {
        "voc_boxes": (tuple(voc_boxes.COUNTS), len(voc_boxes.BOX_CLASSES)),
        "coco": (coco.VARIANTS, len(coco.COCO_CLASSES)),
    }

    dataset: Literal["voc_boxes", "coco"]
    short_sides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # one drawn in training
    test_short_side: PositiveInt
    longest: PositiveInt  # a picture that would be longer is scaled to this instead
    flip: Share


class DetectorSection(Section):
    """Numbers of a detector's two stages."""

    rpn_loss_weight: Annotated[float, Field(gt=0.0)] = 1.0
    anchors: PositiveInt  # drawn a picture to train the RPN
    proposals_train: Proposals
    proposals_test: Proposals
    regions: PositiveInt  # drawn a picture to train the region head
    score_threshold: Share
    nms_threshold: Annotated[float, Field(gt=0.0, le=1.0)]
    detections: PositiveInt  # a picture


class DetectionSettings(TrainedSettings):
    """Everything that a run of detection is made of."""

    data: DetectionDataSection
    detector: DetectorSection
    # training batches that BatchNorm's statistics are computed over before the test
    precise_bn: PositiveInt | None = None
