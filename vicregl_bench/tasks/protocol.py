"""A protocol is data: reading eval_configs, choosing a profile, listing what a run overrides.

A file in eval_configs/ is an mmengine Python config. Its sections are checked against the models
below, so that an override with a wrong name or type stops before anything runs.
"""

import difflib
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from vicregl_bench.backbones.family import Family
from vicregl_bench.data import ade20k, cityscapes, voc
from vicregl_bench.engine.settings import Section, build_settings, flatten, require_known
from vicregl_bench.errors import ConfigError

PROFILES = ("paper", "ci")

Kind = Literal[
    "segmentation_linear_frozen",
    "segmentation_linear_finetuned",
    "segmentation_fcn_frozen",
    "segmentation_fcn_finetuned",
]


class ProtocolInfo(Section):
    """Name, version and provenance of a protocol."""

    name: str
    version: int
    kind: Kind
    title: str
    tables: tuple[str, ...]  # tables of the VICRegL paper that the task belongs to
    source: str
    cost: str
    only: tuple[str, ...] | None = None  # families of backbones, where it is not for all

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is, so that all heads share its forward."""
        return self.kind.endswith("_frozen")


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = tuple[PositiveInt, PositiveInt]


# variants and number of classes of each data set
_SETS: dict[str, tuple[tuple[str, ...], int]] = {
    "voc": (tuple(voc.TRAIN_COUNT), len(voc.CLASSES)),
    "cityscapes": (cityscapes.VARIANTS, len(cityscapes.CITYSCAPES_CLASSES)),
    "ade20k": (ade20k.VARIANTS, len(ade20k.ADE20K_CLASSES)),
}


class DataSection(Section):
    """Data set, augmentation and test scale; sizes are (width, height) as mmcv has them."""

    dataset: Literal["voc", "cityscapes", "ade20k"]
    variant: str
    num_classes: int
    ignore_index: Literal[255]
    resize: Size
    ratio_range: tuple[float, float]
    crop: Size  # (height, width)
    cat_max_ratio: Share
    flip: Share
    test_resize: Size

    @field_validator("variant")
    @classmethod
    def _variant_of_the_data_set(cls, variant: str, info: ValidationInfo) -> str:
        dataset = info.data.get("dataset")
        if dataset is not None and variant not in _SETS[dataset][0]:
            raise ValueError(f"{dataset} has {' and '.join(_SETS[dataset][0])}")
        return variant

    @field_validator("num_classes")
    @classmethod
    def _classes_of_the_data_set(cls, num_classes: int, info: ValidationInfo) -> int:
        dataset = info.data.get("dataset")
        if dataset is not None and num_classes != _SETS[dataset][1]:
            raise ValueError(f"{dataset} has {_SETS[dataset][1]} classes")
        return num_classes


class OptimizerSection(Section):
    """Arguments of torch's SGD or AdamW; the learning rates are the sweep's."""

    type: Literal["SGD", "AdamW"]
    momentum: Share | None = None  # of SGD
    betas: tuple[Share, Share] | None = None  # of AdamW
    weight_decay: Annotated[float, Field(ge=0.0)]

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


class WarmupSection(Section):
    """mmengine's LinearLR before the poly schedule, which then begins where it ends."""

    iters: PositiveInt
    start_factor: Annotated[float, Field(gt=0.0, le=1.0)]


class SlideSection(Section):
    """Test by sliding windows, as mmsegmentation's `slide_inference`."""

    crop: PositiveInt
    stride: PositiveInt

    @model_validator(mode="after")
    def _no_gaps(self) -> "SlideSection":
        if self.stride > self.crop:
            raise ValueError("a stride larger than the crop leaves gaps")
        return self


class ScheduleSection(Section):
    """Iterations, batch and optimiser."""

    iters: PositiveInt
    batch_size: Annotated[int, Field(gt=0, le=4096)]
    optimizer: OptimizerSection
    poly: PolySection
    warmup: WarmupSection | None = None
    # parts of a batch that are computed one after another, where memory is short: in fine-tuning
    # BatchNorm then sees smaller batches
    accumulate: PositiveInt | None = None

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
    def _warm_up_ends(self) -> "ScheduleSection":
        if self.warmup is not None and self.warmup.iters >= self.iters:
            raise ValueError(
                f"{self.warmup.iters} iterations of warm-up leave none of {self.iters}"
            )
        return self


class BackboneSection(Section):
    """What is asked of the backbone."""

    output_stride: Literal[8, 16, 32] | None = None  # of a ResNet; the others have their own


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


class SweepSection(Section):
    """Learning rates x seeds."""

    lrs: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)]
    seeds: PositiveInt
    run_seed: Annotated[int, Field(ge=0)]
    holdout: Annotated[float, Field(gt=0.0, lt=1.0)]  # share of train for `--select holdout`

    @field_validator("lrs")
    @classmethod
    def _no_rate_twice(cls, lrs: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(lrs)) != len(lrs):
            raise ValueError("a learning rate stands twice; --seeds repeats rates")
        return lrs


class Settings(Section):
    """Everything that a run of a protocol is made of, after profile and overrides."""

    data: DataSection
    schedule: ScheduleSection
    backbone: BackboneSection = BackboneSection()
    head: HeadSection | None = None  # either a linear head
    fcn: FcnSection | None = None  # or FCN's two
    sweep: SweepSection
    slide: SlideSection | None = None  # test on whole pictures where there is none
    test: TestSection | None = None

    @field_validator("test")
    @classmethod
    def _more_than_one_view(cls, test: TestSection | None) -> TestSection | None:
        alone = test is None or (not test.flip and test.scales in (None, (1.0,)))
        return None if alone else test

    @model_validator(mode="after")
    def _one_kind_of_head(self) -> "Settings":
        if (self.head is None) == (self.fcn is None):
            raise ValueError("a protocol has either a linear head or FCN's")
        return self

    def dump(self) -> dict[str, Any]:
        """Plain JSON values; what does not apply (no warm-up, whole pictures) is left out."""
        plain = self.model_dump(mode="json", exclude_none=True)
        if self.test is not None:
            plain["test"] = self.test.model_dump(mode="json", exclude_defaults=True)
        return plain


# Settings that no file in eval_configs/ names; each is a deviation.
_OPTIONAL = ("schedule.accumulate", "test.flip", "test.scales")


class Deviation(Section):
    """One thing in which a run differs from its protocol."""

    key: str
    protocol: Any
    run: Any

    def __str__(self) -> str:
        run, protocol = (
            "none" if value is None else json.dumps(value) for value in (self.run, self.protocol)
        )
        return f"{self.key}: {run} instead of {protocol}"


class Task(Section):
    """A protocol in one profile, with the overrides of one run."""

    info: ProtocolInfo
    profile: str
    settings: Settings
    deviations: tuple[Deviation, ...]


def config_folder() -> Path:
    """Where the eval_configs are: inside the installed package, or beside it in a checkout."""
    inside = Path(str(importlib.resources.files("vicregl_bench"))) / "eval_configs"
    return inside if inside.is_dir() else inside.parent.parent / "eval_configs"


def task_names() -> list[str]:
    """Names of all protocols, sorted."""
    return sorted(p.stem for p in config_folder().glob("*.py") if not p.stem.startswith("_"))


def _load_file(name: str) -> dict[str, Any]:
    from mmengine.config import Config

    if name not in task_names():
        near = difflib.get_close_matches(name, task_names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no task {name!r}{hint} (`vicregl-bench ls tasks` lists them)")
    config: dict[str, Any] = Config.fromfile(config_folder() / f"{name}.py").to_dict()
    return config


def protocol_info(name: str) -> ProtocolInfo:
    """Name, version and provenance of a protocol.

    Raises:
        ConfigError: no such task.
    """
    return ProtocolInfo(**_load_file(name)["protocol"])


def require_possible(name: str, profile: str, overrides: Mapping[str, Any]) -> None:
    """Stop on what is wrong whatever the backbone, before it is read.

    Raises:
        ConfigError: no such task or profile, or overrides that no family of backbones takes.
    """
    errors = []
    for family in protocol_info(name).only or get_args(Family):
        try:
            load_task(name, profile, overrides, family=family)
        except ConfigError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def load_task(
    name: str,
    profile: str = "paper",
    overrides: Mapping[str, Any] | None = None,
    *,
    family: str = "resnet",
    arch: str = "",
) -> Task:
    """Read a protocol as it applies to a backbone, apply a profile and the overrides of a run.

    Grid, optimiser, schedule and head follow from the backbone's family (VICRegL, appendix D.2):
    the file's own sections are those of ResNets, `families` has what replaces them in others, and
    for single architectures. A section that is given there replaces the whole section.

    Args:
        name: of a file in eval_configs/.
        profile: "paper" or "ci"; it is part of the protocol, not a deviation.
        overrides: dotted key -> value, such as {"schedule.iters": 100}.
        family: of the backbone.
        arch: the backbone's architecture.

    Returns:
        The task, whose deviations are the overrides that change a value.

    Raises:
        ConfigError: no such task, profile or key, an impossible value, or a family that the
            protocol is not for.
    """
    config = _load_file(name)
    info = ProtocolInfo(**config["protocol"])
    if info.only is not None and family not in info.only:
        raise ConfigError(f"task {name} is for {' and '.join(info.only)} backbones, not {family}")
    profiles = config["profiles"]
    if profile not in profiles:
        raise ConfigError(f"task {name} has no profile {profile!r}; it has {', '.join(profiles)}")
    sections = {key: config[key] for key in Settings.model_fields if key in config}
    families = config.get("families", {})
    shorter = flatten(profiles[profile])
    for applies in (family, arch):
        sections |= families.get(applies, {})
        shorter |= flatten(profiles.get(f"{profile}_{applies}", {}))
    planned = flatten(sections) | shorter
    wanted = dict(overrides or {})
    require_known(wanted, [*planned, *_OPTIONAL], name)
    before = build_settings(Settings, planned)
    after = build_settings(Settings, planned | wanted)
    if info.frozen and after.schedule.accumulate is not None:
        raise ConfigError("schedule.accumulate is for fine-tuning: frozen heads need little memory")
    old, new = flatten(before.dump()), flatten(after.dump())
    return Task(
        info=info,
        profile=profile,
        settings=after,
        deviations=tuple(
            Deviation(key=key, protocol=old.get(key), run=new.get(key))
            for key in old | new
            if old.get(key) != new.get(key)
        ),
    )
