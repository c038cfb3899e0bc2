"""PASCAL VOC segmentation as lists of files: VOC12aug (10,582 pictures) and plain VOC12 (1,464).

Layout and colour map: VOC devkit 2012. The augmented train list is mmsegmentation's
(`pascal_voc12_aug.py`): ids of `train.txt` keep their `SegmentationClass` masks, all others come
from `SegmentationClassAug`. Reading looks at lists only; `check` looks at the files.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vicregl_bench.data.segmentation import (
    IGNORE,
    Colour,
    MaskValues,
    Pair,
    SegmentationData,
    find_root,
    listing,
)
from vicregl_bench.errors import ConfigError, DataError

CLASSES: tuple[str, ...] = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
MASKS = MaskValues(
    kind="class indices",
    labels={**{label: label for label in range(len(CLASSES))}, IGNORE: IGNORE},
    text="VOC has 0 to 20 and 255",
    coloured=True,
)
# Pictures of each published list: the VOC2012 devkit, and mmsegmentation for VOC12aug.
TRAIN_COUNT = {"voc12aug": 10_582, "voc12": 1_464}
VAL_COUNT = 1_449

_LISTS = "ImageSets/Segmentation"
_TRAIN_LIST = f"{_LISTS}/train.txt"
_VAL_LIST = f"{_LISTS}/val.txt"
_NEEDED = ("JPEGImages", "SegmentationClass", _TRAIN_LIST, _VAL_LIST)
_AUG_MASKS = "SegmentationClassAug"
_AUG_LISTS = (f"{_LISTS}/trainaug.txt", f"{_LISTS}/aug.txt")


def palette() -> npt.NDArray[np.uint8]:
    """Return the VOC colour map, (256, 3): bit j of R, G, B is bit 3j, 3j+1, 3j+2 of the label.

    The most significant bit comes first (`VOClabelcolormap.m` of the devkit), so label 1 is
    (128, 0, 0) and 255 is (224, 224, 192).
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            value = (labels >> (3 * bit + channel)) & 1
            colours[:, channel] |= (value << (7 - bit)).astype(np.uint8)
    return colours


def class_colours() -> tuple[Colour, ...]:
    """The palette's colours of the classes."""
    return tuple((int(r), int(g), int(b)) for r, g, b in palette()[: len(CLASSES)])


def read_voc_segmentation(data_root: str | Path, *, variant: str = "voc12aug") -> SegmentationData:
    """Read the lists of a VOC2012 segmentation set.

    `data_root` is VOCdevkit, the VOC2012 folder in it, or the parent of VOCdevkit. Without
    `SegmentationClassAug` the answer is `voc12` even where `voc12aug` was asked for, and a note
    says so. Counts other than the published ones (10,582 or 1,464 train, 1,449 val) are noted too.

    Raises DataError where no such set is found, a list is empty or unreadable, an id stands twice
    in a list, or an id is in train.txt and val.txt; ConfigError for an unknown variant.
    """
    if variant not in TRAIN_COUNT:
        raise ConfigError(
            f"unknown VOC variant {variant!r}: choose one of {', '.join(TRAIN_COUNT)}"
        )
    root = find_root(
        data_root,
        ("VOC2012", "VOCdevkit/VOC2012"),
        _NEEDED,
        "VOC2012 segmentation",
        "give VOCdevkit, the VOC2012 folder in it, or the parent of VOCdevkit as data root",
    )
    train_ids = read_list(root / _TRAIN_LIST)
    val_ids = read_list(root / _VAL_LIST)
    shared = sorted(set(train_ids) & set(val_ids))
    if shared:
        raise DataError(
            f"{len(shared)} ids are in both {_TRAIN_LIST} and {_VAL_LIST} of {root}, the first is "
            f"{shared[0]}: training pictures must not be tested on, restore the devkit's lists"
        )

    notes: list[str] = []
    train = _pairs(root, train_ids, "SegmentationClass")
    found = variant
    if variant == "voc12aug":
        if (root / _AUG_MASKS).is_dir():
            known = {*train_ids, *val_ids}
            extra = [name for name in _augmented_ids(root) if name not in known]
            train += _pairs(root, extra, _AUG_MASKS)
        else:
            found = "voc12"
            notes.append(
                f"voc12 ({len(train)} train) in place of voc12aug: no {_AUG_MASKS} in the data root"
            )
    if len(train) != TRAIN_COUNT[found]:
        notes.append(f"{len(train)} train pictures, {found} has {TRAIN_COUNT[found]}")
    if len(val_ids) != VAL_COUNT:
        notes.append(f"{len(val_ids)} val pictures, {found} has {VAL_COUNT}")
    return SegmentationData(
        name="voc",
        variant=found,
        root=root,
        classes=CLASSES,
        palette=class_colours(),
        masks=MASKS,
        train=train,
        val=_pairs(root, val_ids, "SegmentationClass"),
        notes=tuple(notes),
    )


def read_list(path: Path) -> list[str]:
    """Read the ids of an image set: the first word a line, a path in its place reduced to its stem.

    (DeepLab's trainaug.txt has `/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png` lines.)
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    words = [line.split()[0] for line in lines if line.strip()]
    ids = [PurePosixPath(word).stem if "/" in word else word for word in words]
    if not ids:
        raise DataError(f"the list {path} is empty: restore it from the devkit")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{name} stands twice in the list {path}: remove the second line")
        seen.add(name)
    return ids


def _augmented_ids(root: Path) -> list[str]:
    for item in _AUG_LISTS:
        if (root / item).is_file():
            return read_list(root / item)
    ids = [path.stem for path in listing(root / _AUG_MASKS, "*.png")]
    if not ids:
        raise DataError(
            f"{root / _AUG_MASKS} holds no PNG masks: fill it or ask for the variant voc12"
        )
    return ids


def _pairs(root: Path, ids: Sequence[str], masks: str) -> tuple[Pair, ...]:
    pictures, labels = root / "JPEGImages", root / masks
    return tuple(Pair(name, pictures / f"{name}.jpg", labels / f"{name}.png") for name in ids)
