"""The card of a method: the facts about its weights that no tensor carries."""

from dataclasses import asdict, dataclass
from typing import Literal

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""0.485, 0.456, 0.406 on [0, 1] pixels, times 255 (torchvision's ImageNet normalisation)."""

IMAGENET_STD = (58.395, 57.12, 57.375)
"""0.229, 0.224, 0.225 on [0, 1] pixels, times 255 (torchvision's ImageNet normalisation)."""


ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Reference:
    """A number that a paper reports for a method.

    Attributes:
        task: of vicregl-bench, e.g. `voc_linear`.
        arch: the backbone.
        value: in per cent, as printed.
        source: paper, table and row.
    """

    task: str
    arch: str
    value: float
    source: str


@dataclass(frozen=True)
class Card:
    """What a reader knows about the weights of one method besides the tensors.

    Attributes:
        method: identifier used on the command line and in records, e.g. `vicregl`.
        title: the method's name in tables, e.g. `VICRegL`.
        source: where the facts on this card come from.
        mean: per-channel mean subtracted from the input, on the 0-255 scale.
        std: per-channel divisor of the input, on the 0-255 scale.
        channel_order: order of the channels that `mean` and `std` refer to.
        note: what a user should know before comparing numbers.
        arch: the backbone's architecture, where the card tells it.
        pooling: what makes the pooled vector: the mean of the map (of a ViT's patch tokens), or
            the class token; None is the family's own (`cls` of ViTs, `avg` of the others).
        output_norm: whether a ViT's final norm is applied to its maps too.
        detection_preset: schedule of `voc_det_frcnn_c4`: `lars` of weights trained with LARS, whose
            norms are others (VICReg, appendix B.3), else `moco`.
        alpha: weight of VICRegL's global criterion in the pretraining; None where unknown.
        epochs: of the pretraining; None where unknown.
        references: numbers the papers report.
    """

    method: str
    title: str
    source: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channel_order: ChannelOrder = "rgb"
    note: str = ""
    arch: str | None = None
    pooling: Literal["avg", "cls"] | None = None
    output_norm: bool = False
    detection_preset: Literal["moco", "lars"] = "moco"
    alpha: float | None = None
    epochs: float | None = None
    references: tuple[Reference, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the card as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
