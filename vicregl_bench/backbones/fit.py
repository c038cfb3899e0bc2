"""Whether a backbone's BatchNorm statistics are those of the pictures that it is given.

Weights that load without an error may still be used wrongly: the stride elsewhere (v1 and v1.5
ResNets have the same shapes), another scale of the input. The running statistics of BatchNorm,
taken over the pictures of pretraining, give it away: on natural pictures the variances that arrive
at each layer are near the stored ones when everything is as it was. Channels in another order alone
do not show (a real ResNet-50: 0.157 against 0.151).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.checkpoints import Card
from vicregl_bench.checkpoints.card import IMAGENET_MEAN, IMAGENET_STD

PICTURES = 8
"""Pictures asked for: with eight of Imagenette the gaps of a real ResNet-50 were 0.15 with its own
strides and 0.28 with the others."""

SIDE = 224
"""Of the pictures, in pixels: the field's usual size of pretraining."""

CLEARLY = 1.25
"""How many times smaller another choice's gap must be to be worth a warning; the two gaps above are
1.9 times apart."""

GOOD = 0.3
"""Gap up to which statistics fit: twice the real ResNet-50's."""

BAD = 2 * GOOD
"""Gap from which on they fit nothing known."""


@dataclass(frozen=True)
class _Input:
    """One of the inputs that networks of this field are trained on."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["rgb", "bgr"] = "rgb"


_INPUTS = (
    _Input("[0, 1] without mean and std", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    _Input("BGR of 0 to 255 less the mean", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "bgr"),
    _Input("RGB by ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD),
)


def normalise(pictures: Tensor, card: Card) -> Tensor:
    """Pictures (B, 3, H, W) in RGB, 0 to 255, as the card's weights want them."""
    ordered = pictures if card.channel_order == "rgb" else pictures.flip(1)
    mean, std = (ordered.new_tensor(values).view(1, 3, 1, 1) for values in (card.mean, card.std))
    return (ordered - mean) / std


def statistics_gap(backbone: nn.Module, images: Tensor) -> float | None:
    """Mean over BatchNorm layers of the median |log(variance that arrives / running variance)|.

    Args:
        backbone: in eval mode it is run once over the images.
        images: normalised, (B, 3, H, W).

    Returns:
        0 for a perfect fit; None of a backbone without BatchNorm.
    """
    gaps: list[float] = []

    def compare(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert module.running_var is not None
        seen = inputs[0].float().var(dim=(0, 2, 3)).clamp(min=1e-8)
        stored = module.running_var.float().clamp(min=1e-8)
        gaps.append(float((seen / stored).log().abs().median()))

    hooks = [
        module.register_forward_hook(compare)
        for module in backbone.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    backbone.eval()
    try:
        with torch.inference_mode():
            backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(gaps) / len(gaps) if gaps else None


def doubts(source: BackboneSource, pictures: Tensor) -> tuple[str, ...]:
    """Warnings where another stride placement or another input fits the statistics clearly better.

    Args:
        source: the weights.
        pictures: natural ones, RGB, 0 to 255, (B, 3, H, W); `PICTURES` of them are enough.

    Returns:
        Sentences for the user; none for random weights and architectures without BatchNorm.
    """
    if not can_doubt(source):
        return ()
    images = normalise(pictures, source.card)
    own = statistics_gap(source.build(), images)
    if own is None:
        return ()
    found: list[str] = []
    for arch in _other_strides(source):
        gap = statistics_gap(source.build(arch=arch), images)
        if gap is not None and gap < GOOD and gap * CLEARLY < own:
            found.append(
                f"the BatchNorm statistics fit {arch} better than {source.arch} (gap {gap:.2f} "
                f"against {own:.2f}): pass --arch {arch}"
            )
    if own > GOOD and not found:
        found += _input_doubts(source, pictures, own)
    if own > BAD and not found:
        found.append(
            f"the BatchNorm statistics fit neither these pictures nor any known input (gap "
            f"{own:.2f}, up to {GOOD:g} is usual): the architecture may be a variant of the same "
            "shapes (a ResNet with blur pooling), or the input another"
        )
    return tuple(found)


def can_doubt(source: BackboneSource) -> bool:
    """Whether there are statistics to hold against pictures: a file's, of a ResNet."""
    return source.architecture.family == "resnet" and source.coverage is not None


def _other_strides(source: BackboneSource) -> Sequence[str]:
    from vicregl_bench.backbones.resnet import SPECS

    mine = SPECS[source.arch]
    return [
        name
        for name, spec in SPECS.items()
        if name != source.arch and dataclasses.replace(spec, style=mine.style) == mine
    ]


def _input_doubts(source: BackboneSource, pictures: Tensor, own: float) -> list[str]:
    card = source.card
    backbone = source.build()
    best: tuple[float, _Input] | None = None
    for other in _INPUTS:
        if (other.mean, other.std, other.channel_order) == (
            card.mean,
            card.std,
            card.channel_order,
        ):
            continue
        changed = dataclasses.replace(
            card, mean=other.mean, std=other.std, channel_order=other.channel_order
        )
        gap = statistics_gap(backbone, normalise(pictures, changed))
        if gap is not None and (best is None or gap < best[0]):
            best = gap, other
    if best is None or best[0] > BAD or best[0] * CLEARLY > own:
        return []
    gap, other = best
    return [
        f"the BatchNorm statistics fit an input of {other.name} better than the card's (gap "
        f"{gap:.2f} against {own:.2f}): put mean, std and channel_order into a .card.yaml beside "
        "the file if it was trained so"
    ]
