"""A recipe is data: every hyper-parameter of a pretraining run, from a file with its source.

A file in recipes/ is an mmengine Python config whose sections are checked against the models below.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from pretrain.augment import NORMALISATION, PIPELINES
from pretrain.model import find_backbone, map_side
from vicregl_bench.engine.settings import Section, build_settings, flatten, require_known
from vicregl_bench.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Scale = tuple[PositiveFloat, PositiveFloat]  # smallest and largest share of the picture's area
Side = Annotated[int, Field(ge=32)]  # the stride of every backbone
Widths = tuple[PositiveInt, ...]


class RecipeInfo(Section):
    """Name and provenance of a recipe."""

    name: str
    title: str
    source: str


class ViewsSection(Section):
    """Two large views, and any number of small ones; sizes in pixels."""

    large_size: Side
    large_scale: Scale
    small_count: NonNegativeInt
    small_size: Side
    small_scale: Scale
    pipeline: str  # a key of augment.PIPELINES
    interpolation: Literal["bilinear", "bicubic"]
    normalisation: str  # a key of augment.NORMALISATION
    track_flips: bool  # False: locations as if no view were mirrored (released code)

    @model_validator(mode="after")
    def _known(self) -> "ViewsSection":
        for low, high in (self.large_scale, self.small_scale):
            if not 0.0 < low <= high <= 1.0:
                raise ValueError(f"a scale of {low} to {high}: use 0 < smallest <= largest <= 1")
        for value, table in ((self.pipeline, PIPELINES), (self.normalisation, NORMALISATION)):
            if value not in table:
                raise ValueError(f"{value!r}: use one of {', '.join(table)}")
        return self

    @property
    def largest(self) -> int:
        """Side of the largest view."""
        return max(self.large_size, self.small_size if self.small_count else 0)


class ModelSection(Section):
    """Backbone and heads; widths of the linear layers."""

    backbone: str
    second_backbone: str | None  # another architecture for every second view
    shared: bool  # False: the second branch has weights of its own
    expander: Annotated[Widths, Field(min_length=1)]
    projector: Annotated[Widths, Field(min_length=1)]
    norm: Literal["batch", "layer"]

    @property
    def separate(self) -> bool:
        """Whether there are two sets of weights."""
        return not self.shared or self.second_backbone is not None


class CriterionSection(Section):
    """The criterion; see pretrain.losses and pretrain.contrastive."""

    name: Literal["vicregl", "simclr", "barlow_twins"]
    alpha: Share
    preset: Literal["paper", "released"]
    invariance: NonNegative
    variance: NonNegative
    covariance: NonNegative
    num_matches: tuple[PositiveInt, PositiveInt]
    feature_top_gamma: bool | None
    matching: tuple[Literal["location", "feature"], ...]  # none: VICReg, whatever alpha
    local_criterion: Literal["VIC", "VI", "I"]
    temperature: PositiveFloat

    @field_validator("matching")
    @classmethod
    def _no_matching_twice(cls, matching: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(matching)) != len(matching):
            raise ValueError("a matching stands twice")
        return matching

    @property
    def with_global(self) -> bool:
        """Whether the global criterion is used."""
        return self.alpha > 0.0 or not self.matching

    @property
    def with_local(self) -> bool:
        """Whether a local criterion is used."""
        return self.alpha < 1.0 and bool(self.matching)


class OptimizerSection(Section):
    """Optimiser; the peak rate is base_lr * batch / 256."""

    type: Literal["LARS", "AdamW"]
    base_lr: PositiveFloat
    weight_decay: NonNegative
    momentum: Share
    eta: PositiveFloat
    betas: tuple[Decay, Decay]


class ScheduleSection(Section):
    """Length, effective batch over all processes, warm-up and cosine."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    warmup_epochs: NonNegative
    end_lr_ratio: Share


class DataSection(Section):
    """What is done with the folder of pictures."""

    subset: float | None  # pictures a class, or a share below 1
    subset_seed: int
    upscale: bool
    unreadable: Share


class RunSection(Section):
    """How the run goes; intervals are in steps of the loader."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    precision: Literal["fp32", "bf16", "fp16"]
    accumulate: PositiveInt
    clip_grad: PositiveFloat | None
    log_every: PositiveInt
    watch_every: PositiveInt
    save_every: PositiveInt
    probe_every: NonNegativeInt  # 0: at the start and at the end only
    probe_pictures: PositiveInt
    probe_k: PositiveInt


class Recipe(Section):
    """A whole recipe."""

    recipe: RecipeInfo
    views: ViewsSection
    model: ModelSection
    criterion: CriterionSection
    optimizer: OptimizerSection
    schedule: ScheduleSection
    data: DataSection
    run: RunSection

    @property
    def method(self) -> str:
        """Identifier of the method that these settings are."""
        criterion = self.criterion
        if criterion.name == "vicregl":
            return "vicregl" if criterion.with_local else "vicreg"
        return f"{criterion.name}_l" if criterion.with_local else criterion.name

    def map_sides(self) -> list[int]:
        """Side of the last feature map of each view, large ones first."""
        sizes = [self.views.large_size] * 2 + [self.views.small_size] * self.views.small_count
        names = (self.model.backbone, self.model.second_backbone or self.model.backbone)
        return [map_side(names[k % 2], size) for k, size in enumerate(sizes)]


UNTOUCHED_BY_RESUME = (
    "recipe.",
    "run.log_every",
    "run.watch_every",
    "run.save_every",
    "run.probe_",
)
"""Settings that may change between the parts of one run: none of them alters the weights."""


def recipe_folder() -> Path:
    """Where the recipes are."""
    return Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(p.stem for p in recipe_folder().glob("*.py") if not p.stem.startswith("_"))


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name: of a file in recipes/.
        overrides: dotted key -> value, such as {"criterion.alpha": 1}.

    Raises:
        ConfigError: no such recipe or key, or an impossible value or combination.
    """
    from mmengine.config import Config

    if name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no recipe {name!r}{hint} (known: {', '.join(recipe_names())})")
    config = Config.fromfile(recipe_folder() / f"{name}.py").to_dict()
    planned = flatten({key: config[key] for key in Recipe.model_fields})
    wanted = dict(overrides or {})
    require_known(wanted, planned, f"recipe {name}")
    recipe = build_settings(Recipe, planned | wanted)
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    """Refuse what no single setting shows to be impossible."""
    criterion = recipe.criterion
    for name in (recipe.model.backbone, recipe.model.second_backbone):
        if name is not None:
            find_backbone(name)
    if criterion.name == "barlow_twins" and criterion.with_local:
        raise ConfigError("barlow_twins is a global criterion: --set criterion.alpha=1")
    sides = recipe.map_sides()
    if recipe.schedule.warmup_epochs >= recipe.schedule.epochs:
        raise ConfigError(
            f"{recipe.schedule.warmup_epochs:g} warm-up epochs do not fit "
            f"{recipe.schedule.epochs} epochs: --set schedule.warmup_epochs=0"
        )
    if criterion.with_local:
        small = min(sides[2:], default=None)
        # released: the second number is for matches back to a large view, from any other
        limits = (min(sides[:2]), min(sides) if criterion.preset == "released" else small)
        for gamma, side in zip(criterion.num_matches, limits, strict=True):
            if side is not None and gamma > side * side:
                raise ConfigError(
                    f"criterion.num_matches = {list(criterion.num_matches)}: gamma is {gamma}, but "
                    f"a map has {side * side} cells (views.large_size, views.small_size)"
                )
    if recipe.run.save_every % recipe.run.accumulate:
        raise ConfigError(
            f"run.save_every = {recipe.run.save_every} would save in the middle of "
            f"{recipe.run.accumulate} accumulated steps: make it a multiple of run.accumulate"
        )


def changed_settings(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Settings, with both values, in which two recipes (as dicts) would train differently."""
    old, new = flatten(before), flatten(after)
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(UNTOUCHED_BY_RESUME)
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    changed = changed_settings(before, after)
    return [f"{key}: {old} before, {new} now" for key, (old, new) in changed.items()]
