"""What this project's own pretraining leaves, and any file that carries its card inside.

Source: pretrain/export.py.
Files: `backbone.pth` holds `card` and `state_dict` (torchvision's or timm's keys, no prefix);
`model.pth` the same with `first.backbone.` before the keys, and beside it `first.expander.`,
`first.projector.` and, of branches with weights of their own, `second.`; `released.pth` the layout
of VICRegL's full checkpoints.
"""

from pydantic import ValidationError

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.card_fields import CardFields, first_problem
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.errors import CheckpointError

CARD_FORMAT = "vicregl-bench card 1"

_ALWAYS = ("method", "title", "source", "mean", "std", "channel_order", "note", "arch")
"""Fields that every version of the format has."""


def _recognises(contents: Contents) -> bool:
    return contents.card is not None and contents.card.get("format") == CARD_FORMAT


def _read_card(contents: Contents) -> Card:
    """The card inside the file; fields that no card has are left out.

    Raises:
        CheckpointError: a field is missing or has an impossible value.
    """
    held = contents.card or {}
    known = {key: held[key] for key in CardFields.model_fields if key in held}
    try:
        fields = CardFields.model_validate(known).model_dump(exclude_none=True)
    except ValidationError as error:
        raise _damaged(first_problem(error, CardFields.model_fields)) from error
    missing = [key for key in _ALWAYS if key not in fields]
    if missing:
        raise _damaged(f"{missing[0]} is missing")
    return Card(**fields)


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(
        f"the card in the file is damaged ({what}); export the backbone again, or name the method "
        "with --method"
    )


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
