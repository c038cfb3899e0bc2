"""The settings of linear classification: data, crops, and the inputs of the heads."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import DataSetSection, Settings, Share, Size


class ClassificationDataSection(DataSetSection):
    """Data set and crops, in pixels, as torchvision's transforms take them."""

    dataset: Literal["folder", "imagenet"]
    crop: PositiveInt  # side, in training and in test
    scale: tuple[Share, Share]  # area of a training crop, of the picture's
    flip: Share
    # size before the central crop: (height, width), or the shorter side alone
    resize: Size | PositiveInt

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str) -> str:
        if variant.removesuffix("_1pct").removesuffix("_10pct") not in ("folder", "imagenet"):
            raise ValueError("a variant is folder or imagenet, or ends with _1pct or _10pct")
        return variant


class ClassifierSection(Section):
    """The linear layer."""

    init_std: Annotated[float, Field(gt=0.0)]
    batch_norm: bool  # without scale and shift, before the layer


class ClassificationSettings(Settings):
    """Everything that a run of linear classification is made of."""

    data: ClassificationDataSection
    classifier: ClassifierSection
