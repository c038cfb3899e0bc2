"""A protocol is data: reading eval_configs, choosing a profile, listing what a run overrides.

A file in eval_configs/ is an mmengine Python config. Its sections are checked against the settings
of its domain (segmentation, detection, classification), so that an override with a wrong name or
type stops before anything runs.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import SerializeAsAny

from vicregl_bench.backbones.family import Family
from vicregl_bench.engine.settings import Section, build_settings, flatten, require_known
from vicregl_bench.errors import ConfigError
from vicregl_bench.shipped import shipped
from vicregl_bench.tasks.classification.finetuned_settings import FinetunedSettings
from vicregl_bench.tasks.classification.probe_settings import (
    CachedLinearSettings,
    ProbeSearchSettings,
)
from vicregl_bench.tasks.classification.settings import ClassificationSettings, KnnSettings
from vicregl_bench.tasks.classification.svm_settings import SvmSettings
from vicregl_bench.tasks.correspondence.settings import CorrespondenceSettings
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.segmentation.dense_knn_settings import DenseKnnSettings
from vicregl_bench.tasks.segmentation.settings import SegmentationSettings
from vicregl_bench.tasks.settings import Settings, TrainedSettings

PROFILES = ("paper", "ci")

Kind = Literal[
    "segmentation_linear_frozen",
    "segmentation_linear_finetuned",
    "segmentation_fcn_frozen",
    "segmentation_fcn_finetuned",
    "detection_c4_finetuned",
    "detection_linear_frozen",
    "detection_mask_rcnn_finetuned",
    "classification_linear_frozen",
    "classification_finetuned",
    "classification_knn_probe",
    "classification_linear_probe",
    "classification_search_probe",
    "classification_svm_probe",
    "segmentation_knn_probe",
    "correspondence_probe",
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
    def domain(self) -> str:
        """What kind of scores it gives: "segmentation", "detection", "classification" and so on."""
        return self.kind.partition("_")[0]

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is, so that all heads share its forward."""
        return not self.kind.endswith("_finetuned")

    @property
    def probe(self) -> bool:
        """Whether nothing is trained by gradients on batches of pictures."""
        return self.kind.endswith("_probe")


SETTINGS: dict[Kind, type[Settings]] = {
    "segmentation_linear_frozen": SegmentationSettings,
    "segmentation_linear_finetuned": SegmentationSettings,
    "segmentation_fcn_frozen": SegmentationSettings,
    "segmentation_fcn_finetuned": SegmentationSettings,
    "detection_c4_finetuned": DetectionSettings,
    "detection_linear_frozen": DetectionSettings,
    "detection_mask_rcnn_finetuned": DetectionSettings,
    "classification_linear_frozen": ClassificationSettings,
    "classification_finetuned": FinetunedSettings,
    "classification_knn_probe": KnnSettings,
    "classification_linear_probe": CachedLinearSettings,
    "classification_search_probe": ProbeSearchSettings,
    "classification_svm_probe": SvmSettings,
    "segmentation_knn_probe": DenseKnnSettings,
    "correspondence_probe": CorrespondenceSettings,
}
"""What a protocol of each kind is made of."""


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
    preset: str | None = None  # of a protocol that has several
    settings: SerializeAsAny[Settings]
    deviations: tuple[Deviation, ...]

    @property
    def training(self) -> TrainedSettings:
        """The settings, of a task that trains by gradients."""
        assert isinstance(self.settings, TrainedSettings)
        return self.settings


def config_folder() -> Path:
    """Where the eval_configs are: inside the installed package, or beside it in a checkout."""
    return shipped("eval_configs")


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


def require_possible(
    name: str, profile: str, overrides: Mapping[str, Any], preset: str | None = None
) -> None:
    """Stop on what is wrong whatever the backbone, before it is read.

    Raises:
        ConfigError: no such task, profile or preset, or overrides that no family of backbones
            takes.
    """
    errors = []
    for family in protocol_info(name).only or get_args(Family):
        try:
            load_task(name, profile, overrides, family=family, preset=preset)
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
    preset: str | None = None,
    suggested: str | None = None,
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
        preset: of a protocol that has several, for ResNets; None for the one suggested, or the
            first. It is part of the protocol, as the profile is.
        suggested: preset that suits the weights (`Card.detection_preset`), where there is such.

    Returns:
        The task, whose deviations are the overrides that change a value.

    Raises:
        ConfigError: no such task, profile, preset or key, an impossible value, or a family that the
            protocol is not for.
    """
    config = _load_file(name)
    info = ProtocolInfo(**config["protocol"])
    if info.only is not None and family not in info.only:
        raise ConfigError(f"task {name} is for {' and '.join(info.only)} backbones, not {family}")
    profiles = config["profiles"]
    if profile not in profiles:
        raise ConfigError(f"task {name} has no profile {profile!r}; it has {', '.join(profiles)}")
    kind = SETTINGS[info.kind]
    sections = {key: config[key] for key in kind.model_fields if key in config}
    families = config.get("families", {})
    preset, own = _preset(config, preset, suggested, name, family)
    shorter = own | flatten(profiles[profile])
    for applies in (family, arch):
        sections |= families.get(applies, {})
        shorter |= flatten(profiles.get(f"{profile}_{applies}", {}))
    planned = flatten(sections) | shorter
    wanted = dict(overrides or {})
    require_known(wanted, [*planned, *kind.optional], name)
    before = build_settings(kind, planned)
    after = build_settings(kind, planned | wanted)
    if info.frozen and isinstance(after, TrainedSettings):
        _require_frozen(after)
    old, new = flatten(before.dump()), flatten(after.dump())
    return Task(
        info=info,
        profile=profile,
        preset=preset,
        settings=after,
        deviations=tuple(
            Deviation(key=key, protocol=old.get(key), run=new.get(key))
            for key in old | new
            if old.get(key) != new.get(key)
        ),
    )


def _require_frozen(settings: TrainedSettings) -> None:
    """Stop on what only fine-tuning has."""
    if settings.schedule.accumulate is not None:
        raise ConfigError("schedule.accumulate is for fine-tuning: frozen heads need little memory")
    if settings.sweep.warmups is not None:
        raise ConfigError("sweep.warmups is for fine-tuning: frozen heads have one schedule")


def _preset(
    config: Mapping[str, Any], preset: str | None, suggested: str | None, name: str, family: str
) -> tuple[str | None, dict[str, Any]]:
    """Name and settings of a preset; none where the protocol has none, or other backbones."""
    presets: dict[str, Any] = config.get("presets", {}) if family == "resnet" else {}
    if preset is None and presets:
        preset = suggested if suggested in presets else next(iter(presets))
    if preset is None:
        return None, {}
    if preset not in presets:
        raise ConfigError(
            f"task {name} has no preset {preset!r} of {family} backbones; it has "
            f"{', '.join(presets) or 'none'}"
        )
    return preset, flatten(presets[preset])
