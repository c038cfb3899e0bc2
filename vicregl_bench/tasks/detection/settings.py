"""The settings of detection: data, and what detectors draw, propose and keep."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from vicregl_bench.data import coco, voc_boxes
from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import DataSetSection, Settings, Share

# variants and number of classes of each data set
_SETS: dict[str, tuple[tuple[str, ...], int]] = {
    "voc_boxes": (tuple(voc_boxes.COUNTS), len(voc_boxes.BOX_CLASSES)),
    "coco": (coco.VARIANTS, len(coco.COCO_CLASSES)),
}

Proposals = tuple[PositiveInt, PositiveInt]
"""Of a picture, before NMS and after it."""


class DetectionDataSection(DataSetSection):
    """Data set, augmentation and test scale, in pixels; pictures keep their aspect ratio."""

    dataset: Literal["voc_boxes", "coco"]
    num_classes: int
    short_sides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # one drawn in training
    test_short_side: PositiveInt
    longest: PositiveInt  # a picture that would be longer is scaled to this instead
    flip: Share

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str, info: ValidationInfo) -> str:
        dataset = info.data.get("dataset")
        if dataset is not None and variant not in _SETS[dataset][0]:
            raise ValueError(f"{dataset} has {', '.join(_SETS[dataset][0])}")
        return variant

    @field_validator("num_classes")
    @classmethod
    def _classes_of_the_data_set(cls, num_classes: int, info: ValidationInfo) -> int:
        dataset = info.data.get("dataset")
        if dataset is not None and num_classes != _SETS[dataset][1]:
            raise ValueError(f"{dataset} has {_SETS[dataset][1]} classes")
        return num_classes


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


class DetectionSettings(Settings):
    """Everything that a run of detection is made of."""

    data: DetectionDataSection
    detector: DetectorSection
    # training batches that BatchNorm's statistics are computed over before the test
    precise_bn: PositiveInt | None = None
