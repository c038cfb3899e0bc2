"""A protocol is data: reading eval_configs, choosing a profile, listing what a run overrides.

A file in eval_configs/ is an mmengine Python config. Its sections are checked against the models
below, so that an override with a wrong name or type stops before anything runs.
"""

import difflib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from vicregl_bench.errors import ConfigError

PROFILES = ("paper", "ci")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProtocolInfo(_Section):
    """Name, version and provenance of a protocol."""

    name: str
    version: int
    kind: Literal["segmentation_linear_frozen"]
    title: str
    tables: tuple[str, ...]  # tables of the VICRegL paper that the task belongs to
    source: str
    cost: str


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = tuple[PositiveInt, PositiveInt]


class DataSection(_Section):
    """Data set, augmentation and test scale; sizes are (width, height) as mmcv has them."""

    dataset: Literal["voc"]
    variant: Literal["voc12aug", "voc12"]
    num_classes: Literal[21]
    ignore_index: Literal[255]
    resize: Size
    ratio_range: tuple[float, float]
    crop: Size  # (height, width)
    cat_max_ratio: Share
    flip: Share
    test_resize: Size


class OptimizerSection(_Section):
    """Arguments of torch's SGD; the learning rates are the sweep's."""

    type: Literal["SGD"]
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0.0)]


class PolySection(_Section):
    """mmengine's PolyLR over all iterations."""

    power: Annotated[float, Field(gt=0.0)]
    eta_min: Annotated[float, Field(ge=0.0)]


class ScheduleSection(_Section):
    """Iterations, batch and optimiser."""

    iters: PositiveInt
    batch_size: Annotated[int, Field(gt=0, le=4096)]
    optimizer: OptimizerSection
    poly: PolySection


class BackboneSection(_Section):
    """What is asked of the backbone."""

    output_stride: Literal[8, 16, 32]


class HeadSection(_Section):
    """The linear head: what stands before its 1x1 convolution, and how that begins."""

    batch_norm: bool
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    init_std: Annotated[float, Field(gt=0.0)]


class SweepSection(_Section):
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


class Settings(_Section):
    """Everything that a run of a protocol is made of, after profile and overrides."""

    data: DataSection
    schedule: ScheduleSection
    backbone: BackboneSection
    head: HeadSection
    sweep: SweepSection


class Deviation(_Section):
    """One thing in which a run differs from its protocol."""

    key: str
    protocol: Any
    run: Any

    def __str__(self) -> str:
        return f"{self.key}: {json.dumps(self.run)} instead of {json.dumps(self.protocol)}"


class Task(_Section):
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


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _build_settings(flat: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(_unflatten(flat))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        got = json.dumps(first.get("input"), default=str)
        raise ConfigError(f"setting {key} = {got} is impossible: {first['msg']}") from None


def load_task(
    name: str, profile: str = "paper", overrides: Mapping[str, Any] | None = None
) -> Task:
    """Read a protocol, apply a profile and the overrides of a run.

    Args:
        name: of a file in eval_configs/.
        profile: "paper" or "ci"; it is part of the protocol, not a deviation.
        overrides: dotted key -> value, such as {"schedule.iters": 100}.

    Returns:
        The task, whose deviations are the overrides that change a value.

    Raises:
        ConfigError: no such task, profile or key, or an impossible value.
    """
    config = _load_file(name)
    profiles = config["profiles"]
    if profile not in profiles:
        raise ConfigError(f"task {name} has no profile {profile!r}; it has {', '.join(profiles)}")
    sections = {key: config[key] for key in Settings.model_fields}
    planned = _flatten(sections) | _flatten(profiles[profile])
    wanted = dict(overrides or {})
    for key in wanted:
        if key not in planned:
            near = difflib.get_close_matches(key, planned, n=3, cutoff=0.3)
            raise ConfigError(f"no setting {key!r} in {name}; near it: {', '.join(near) or '-'}")
    before = _build_settings(planned)
    after = _build_settings(planned | wanted)
    old, new = _flatten(before.model_dump(mode="json")), _flatten(after.model_dump(mode="json"))
    return Task(
        info=ProtocolInfo(**config["protocol"]),
        profile=profile,
        settings=after,
        deviations=tuple(
            Deviation(key=key, protocol=old[key], run=new[key])
            for key in new
            if old[key] != new[key]
        ),
    )


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` words; a value is JSON, else a comma-separated list, else a string.

    Raises:
        ConfigError: a word without "=" or without a key.
    """
    parsed: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set takes key=value, not {item!r}")
        parsed[key] = _parse_value(text)
    return parsed


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [_parse_value(part) for part in text.split(",")] if "," in text else text
