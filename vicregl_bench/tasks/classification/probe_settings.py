"""The settings of linear probes on cached features, and of the search over their training."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from vicregl_bench.engine.settings import Section, distinct
from vicregl_bench.tasks.classification.settings import CROP_OPTIONS, CropSection
from vicregl_bench.tasks.settings import SelectionSection, Settings, Share

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Scaling = Literal["none", "standardize", "normalize"]
_DISTINCT = distinct("a value stands twice")


class LinearProbeSection(Section):
    """How the classifier is fitted."""

    solver: Literal["lbfgs", "sgd"]
    scaling: Scaling  # of the features, before the classifier


class LbfgsSection(Section):
    """When L-BFGS ends."""

    max_iter: PositiveInt
    tolerance: Positive  # largest element of the gradient of the mean loss


class MinibatchSection(Section):
    """What every training on minibatches of features has."""

    batch_size: PositiveInt
    momentum: Share  # of SGD
    init_std: NotNegative


class SgdSection(MinibatchSection):
    """SGD with a cosine schedule to 0."""

    epochs: PositiveInt


class LinearSweepSection(SelectionSection):
    """The grid: `l2` with solver lbfgs, the others with sgd."""

    l2: Annotated[tuple[Positive, ...], Field(min_length=1), _DISTINCT]  # beside the mean loss
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1), _DISTINCT]
    weight_decays: Annotated[tuple[NotNegative, ...], Field(min_length=1), _DISTINCT]
    seeds: PositiveInt


class CachedLinearSettings(Settings):
    """Everything that a linear probe on cached features is made of."""

    optional = CROP_OPTIONS

    data: CropSection
    probe: LinearProbeSection
    lbfgs: LbfgsSection
    sgd: SgdSection
    sweep: LinearSweepSection


class SearchSection(MinibatchSection):
    """The space that is searched, ranges inclusive; rates and decays are log-uniform."""

    trials: PositiveInt
    scaling: Scaling  # of the features, before the classifier
    lr: tuple[Positive, Positive]
    weight_decay: tuple[Positive, Positive]
    optimizers: Annotated[tuple[Literal["SGD", "AdamW"], ...], Field(min_length=1), _DISTINCT]
    schedules: Annotated[tuple[Literal["cosine", "step"], ...], Field(min_length=1), _DISTINCT]
    epochs: tuple[PositiveInt, PositiveInt]

    @field_validator("lr", "weight_decay", "epochs")
    @classmethod
    def _rises(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if ends[0] > ends[1]:
            raise ValueError("a range has its lower end first")
        return ends


class SearchSweepSection(SelectionSection):
    """Trainings of the point that the search finds; `holdout` is the share that it is found on."""

    seeds: PositiveInt


class ProbeSearchSettings(Settings):
    """Everything that a searched linear probe is made of."""

    optional = CROP_OPTIONS

    data: CropSection
    search: SearchSection
    sweep: SearchSweepSection
