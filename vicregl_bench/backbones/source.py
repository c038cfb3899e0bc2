"""From `--ckpt` to a backbone: a checkpoint file, or random weights of an architecture."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture, Backbone
from vicregl_bench.backbones.names import ALIASES, RANDOM_PREFIX, is_random
from vicregl_bench.backbones.resnet import build_res5
from vicregl_bench.backbones.vit import heads_of, positions_kind, positions_side
from vicregl_bench.backbones.zoo import (
    build_backbone,
    find_architecture,
    random_state,
    targets,
)
from vicregl_bench.checkpoints import (
    Card,
    Checkpoint,
    find_reader,
    load_checkpoint,
    method_names,
    weights_sha256,
)
from vicregl_bench.errors import ConfigError

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
        notes: what a user should know, because something may be wrong.
        facts: what was assumed or done that is as it should be, such as an interpolation.
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
    facts: tuple[str, ...] = ()

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
        ConfigError: unknown architecture, or a ViT's positions are no square grid.
    """
    if is_random(ckpt):
        if method is not None or prefix is not None:
            raise ConfigError("random weights have no --method and no --prefix: leave them out")
        return _random_backbone(ckpt.removeprefix(RANDOM_PREFIX), arch, seed)
    checkpoint = load_checkpoint(
        Path(ckpt),
        targets(),
        arch=None if arch is None else find_architecture(arch).name,
        method=method,
        prefix=prefix,
        aliases=ALIASES,
        trust_pickle=trust_pickle,
    )
    open_choice = () if checkpoint.settled else checkpoint.also_fits
    return BackboneSource(
        name=_display_name(Path(ckpt)),
        arch=checkpoint.arch,
        card=checkpoint.card,
        state_dict=checkpoint.state_dict,
        weights_sha256=checkpoint.weights_sha256,
        file_sha256=checkpoint.file_sha256,
        coverage=checkpoint.coverage.to_dict(),
        open_choice=open_choice,
        notes=(
            *_choice_notes(checkpoint, open_choice),
            *_position_notes(checkpoint),
            *_method_notes(checkpoint),
            *_sibling_notes(checkpoint),
        ),
        facts=_facts(checkpoint),
    )


def _choice_notes(checkpoint: Checkpoint, open_choice: tuple[str, ...]) -> tuple[str, ...]:
    if not open_choice:
        return ()
    return (
        f"taken for {checkpoint.arch}; {', '.join(open_choice)} has the same shapes: "
        f"pass --arch {open_choice[0]} if the weights are of that kind",
    )


def _position_notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The kind of a ViT's positions can betray the number of heads."""
    positions = checkpoint.state_dict.get("pos_embed")
    small = checkpoint.arch == "vit_small_patch16" and not checkpoint.settled
    if positions is None or not small or positions_kind(positions) != "fixed":
        return ()
    return (
        "fixed positions in a ViT-S are a mark of MoCo v3, whose ViT-S has 12 heads: pass "
        "--method moco_v3 if it is one",
    )


def _facts(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What is assumed of a ViT or done to it.

    Raises:
        ConfigError: its positions are no square grid.
    """
    positions = checkpoint.state_dict.get("pos_embed")
    if positions is None:
        return ()
    side = positions_side(checkpoint.arch, positions.shape[1])
    return (
        f"{positions_kind(positions)} positions of {side} x {side}, interpolated bicubically to "
        "the input's grid",
        f"{heads_of(checkpoint.arch)} attention heads, which no tensor tells",
    )


_FAMILY_WORDS = {"resnet": "ResNet", "convnext": "ConvNeXt", "vit": "ViT", "swin": "Swin"}


def _method_notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The card's own note, and a method that publishes no such architecture."""
    if checkpoint.method not in method_names():
        return ()
    reader = find_reader(checkpoint.method)
    notes = [checkpoint.card.note] if checkpoint.card.note == reader.card.note else []
    published = [family for family, word in _FAMILY_WORDS.items() if word in reader.architectures]
    if published and find_architecture(checkpoint.arch).family not in published:
        notes.append(
            f"{reader.card.title} publishes {reader.architectures}, and this is a "
            f"{checkpoint.arch}: is --method {checkpoint.method} right?"
        )
    return tuple(note for note in notes if note)


_HARMLESS = re.compile(
    r"(fc|head|heads|classifier|online_classifier|linear|proj|predict|projector|projection|"
    r"prototypes|expander|decoder|neck|queue|mask_token|masked_embed|pre_logits|norm\d|"
    r"encoder_k|momentum|teacher|student|loss|criterion|aux)\w*"
)
"""Names of what stands beside a backbone and takes its features: heads, branches, masks."""


def _sibling_notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Tensors beside the backbone that nobody knows to be harmless."""
    names = dict.fromkeys(key.partition(".")[0] for key in checkpoint.coverage.unexpected)
    unknown = [name for name in names if not _HARMLESS.fullmatch(name)]
    if not unknown:
        return ()
    listed = ", ".join(unknown[:6]) + (", ..." if len(unknown) > 6 else "")
    return (
        f"the file has more beside the backbone, which is not read: {listed}; if the features go "
        "through it, this is another architecture",
    )


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
