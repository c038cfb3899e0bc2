"""From `--ckpt` to a backbone: a checkpoint file, or random weights of an architecture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture, Backbone
from vicregl_bench.backbones.resnet import build_res5
from vicregl_bench.backbones.vit import positions_kind
from vicregl_bench.backbones.zoo import build_backbone, find_architecture, random_state, targets
from vicregl_bench.checkpoints import Card, Checkpoint, load_checkpoint, weights_sha256
from vicregl_bench.errors import ConfigError

RANDOM_PREFIX = "random:"
_RES5 = "layer4."


@dataclass(frozen=True)
class BackboneSource:
    """Weights with everything needed to build and describe their backbone.

    Attributes:
        name: file name (with its folder where it is generic), or random:ARCH.
        arch: name of the architecture.
        card: facts about the weights.
        state_dict: canonical keys -> float32 tensors.
        weights_sha256: over the same.
        file_sha256: over the file's bytes, None of random weights.
        coverage: the coverage report, None of random weights.
        open_choice: architectures of the same shapes, where nothing but a guess chose among them.
        notes: what a user should know.
    """

    name: str
    arch: str
    card: Card
    state_dict: Mapping[str, Tensor]
    weights_sha256: str
    file_sha256: str | None = None
    coverage: dict[str, Any] | None = None
    open_choice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def architecture(self) -> Architecture:
        """Facts about the architecture."""
        return find_architecture(self.arch)

    def build(
        self, output_stride: int | None = None, *, stages: int = 4, arch: str | None = None
    ) -> Backbone:
        """The backbone with these weights.

        Args:
            output_stride: of a ResNet's last map; None is 32.
            stages: 3 for the trunk of a C4 detector, without `layer4`.
            arch: another architecture of the same shapes, to compare.

        Raises:
            ConfigError: an impossible output stride, or positions that are no square grid.
        """
        positions = self.state_dict.get("pos_embed")
        backbone = build_backbone(
            arch or self.arch,
            output_stride=output_stride,
            stages=stages,
            positions=None if positions is None else int(positions.shape[1]),
            pooling=self.card.pooling,
            output_norm=self.card.output_norm,
        )
        state = dict(self.state_dict)
        if stages == 3:
            state = {key: value for key, value in state.items() if not key.startswith(_RES5)}
        backbone.load_state_dict(state, strict=True)
        return backbone

    def build_res5(self, *, dilated: bool = False) -> nn.Module:
        """A ResNet's last stage with these weights, the RoI head of a C4 detector.

        Raises:
            ConfigError: the architecture is no ResNet.
        """
        if self.architecture.family != "resnet":
            raise ConfigError(f"a C4 split is of ResNets; {self.arch} has none")
        res5 = build_res5(self.arch, dilated=dilated)
        state = {
            key.removeprefix(_RES5): value
            for key, value in self.state_dict.items()
            if key.startswith(_RES5)
        }
        res5.load_state_dict(state, strict=True)
        return res5


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
    checkpoint = load_checkpoint(
        Path(ckpt),
        targets(),
        arch=None if arch is None else find_architecture(arch).name,
        method=method,
        prefix=prefix,
        trust_pickle=trust_pickle,
    )
    open_choice = () if checkpoint.settled else _twins(checkpoint)
    return BackboneSource(
        name=_display_name(Path(ckpt)),
        arch=checkpoint.arch,
        card=checkpoint.card,
        state_dict=checkpoint.state_dict,
        weights_sha256=checkpoint.weights_sha256,
        file_sha256=checkpoint.file_sha256,
        coverage=checkpoint.coverage.to_dict(),
        open_choice=open_choice,
        notes=(*_choice_notes(checkpoint, open_choice), *_position_notes(checkpoint)),
    )


def _twins(checkpoint: Checkpoint) -> tuple[str, ...]:
    return tuple(name for name in checkpoint.also_fits if name != checkpoint.arch)


def _choice_notes(checkpoint: Checkpoint, open_choice: tuple[str, ...]) -> tuple[str, ...]:
    if not open_choice:
        return ()
    return (
        f"taken for {checkpoint.arch}; {', '.join(open_choice)} has the same shapes: "
        f"pass --arch {open_choice[0]} if the weights are of that kind",
    )


def _position_notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What kind of positions a ViT has; its kind can betray the number of heads."""
    positions = checkpoint.state_dict.get("pos_embed")
    if positions is None:
        return ()
    side = math.isqrt(positions.shape[1])
    kind = positions_kind(positions)
    notes = [f"{kind} positions of {side} x {side}, interpolated bicubically to the input's grid"]
    if kind == "fixed" and checkpoint.arch == "vit_small_patch16" and not checkpoint.settled:
        notes.append(
            "fixed positions in a ViT-S are a mark of MoCo v3, whose ViT-S has 12 heads: pass "
            "--method moco_v3 if it is one"
        )
    return tuple(notes)


def _display_name(path: Path) -> str:
    """The file's name; with its folder's where the name alone tells nothing."""
    generic = path.stem in ("backbone", "model", "released", "checkpoint")
    return f"{path.resolve().parent.name}/{path.name}" if generic else path.name


def _random_backbone(named: str, arch: str | None, seed: int) -> BackboneSource:
    architecture = find_architecture(arch or named)
    if targets()[architecture.name] != targets()[find_architecture(named).name]:
        raise ConfigError(f"--ckpt {RANDOM_PREFIX}{named} and --arch {arch} contradict each other")
    state = random_state(architecture.name, seed)
    peer = "torchvision" if architecture.family == "resnet" else "timm"
    card = Card(method="random", title="Random weights", source=f"{peer}'s initialisation")
    return BackboneSource(
        name=f"{RANDOM_PREFIX}{architecture.name}",
        arch=architecture.name,
        card=card,
        state_dict=state,
        weights_sha256=weights_sha256(state),
    )
