"""What this project's own pretraining leaves, and any file that carries its card inside.

Source: pretrain/export.py.
Files: `backbone.pth` holds `card` and `state_dict` (torchvision's or timm's keys, no prefix);
`model.pth` the same with `first.backbone.` before the keys, and beside it `first.expander.`,
`first.projector.` and, of branches with weights of their own, `second.`; `released.pth` the layout
of VICRegL's full checkpoints.
"""

from collections.abc import Mapping
from typing import Literal

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.errors import CheckpointError

CARD_FORMAT = "vicregl-bench card 1"


def _recognises(contents: Contents) -> bool:
    return contents.card is not None and contents.card.get("format") == CARD_FORMAT


def _colour(card: Mapping[str, object], key: str) -> tuple[float, float, float]:
    value = card[key]
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"{key} is {value!r}, three numbers are needed")
    red, green, blue = (float(part) for part in value)
    return red, green, blue


def _preset(card: Mapping[str, object]) -> Literal["moco", "lars"]:
    value = card.get("detection_preset", "moco")  # cards of the first version have none
    if value not in ("moco", "lars"):
        raise ValueError(f"detection_preset is {value!r}, moco or lars is needed")
    return "lars" if value == "lars" else "moco"


def _read_card(contents: Contents) -> Card:
    """The card inside the file.

    Raises:
        CheckpointError: a field is missing or of the wrong kind.
    """
    card = contents.card or {}
    try:
        return Card(
            method=str(card["method"]),
            title=str(card["title"]),
            source=str(card["source"]),
            mean=_colour(card, "mean"),
            std=_colour(card, "std"),
            channel_order=str(card["channel_order"]),
            note=str(card["note"]),
            arch=str(card["arch"]),
            detection_preset=_preset(card),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the card in the file is damaged ({error}); export the backbone again, or name the "
            "method with --method"
        ) from error


READER = Reader(
    card=Card(
        method="own",
        title="Pretrained here",
        source="the card in the file",
        note="Method, architecture and normalisation are read from the file.",
    ),
    files="backbone.pth, model.pth: `card` and `state_dict`; released.pth: `card` and `model`",
    architectures="those that pretrain builds",
    recognises=_recognises,
    prefer_prefixes=("state_dict.first.backbone.", "model.module.backbone."),
    read_card=_read_card,
    verified="files of this project's pretraining",
)
