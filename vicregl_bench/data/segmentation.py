"""What a segmentation data set is: lists of pairs, class names, and what its mask values mean.

`voc`, `cityscapes` and `ade20k` fill it in, `catalog` chooses among them. Every user of labels goes
through `MaskValues`, so that no data set needs a case of its own anywhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicregl_bench.data.reading import DAMAGE
from vicregl_bench.errors import DataError

IGNORE = 255
# Colour of ignored pixels in drawings: 255 in VOC's colour map (VOClabelcolormap.m).
IGNORE_COLOUR = (224, 224, 192)

Labels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pair:
    """One picture and its label mask."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class MaskValues:
    """What the values of a mask file mean."""

    kind: str  # the files' own name for them, such as "labelTrainIds"
    labels: Mapping[int, int]  # value -> label, 255 for ignored; other values are impossible
    text: str  # the possible values in words, as in "VOC has 0 to 20 and 255"
    coloured: bool = False  # whether palette masks are the rule, and their colours tell the class

    @property
    def lookup(self) -> Labels:
        """(256,) labels by value; values that should not occur are ignored."""
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[list(self.labels)] = list(self.labels.values())
        return table


def read_mask(path: str | Path, lookup: Labels) -> Labels:
    """Labels (H, W) of a mask file, by a table of its values.

    Args:
        path: a palette (its indices are read, not its colours) or greyscale picture.
        lookup: (256,) label of each value, `MaskValues.lookup`.

    Raises:
        DataError: the mask cannot be read, or is neither palette (P) nor greyscale (L).
    """
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("P", "L"):
                raise DataError(
                    f"the mask {path} is of mode {mask.mode}: a PNG of class indices is "
                    "needed, `vicregl-bench data check` names all such files"
                )
            values = np.asarray(mask)
    except DAMAGE as error:
        raise DataError(f"cannot read the mask {path}: {error}") from error
    return np.asarray(lookup[values])


@dataclass(frozen=True)
class SegmentationData:
    """The lists of one segmentation data set; the files are not known to be sound."""

    name: str  # "voc", "cityscapes" or "ade20k"
    variant: str
    root: Path  # the folder that holds the official tree's first level
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]  # the official colour of each class
    masks: MaskValues
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    notes: tuple[str, ...]  # every departure from the published set, for the record
    ignore: int = IGNORE

    @property
    def splits(self) -> dict[str, tuple[Pair, ...]]:
        """The pairs by split name: `train`, then `val`."""
        return {"train": self.train, "val": self.val}

    def read_labels(self, pair: Pair) -> Labels:
        """Labels (H, W) of a pair's mask: 0 to classes - 1, 255 for ignored.

        Raises DataError where the mask cannot be read or is neither palette (P) nor greyscale (L).
        """
        return read_mask(pair.mask, self.masks.lookup)

    def colour_map(self) -> npt.NDArray[np.uint8]:
        """(256, 3) colours by label: the classes', VOC's pale yellow for ignored, else black."""
        return colours_by_label(self.palette, self.ignore)


def colours_by_label(palette: Sequence[Colour], ignore: int = IGNORE) -> npt.NDArray[np.uint8]:
    """(256, 3) colours: the classes' own, VOC's pale yellow for ignored, else black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette)] = palette
    colours[ignore] = IGNORE_COLOUR
    return colours


def find_root(
    data_root: str | Path, below: Sequence[str], needed: Sequence[str], what: str, advice: str
) -> Path:
    """Return `data_root`, or the first of its folders `below`, that has all of `needed` in it.

    Raises DataError that names every place looked at and what it lacks.
    """
    looked: list[str] = []
    for place in (Path(data_root), *(Path(data_root) / folder for folder in below)):
        if not place.is_dir():
            looked.append(f"{place} (no such folder)")
            continue
        missing = [item for item in needed if not (place / item).exists()]
        if not missing:
            return place
        looked.append(f"{place} (without {', '.join(missing)})")
    raise DataError(
        f"no {what} data: looked for {', '.join(needed)} in {'; '.join(looked)}; {advice}"
    )


def listing(folder: Path, pattern: str) -> list[Path]:
    """The files of `folder` that match, sorted; hidden ones (macOS's `._x.jpg`) left out."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def require_disjoint(train: Sequence[Pair], val: Sequence[Pair], root: Path) -> None:
    """Raise DataError where a picture of one name is in both splits."""
    both = sorted({pair.name for pair in train} & {pair.name for pair in val})
    if both:
        raise DataError(
            f"{len(both)} pictures of {root} are in both train and val, the first is {both[0]}: "
            "training pictures must not be tested on, restore the official folders"
        )


def count_notes(
    title: str, train: Sequence[Pair], val: Sequence[Pair], published: Mapping[str, int]
) -> tuple[str, ...]:
    """Notes on splits that have another number of pictures than the published ones."""
    return tuple(
        f"{len(pairs):,} {split} pictures, {title} has {published[split]:,}"
        for split, pairs in (("train", train), ("val", val))
        if len(pairs) != published[split]
    )
