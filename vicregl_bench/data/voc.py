"""PASCAL VOC segmentation as lists of files: VOC12aug (10,582 pictures) and plain VOC12 (1,464).

Layout and colour map: VOC devkit 2012. The augmented train list is mmsegmentation's
(`pascal_voc12_aug.py`): ids of `train.txt` keep their `SegmentationClass` masks, all others come
from `SegmentationClassAug`. Reading looks at lists only; `check` looks at the files.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

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
IGNORE = 255

Variant = Literal["voc12aug", "voc12"]
# Pictures of each published list: the VOC2012 devkit, and mmsegmentation for VOC12aug.
TRAIN_COUNT: dict[Variant, int] = {"voc12aug": 10_582, "voc12": 1_464}
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


@dataclass(frozen=True)
class Pair:
    """One picture and its label mask."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class VocSegmentation:
    """The lists of one VOC segmentation set; the files are not known to exist."""

    root: Path  # the folder that holds JPEGImages
    variant: Variant
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    notes: tuple[str, ...]  # every departure from the published set, for the record

    @property
    def splits(self) -> dict[str, tuple[Pair, ...]]:
        """The pairs by split name: `train`, then `val`."""
        return {"train": self.train, "val": self.val}


def read_voc_segmentation(
    data_root: str | Path, *, variant: Variant = "voc12aug"
) -> VocSegmentation:
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
    root = _find_root(Path(data_root))
    train_ids = _read_list(root / _TRAIN_LIST)
    val_ids = _read_list(root / _VAL_LIST)
    shared = sorted(set(train_ids) & set(val_ids))
    if shared:
        raise DataError(
            f"{len(shared)} ids are in both {_TRAIN_LIST} and {_VAL_LIST} of {root}, the first is "
            f"{shared[0]}: training pictures must not be tested on, restore the devkit's lists"
        )

    notes: list[str] = []
    train = _pairs(root, train_ids, "SegmentationClass")
    found: Variant = variant
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
    return VocSegmentation(
        root, found, train, _pairs(root, val_ids, "SegmentationClass"), tuple(notes)
    )


def split_holdout(
    pairs: Sequence[Pair], share: float = 0.1, seed: int = 0
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Hold out a seeded slice of `pairs`; return (kept, held), both in the order given.

    The slice is the first round(share * n) names, at least 1 and at most n - 1, in the order of
    sha256(f"{seed}:{name}"): the same on every machine and under every library version.

    Raises DataError for fewer than 2 pairs, ConfigError for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ConfigError(f"hold-out share {share} is not between 0 and 1")
    if len(pairs) < 2:
        raise DataError(f"cannot hold out a slice of {len(pairs)} pictures: at least 2 are needed")
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.name}".encode()).digest())
    count = min(max(1, round(share * len(pairs))), len(pairs) - 1)
    held_names = {pair.name for pair in ranked[:count]}
    kept = tuple(pair for pair in pairs if pair.name not in held_names)
    held = tuple(pair for pair in pairs if pair.name in held_names)
    return kept, held


def _find_root(data_root: Path) -> Path:
    looked: list[str] = []
    for place in (data_root, data_root / "VOC2012", data_root / "VOCdevkit" / "VOC2012"):
        if not place.is_dir():
            looked.append(f"{place} (no such folder)")
            continue
        missing = [item for item in _NEEDED if not (place / item).exists()]
        if not missing:
            return place
        looked.append(f"{place} (without {', '.join(missing)})")
    raise DataError(
        f"no VOC2012 segmentation data: looked for {', '.join(_NEEDED)} in {'; '.join(looked)}; "
        "give VOCdevkit, the VOC2012 folder in it, or the parent of VOCdevkit as data root"
    )


def _read_list(path: Path) -> list[str]:
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
            return _read_list(root / item)
    ids = sorted(path.stem for path in (root / _AUG_MASKS).glob("*.png"))
    if not ids:
        raise DataError(
            f"{root / _AUG_MASKS} holds no PNG masks: fill it or ask for the variant voc12"
        )
    return ids


def _pairs(root: Path, ids: Sequence[str], masks: str) -> tuple[Pair, ...]:
    pictures, labels = root / "JPEGImages", root / masks
    return tuple(Pair(name, pictures / f"{name}.jpg", labels / f"{name}.png") for name in ids)
