"""From `--ckpt` to a backbone: a checkpoint file, or random weights of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vicregl_bench.backbones.resnet import (
    build_resnet,
    random_resnet_state,
    resnet_spec,
    resnet_targets,
)
from vicregl_bench.checkpoints import Card, load_checkpoint, weights_sha256
from vicregl_bench.errors import ConfigError

RANDOM_PREFIX = "random:"


@dataclass(frozen=True)
class BackboneSource:
    """Weights with everything needed to build and describe their backbone."""

    name: str  # file name (with its folder where it is generic), or random:ARCH
    arch: str
    card: Card
    state_dict: Mapping[str, Tensor]
    weights_sha256: str
    file_sha256: str | None = None
    coverage: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def build(self, output_stride: int) -> nn.Module:
        """The backbone with these weights; its forward gives the maps of the four stages."""
        backbone = build_resnet(self.arch, output_stride)
        backbone.load_state_dict(dict(self.state_dict), strict=True)
        return backbone


def read_backbone(
    ckpt: str,
    *,
    arch: str | None = None,
    method: str | None = None,
    prefix: str | None = None,
    trust_pickle: bool = False,
    seed: int = 0,
) -> BackboneSource:
    """Read `FILE` or make `random:ARCH`.

    Args:
        ckpt: path of a checkpoint, or "random:" and an architecture.
        arch: architecture, where weights do not tell (v1 against v1.5 ResNets); random ones too.
        method: reader to use instead of the one that recognises the content.
        prefix: key prefix of the backbone, where several fit.
        trust_pickle: load a file with foreign globals; it may run code.
        seed: of random weights.

    Raises:
        CheckpointError: the file cannot be read or does not hold the backbone whole.
        ConfigError: unknown architecture.
    """
    if ckpt.startswith(RANDOM_PREFIX):
        return _random_backbone(ckpt.removeprefix(RANDOM_PREFIX), arch, seed)
    if arch is not None:
        resnet_spec(arch)
    checkpoint = load_checkpoint(
        Path(ckpt),
        resnet_targets(),
        arch=arch,
        method=method,
        prefix=prefix,
        trust_pickle=trust_pickle,
    )
    twins = checkpoint.also_fits
    notes: tuple[str, ...] = ()
    if arch is None and twins:
        notes = (
            f"taken for {checkpoint.arch}; {', '.join(twins)} has the same shapes: "
            f"pass --arch {twins[0]} if the weights are of that kind",
        )
    return BackboneSource(
        name=_display_name(Path(ckpt)),
        arch=checkpoint.arch,
        card=checkpoint.card,
        state_dict=checkpoint.state_dict,
        weights_sha256=checkpoint.weights_sha256,
        file_sha256=checkpoint.file_sha256,
        coverage=checkpoint.coverage.to_dict(),
        notes=notes,
    )


def _display_name(path: Path) -> str:
    """The file's name; with its folder's where the name alone tells nothing."""
    generic = path.stem in ("backbone", "model", "released", "checkpoint")
    return f"{path.resolve().parent.name}/{path.name}" if generic else path.name


def _random_backbone(named: str, arch: str | None, seed: int) -> BackboneSource:
    arch = arch or named
    if resnet_spec(arch).depth != resnet_spec(named).depth:
        raise ConfigError(f"--ckpt {RANDOM_PREFIX}{named} and --arch {arch} contradict each other")
    state = random_resnet_state(arch, seed)
    card = Card(
        method="random",
        title="Random weights",
        source="torchvision's initialisation: Kaiming normal convolutions, unit BatchNorm",
    )
    return BackboneSource(
        name=f"{RANDOM_PREFIX}{arch}",
        arch=arch,
        card=card,
        state_dict=state,
        weights_sha256=weights_sha256(state),
    )
