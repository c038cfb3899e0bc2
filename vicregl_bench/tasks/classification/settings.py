"""The settings of linear classification: data, crops, and the inputs of the heads."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import DataSetSection, Settings, Share, Size, TrainedSettings


class CropSection(DataSetSection):
    """Data set and the central crop of every picture, in pixels, as torchvision's transforms."""

    dataset: Literal["folder", "imagenet"]
    crop: PositiveInt  # side
    # size before the central crop: (height, width), or the shorter side alone
    resize: Size | PositiveInt

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str) -> str:
        if variant.removesuffix("_1pct").removesuffix("_10pct") not in ("folder", "imagenet"):
            raise ValueError("a variant is folder or imagenet, or ends with _1pct or _10pct")
        return variant


class ClassificationDataSection(CropSection):
    """Random crops in training as well, of the same side."""

    scale: tuple[Share, Share]  # area of a training crop, of the picture's
    flip: Share


class ClassifierSection(Section):
    """The linear layer."""

    init_std: Annotated[float, Field(gt=0.0)]
    batch_norm: bool  # without scale and shift, before the layer


class ClassificationSettings(TrainedSettings):
    """Everything that a run of linear classification is made of."""

    data: ClassificationDataSection
    classifier: ClassifierSection


class KnnSection(Section):
    """The classifier by nearest neighbours."""

    ks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # neighbours that vote
    # votes are exp(cosine / temperature); None: every neighbour has one vote
    temperature: Annotated[float, Field(gt=0.0)] | None = None

    @field_validator("ks")
    @classmethod
    def _no_k_twice(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(ks)) != len(ks):
            raise ValueError("a number of neighbours stands twice")
        return ks


class KnnSettings(Settings):
    """Everything that a run of kNN classification is made of."""

    data: CropSection
    knn: KnnSection
