"""The settings that every kind of task has: schedule, optimiser, sweep, backbone."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vicregl_bench.engine.settings import Section, distinct

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = tuple[PositiveInt, PositiveInt]


def _some_area(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < scale[0] <= scale[1]:
        raise ValueError("the least share is above 0 and at most the largest")
    return scale


Areas = Annotated[tuple[Share, Share], AfterValidator(_some_area)]
"""The least and the largest area of a random crop, of the picture's."""
Sets = Mapping[str, tuple[Sequence[str], int]]
"""Name of a data set -> its variants and its number of classes."""


class DataSetSection(Section):
    """A data set by name, in one variant; its domain adds augmentation and test scale."""

    dataset: str
    variant: str


class KnownDataSection(DataSetSection):
    """A data set whose variants and classes are known.

    Attributes:
        sets: those that there are.
    """

    sets: ClassVar[Sets]

    num_classes: int

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str, info: ValidationInfo) -> str:
        dataset = info.data.get("dataset")
        if dataset is not None and variant not in cls.sets[dataset][0]:
            raise ValueError(f"{dataset} has {' and '.join(cls.sets[dataset][0])}")
        return variant

    @field_validator("num_classes")
    @classmethod
    def _classes_of_the_data_set(cls, num_classes: int, info: ValidationInfo) -> int:
        dataset = info.data.get("dataset")
        if dataset is not None and num_classes != cls.sets[dataset][1]:
            raise ValueError(f"{dataset} has {cls.sets[dataset][1]} classes")
        return num_classes


class OptimizerSection(Section):
    """Arguments of torch's SGD or AdamW; the learning rates are the sweep's."""

    type: Literal["SGD", "AdamW"]
    momentum: Share | None = None  # of SGD
    betas: tuple[Share, Share] | None = None  # of AdamW
    weight_decay: Annotated[float, Field(ge=0.0)]
    norm_decay: Literal[False] | None = None  # False: norms' scales and shifts are not decayed

    @model_validator(mode="after")
    def _has_its_own(self) -> "OptimizerSection":
        needed, other = ("momentum", "betas") if self.type == "SGD" else ("betas", "momentum")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.type} takes {needed}, not {other}")
        return self


class PolySection(Section):
    """mmengine's PolyLR over all iterations."""

    power: Annotated[float, Field(gt=0.0)]
    eta_min: Annotated[float, Field(ge=0.0)]


class StepsSection(Section):
    """mmengine's MultiStepLR: the rate times `gamma` from each milestone on."""

    # one of the two: iterations, or epochs in a schedule of epochs
    milestones: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    epochs: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)]

    @field_validator("milestones", "epochs")
    @classmethod
    def _rise(cls, milestones: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if milestones is not None and list(milestones) != sorted(set(milestones)):
            raise ValueError("milestones rise")
        return milestones

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "StepsSection":
        if (self.milestones is None) == (self.epochs is None):
            raise ValueError("steps have either milestones, in iterations, or epochs")
        return self


class CosineSection(Section):
    """mmengine's CosineAnnealingLR over all iterations, down to this share of the rate."""

    eta_min_ratio: Annotated[float, Field(ge=0.0, lt=1.0)]


class WarmupSection(Section):
    """mmengine's LinearLR at the beginning; a poly schedule then begins where it ends."""

    iters: Annotated[int, Field(ge=2)]  # of one, mmengine's would never leave its first factor
    start_factor: Annotated[float, Field(gt=0.0, le=1.0)]


class ScheduleSection(Section):
    """Iterations, batch and optimiser.

    A protocol in epochs has no `iters` of its own: they follow from the data.
    """

    iters: PositiveInt
    epochs: PositiveInt | None = None
    batch_size: Annotated[int, Field(gt=0, le=4096)]
    optimizer: OptimizerSection
    poly: PolySection | None = None  # one of these three
    steps: StepsSection | None = None
    cosine: CosineSection | None = None
    warmup: WarmupSection | None = None
    # parts of a batch that are computed one after another, where memory is short: in fine-tuning
    # BatchNorm then sees smaller batches
    accumulate: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _epochs_stand_for_iterations(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("epochs") is not None:
            if "iters" in given:
                raise ValueError("either epochs or iters: for the latter set schedule.epochs=null")
            return {**given, "iters": given["epochs"]}  # at least; the data decide
        return given

    @field_validator("accumulate")
    @classmethod
    def _one_part_is_the_batch(cls, accumulate: int | None) -> int | None:
        return None if accumulate == 1 else accumulate

    @model_validator(mode="after")
    def _parts_are_equal(self) -> "ScheduleSection":
        if self.accumulate is not None and self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} is not {self.accumulate} equal parts")
        return self

    @model_validator(mode="after")
    def _falls_in_one_way(self) -> "ScheduleSection":
        if sum(part is not None for part in (self.poly, self.steps, self.cosine)) != 1:
            raise ValueError("a schedule has either poly, steps or cosine")
        if self.steps is not None:
            self._require_steps_inside(self.steps)
        return self

    def _require_steps_inside(self, steps: StepsSection) -> None:
        name, unit = ("milestones", "iterations") if self.epochs is None else ("epochs", "epochs")
        given: tuple[int, ...] | None = getattr(steps, name)
        if given is None:
            raise ValueError(
                f"a schedule in {unit} has its steps in {unit}: schedule.steps.{name}, the other "
                "null"
            )
        length = self.epochs or self.iters
        if given[-1] >= length:
            raise ValueError(
                f"a step at {given[-1]} of {length} {unit} is none: "
                f"schedule.steps.{name} have to lie below {length}"
            )

    @property
    def milestones(self) -> tuple[int, ...]:
        """Iterations at which the rate steps down; those of a protocol in epochs rounded up."""
        if self.steps is None:
            return ()
        if self.epochs is None:
            return self.steps.milestones or ()
        return tuple(-(-epoch * self.iters // self.epochs) for epoch in self.steps.epochs or ())

    def on(self, pictures: int) -> "ScheduleSection":
        """The schedule with the iterations, rounded up, that its epochs of these pictures make."""
        if self.epochs is None:
            return self
        return self.model_copy(
            update={"iters": math.ceil(self.epochs * pictures / self.batch_size)}
        )

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "ScheduleSection":
        if self.warmup is not None:
            require_end(self.warmup, self.iters, "schedule.warmup")
        return self


def require_end(warmup: WarmupSection, iters: int, name: str) -> None:
    """Stop on a warm-up that does not end before training does.

    Raises:
        ValueError: it does not.
    """
    if warmup.iters >= iters:
        raise ValueError(
            f"{warmup.iters} iterations of warm-up leave none of {iters}; set {name} too"
        )


class BackboneSection(Section):
    """What is asked of the backbone."""

    output_stride: Literal[8, 16, 32] | None = None  # of a ResNet; the others have their own


class SelectionSection(Section):
    """What the point of a grid is chosen on."""

    run_seed: Annotated[int, Field(ge=0)]
    holdout: Annotated[float, Field(gt=0.0, lt=1.0)]  # share of train for `--select holdout`


Warmups = Annotated[
    tuple[WarmupSection, ...],
    Field(min_length=1),
    distinct("a warm-up stands twice; --seeds repeats runs"),
]


class SweepSection(SelectionSection):
    """Learning rates x warm-ups x seeds."""

    lrs: Annotated[
        tuple[Annotated[float, Field(gt=0.0)], ...],
        Field(min_length=1),
        distinct("a learning rate stands twice; --seeds repeats rates"),
    ]
    # where the warm-up is part of the grid, it stands here and not in the schedule
    warmups: Warmups | None = None
    seeds: PositiveInt


class Settings(Section):
    """Everything that a run of a protocol is made of, after profile and overrides.

    Attributes:
        optional: settings that no file in eval_configs/ names; each is a deviation.
    """

    optional: ClassVar[tuple[str, ...]] = ()

    data: DataSetSection
    backbone: BackboneSection = BackboneSection()
    sweep: SelectionSection

    def dump(self) -> dict[str, Any]:
        """Plain JSON values; what does not apply (no warm-up, whole pictures) is left out."""
        return self.model_dump(mode="json", exclude_none=True)


class TrainedSettings(Settings):
    """The settings of what is trained by gradients, on batches of pictures."""

    optional: ClassVar[tuple[str, ...]] = ("schedule.accumulate", "schedule.iters")

    schedule: ScheduleSection
    sweep: SweepSection

    @model_validator(mode="after")
    def _one_warm_up(self) -> "TrainedSettings":
        if self.sweep.warmups is not None:
            if self.schedule.warmup is not None:
                raise ValueError("a protocol has either one warm-up or a grid of them")
            for warmup in self.sweep.warmups:
                require_end(warmup, self.schedule.iters, "sweep.warmups")
        return self

    def dump(self) -> dict[str, Any]:
        """Plain JSON values; what does not apply (no warm-up, whole pictures) is left out."""
        plain = super().dump()
        if self.schedule.epochs is not None:
            del plain["schedule"]["iters"]
        return plain
