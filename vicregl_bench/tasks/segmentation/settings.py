"""The settings of segmentation: data, linear head or FCN's two, and the test."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from vicregl_bench.data import ade20k, cityscapes, voc
from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import KnownDataSection, Sets, Share, Size, TrainedSettings


class DataSection(KnownDataSection):
    """Data set, augmentation and test scale; sizes are (width, height) as mmcv has them."""

    sets: ClassVar[Sets] = {
        "voc": (tuple(voc.TRAIN_COUNT), len(voc.CLASSES)),
        "cityscapes": (cityscapes.VARIANTS, len(cityscapes.CITYSCAPES_CLASSES)),
        "ade20k": (ade20k.VARIANTS, len(ade20k.ADE20K_CLASSES)),
    }

    dataset: Literal["voc", "cityscapes", "ade20k"]
    ignore_index: Literal[255]
    resize: Size
    ratio_range: tuple[float, float]
    crop: Size  # (height, width)
    cat_max_ratio: Share
    flip: Share
    test_resize: Size


class SlideSection(Section):
    """Test by sliding windows, as mmsegmentation's `slide_inference`."""

    crop: PositiveInt
    stride: PositiveInt

    @model_validator(mode="after")
    def _no_gaps(self) -> "SlideSection":
        if self.stride > self.crop:
            raise ValueError("a stride larger than the crop leaves gaps")
        return self


class HeadSection(Section):
    """The linear head: what stands before its 1x1 convolution, and how that begins."""

    batch_norm: bool
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    init_std: Annotated[float, Field(gt=0.0)]


class FcnHeadSection(Section):
    """mmsegmentation's FCNHead: 3x3 convolutions with BatchNorm, dropout, a 1x1 convolution."""

    channels: PositiveInt
    num_convs: PositiveInt
    concat_input: bool
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]


class AuxiliarySection(FcnHeadSection):
    """An FCNHead on an earlier map, for training alone."""

    loss_weight: Annotated[float, Field(gt=0.0)]


class FcnSection(FcnHeadSection):
    """FCN: the head on the last map, and the auxiliary one."""

    auxiliary: AuxiliarySection


class TestSection(Section):
    """Test-time augmentation, which no protocol has: the mean of the probabilities of all views.

    As mmsegmentation's `SegTTAModel`.
    """

    __test__ = False  # no test of pytest's

    flip: bool = False
    # times the protocol's test scale; None for that alone
    scales: (
        Annotated[tuple[Annotated[float, Field(ge=0.25, le=4.0)], ...], Field(min_length=1)] | None
    ) = None


class SegmentationSettings(TrainedSettings):
    """Everything that a run of segmentation is made of."""

    optional: ClassVar[tuple[str, ...]] = (*TrainedSettings.optional, "test.flip", "test.scales")

    data: DataSection
    head: HeadSection | None = None  # either a linear head
    fcn: FcnSection | None = None  # or FCN's two
    slide: SlideSection | None = None  # test on whole pictures where there is none
    test: TestSection | None = None

    @field_validator("test")
    @classmethod
    def _more_than_one_view(cls, test: TestSection | None) -> TestSection | None:
        alone = test is None or (not test.flip and test.scales in (None, (1.0,)))
        return None if alone else test

    @model_validator(mode="after")
    def _one_kind_of_head(self) -> "SegmentationSettings":
        if (self.head is None) == (self.fcn is None):
            raise ValueError("a protocol has either a linear head or FCN's")
        return self

    def dump(self) -> dict[str, Any]:
        """Plain JSON values; what does not apply (no warm-up, whole pictures) is left out."""
        plain = super().dump()
        if self.test is not None:
            plain["test"] = self.test.model_dump(mode="json", exclude_defaults=True)
        return plain
