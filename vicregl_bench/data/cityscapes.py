"""Cityscapes with fine annotations as lists of files: 2,975 train and 500 val pictures, 19 classes.

Layout, ids, train ids and colours: Cordts et al. 2016 and `cityscapesscripts/helpers/labels.py`.
The official download holds `labelIds` masks only; `labelTrainIds` ones are made from it by
cityscapesscripts. Where those are absent, ids become train ids while reading, and nothing is
written. Reading looks at folders only; `check` looks at the files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vicregl_bench.data.segmentation import (
    IGNORE,
    Colour,
    MaskValues,
    Pair,
    SegmentationData,
    count_notes,
    find_root,
    listing,
    require_disjoint,
)
from vicregl_bench.errors import ConfigError, DataError

VARIANTS = ("fine",)
COUNTS = {"train": 2_975, "val": 500}


class _Class(NamedTuple):
    name: str
    id: int  # in labelIds; the train id is the place in the list
    colour: Colour


_TABLE = (
    _Class("road", 7, (128, 64, 128)),
    _Class("sidewalk", 8, (244, 35, 232)),
    _Class("building", 11, (70, 70, 70)),
    _Class("wall", 12, (102, 102, 156)),
    _Class("fence", 13, (190, 153, 153)),
    _Class("pole", 17, (153, 153, 153)),
    _Class("traffic light", 19, (250, 170, 30)),
    _Class("traffic sign", 20, (220, 220, 0)),
    _Class("vegetation", 21, (107, 142, 35)),
    _Class("terrain", 22, (152, 251, 152)),
    _Class("sky", 23, (70, 130, 180)),
    _Class("person", 24, (220, 20, 60)),
    _Class("rider", 25, (255, 0, 0)),
    _Class("car", 26, (0, 0, 142)),
    _Class("truck", 27, (0, 0, 70)),
    _Class("bus", 28, (0, 60, 100)),
    _Class("train", 31, (0, 80, 100)),
    _Class("motorcycle", 32, (0, 0, 230)),
    _Class("bicycle", 33, (119, 11, 32)),
)
CITYSCAPES_CLASSES = tuple(item.name for item in _TABLE)
CITYSCAPES_PALETTE = tuple(item.colour for item in _TABLE)
# The 34 ids of labels.py; the void ones and those rarely seen (parking, bridge, ...) are ignored.
# License plates (id -1) are never drawn.
TRAIN_IDS: dict[int, int] = {
    **dict.fromkeys(range(34), IGNORE),
    **{item.id: train_id for train_id, item in enumerate(_TABLE)},
}
LABEL_TRAIN_IDS = MaskValues(
    kind="labelTrainIds",
    labels={**{label: label for label in range(len(_TABLE))}, IGNORE: IGNORE},
    text="labelTrainIds are 0 to 18 and 255",
)
LABEL_IDS = MaskValues(kind="labelIds", labels=TRAIN_IDS, text="labelIds are 0 to 33")

_PICTURES, _MASKS = "leftImg8bit", "gtFine"
_PICTURE_END = "_leftImg8bit.png"


def read_cityscapes(data_root: str | Path, *, variant: str = "fine") -> SegmentationData:
    """Read the lists of Cityscapes, in the order of city and name.

    `data_root` holds leftImg8bit and gtFine, or is the parent of a folder `cityscapes` that does.
    Masks are labelTrainIds where every picture has one, else labelIds where every picture has one,
    else the more frequent kind (the check then names what is missing). Counts other than 2,975 and
    500 are noted.

    Raises DataError where the tree is incomplete, a split has no pictures, there is no mask of
    either kind, or a picture is in both splits; ConfigError for an unknown variant.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"unknown Cityscapes variant {variant!r}: use {', '.join(VARIANTS)}")
    root = find_root(
        data_root,
        ("cityscapes",),
        [f"{part}/{split}" for part in (_PICTURES, _MASKS) for split in COUNTS],
        "Cityscapes",
        "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip side by side and give the "
        "folder that holds both as data root",
    )
    pictures = {split: _pictures(root, split) for split in COUNTS}
    masks = _mask_values(root, [path for paths in pictures.values() for path in paths])
    train, val = (
        tuple(
            Pair(_stem(path), path, root / _MASKS / split / path.parent.name / _mask(path, masks))
            for path in paths
        )
        for split, paths in pictures.items()
    )
    require_disjoint(train, val, root)
    return SegmentationData(
        name="cityscapes",
        variant=variant,
        root=root,
        classes=CITYSCAPES_CLASSES,
        palette=CITYSCAPES_PALETTE,
        masks=masks,
        train=train,
        val=val,
        notes=count_notes("Cityscapes", train, val, COUNTS),
    )


def _pictures(root: Path, split: str) -> list[Path]:
    paths = listing(root / _PICTURES / split, f"*/*{_PICTURE_END}")
    if not paths:
        raise DataError(
            f"{root / _PICTURES / split} holds no CITY/*{_PICTURE_END}: unpack "
            "leftImg8bit_trainvaltest.zip there"
        )
    return paths


def _mask_values(root: Path, pictures: Sequence[Path]) -> MaskValues:
    """The kind of masks that all pictures have, labelTrainIds first, or else that most have."""
    names = {path.name for split in COUNTS for path in listing(root / _MASKS / split, "*/*.png")}
    have = {
        kind.kind: sum(_mask(path, kind) in names for path in pictures)
        for kind in (LABEL_TRAIN_IDS, LABEL_IDS)
    }
    if not any(have.values()):
        raise DataError(
            f"{root / _MASKS} has neither _gtFine_labelTrainIds.png nor _gtFine_labelIds.png for "
            "any picture: unpack gtFine_trainvaltest.zip there"
        )
    return LABEL_TRAIN_IDS if have["labelTrainIds"] >= have["labelIds"] else LABEL_IDS


def _stem(picture: Path) -> str:
    return picture.name.removesuffix(_PICTURE_END)


def _mask(picture: Path, masks: MaskValues) -> str:
    return f"{_stem(picture)}_gtFine_{masks.kind}.png"
