"""The settings of correspondence: data, and the chances of what is done to each view."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from vicregl_bench.engine.settings import Section
from vicregl_bench.tasks.settings import Areas, DataSetSection, SelectionSection, Settings, Share

NonNegative = Annotated[float, Field(ge=0.0)]

_VARIANTS = {"folder": "folder", "imagenet": "imagenet", "voc": "voc12"}


class PicturesSection(DataSetSection):
    """A data set of pictures, whose val split is looked at."""

    dataset: Literal["folder", "imagenet", "voc"]

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str, info: ValidationInfo) -> str:
        dataset = info.data.get("dataset")
        if dataset is not None and variant != _VARIANTS[dataset]:
            raise ValueError(f"{dataset} has {_VARIANTS[dataset]}")
        return variant


class ViewsSection(Section):
    """Two views of one crop; pairs of values are the first and the second view's."""

    size: PositiveInt  # side, in pixels
    pairs: PositiveInt  # of each picture
    scale: Areas  # of the crop
    flip: Share  # chance of each view by itself
    # of torchvision's ColorJitter: brightness, contrast, saturation, hue
    jitter: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0.0, le=0.5)]]
    jitter_chance: Share
    grey: Share  # chance
    blur: tuple[Share, Share]  # chances
    solarise: tuple[Share, Share]  # chances


class DrawsSection(SelectionSection):
    """How often all views are drawn anew; `holdout` is not used, as nothing is chosen."""

    seeds: PositiveInt


class CorrespondenceSettings(Settings):
    """Everything that a run of correspondence is made of."""

    optional: ClassVar[tuple[str, ...]] = ("backbone.output_stride",)

    data: PicturesSection
    views: ViewsSection
    sweep: DrawsSection
