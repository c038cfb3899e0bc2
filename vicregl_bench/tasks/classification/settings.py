"""The settings of linear classification: data, crops, and the inputs of the heads."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from vicregl_bench.engine.settings import Section, distinct
from vicregl_bench.tasks.settings import (
    Areas,
    DataSetSection,
    Settings,
    Share,
    Size,
    TrainedSettings,
)

CROP_OPTIONS = ("data.views", "data.metric")
"""Settings of `CropSection` that no protocol need have."""

Input = Literal["pooled", "avg", "pooled+avg", "stages", "blocks", "blocks+avg"]
"""Of a linear layer: what `Backbone.vectors` gives, and concatenations."""

Inputs = Annotated[
    tuple[Input, ...],
    Field(min_length=1),
    distinct("an input stands twice; --seeds repeats runs"),
]

TransferName = Literal["cub200", "mini_imagenet", "sun397", "food101", "nct_crc_he", "imagenet100"]
"""Data sets of `data.transfer`; each has one variant, of its own name."""


class ViewsSection(DataSetSection):
    """Data set and the central crop of every picture, in pixels, as torchvision's transforms."""

    crop: PositiveInt  # side
    # size before the central crop: (height, width), or the shorter side alone
    resize: Size | PositiveInt
    # in test: None is the central crop; "five_crops" its corners too, and the flips of all five
    # (torchvision's ten_crop), whose features are averaged
    views: Literal["five_crops"] | None = None

    @model_validator(mode="after")
    def _crops_are_inside(self) -> "ViewsSection":
        shorter = self.resize if isinstance(self.resize, int) else min(self.resize)
        if shorter < self.crop:
            raise ValueError(f"a crop of {self.crop} px needs data.resize to be no smaller")
        return self


class CropSection(ViewsSection):
    """Crops of a data set of one class a picture, and its metric."""

    dataset: Literal["folder", "imagenet", "places205", "inat18"] | TransferName
    # what the point of a grid is chosen by; None is top-1
    metric: Literal["mean_per_class"] | None = None

    @field_validator("metric", mode="before")
    @classmethod
    def _top1_is_the_default(cls, metric: Any) -> Any:
        return None if metric == "top1" else metric

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str, info: ValidationInfo) -> str:
        dataset = info.data.get("dataset")
        shares = ("", "_1pct", "_10pct") if dataset in ("folder", "imagenet") else ("",)
        variants = [f"{dataset}{share}" for share in shares]
        if dataset is not None and variant not in variants:
            raise ValueError(f"{dataset} has {' and '.join(variants)}")
        return variant


class ClassificationDataSection(CropSection):
    """Random crops in training as well, of the same side."""

    scale: Areas  # of a training crop
    flip: Share


class ClassifierSection(Section):
    """The linear layer."""

    init_std: Annotated[float, Field(gt=0.0)]
    batch_norm: bool  # without scale and shift, before the layer
    # a grid of them; None is the pooled vector alone. For ViTs: DINO reads "blocks" of ViT-S and
    # "pooled+avg" of ViT-B, DINOv2 has a grid of "pooled", "pooled+avg", "blocks", "blocks+avg"
    inputs: Inputs | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_a_list(cls, inputs: Any) -> Any:
        return [inputs] if isinstance(inputs, str) else inputs

    @field_validator("inputs")
    @classmethod
    def _pooled_is_the_default(cls, inputs: tuple[Input, ...] | None) -> tuple[Input, ...] | None:
        return None if inputs == ("pooled",) else inputs


class ClassificationSettings(TrainedSettings):
    """Everything that a run of linear classification is made of."""

    optional = (
        *TrainedSettings.optional,
        *CROP_OPTIONS,
        "classifier.inputs",
        "schedule.steps.milestones",
    )

    data: ClassificationDataSection
    classifier: ClassifierSection


class KnnSection(Section):
    """The classifier by nearest neighbours."""

    # neighbours that vote
    ks: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1),
        distinct("a number of neighbours stands twice"),
    ]
    # votes are exp(cosine / temperature); None: every neighbour has one vote
    temperature: Annotated[float, Field(gt=0.0)] | None = None


class KnnSettings(Settings):
    """Everything that a run of kNN classification is made of."""

    optional = CROP_OPTIONS

    data: CropSection
    knn: KnnSection
