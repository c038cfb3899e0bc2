"""What a detection data set is: lists of pictures, class names, and how to read what is in one.

`voc_boxes` and `coco` fill it in, `catalog` chooses among them. Lists are read at once, annotations
when asked for, picture by picture.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from vicregl_bench.errors import DataError

Severity = Literal["error", "warning"]
# COCO's own: polygons as [x, y, x, y, ...], or a run-length code {"size": [h, w], "counts": ...}.
Segmentation = list[list[float]] | dict[str, object]


class AnnotationError(DataError):
    """An annotation file, or the part of it that is about one picture, that cannot be used."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{path}: {text}")


@dataclass(frozen=True)
class Picture:
    """One picture of a list and where its annotation is."""

    name: str  # file name without its ending
    id: int | str  # what mmdet calls img_id: the image id of COCO, the name in VOC
    image: Path
    annotation: Path  # its XML, or the JSON of all pictures of the split

    @property
    def files(self) -> tuple[Path, Path]:
        """The picture and its annotation."""
        return self.image, self.annotation


@dataclass(frozen=True)
class Annotations:
    """The N objects of one picture, with the boxes and labels that mmdet reads.

    Boxes are x1, y1, x2, y2 counted from 0. Their ends are what mmdet makes of each source: VOC's
    are the last pixel of the object (`XMLDataset` takes 1 from all four), COCO's lie one beyond it.
    """

    width: int
    height: int
    boxes: npt.NDArray[np.float64]  # (N, 4)
    labels: npt.NDArray[np.int64]  # (N,), from 0; there is no background class
    difficult: npt.NDArray[np.bool_]  # (N,), VOC: trained on; in test neither counted nor punished
    truncated: npt.NDArray[np.bool_]  # (N,), VOC: reaches beyond the picture
    crowd: npt.NDArray[np.bool_]  # (N,), COCO: a region of many, not trained on, not punished
    segmentations: tuple[Segmentation, ...] | None = None  # N, COCO only
    areas: npt.NDArray[np.float64] | None = None  # (N,) pixels, COCO only: the file's own `area`

    @property
    def ignored(self) -> npt.NDArray[np.bool_]:
        """(N,) objects that do not count in test: difficult ones and crowds."""
        return self.difficult | self.crowd


@dataclass(frozen=True)
class Finding:
    """Something wrong with an annotation; an error makes it unusable."""

    severity: Severity
    path: Path
    text: str


class AnnotationReader(Protocol):
    """Reads the annotations of one data set."""

    def read(self, picture: Picture) -> tuple[Annotations | None, list[Finding]]:
        """The objects of a picture, None where an error forbids it, and all that is wrong."""

    def shared(self) -> list[Finding]:
        """What is wrong with files that are about many pictures."""


@dataclass(frozen=True)
class DetectionData:
    """The lists of one detection data set; the files are not known to be sound."""

    name: str  # "voc_boxes" or "coco"
    variant: str
    root: Path  # VOCdevkit, or the folder that holds train2017
    classes: tuple[str, ...]
    train: tuple[Picture, ...]
    val: tuple[Picture, ...]  # what is tested on: VOC's test split, COCO's val2017
    reader: AnnotationReader
    notes: tuple[str, ...]  # every departure from the published set, for the record

    @property
    def splits(self) -> dict[str, tuple[Picture, ...]]:
        """The pictures by split name: `train`, then `val`."""
        return {"train": self.train, "val": self.val}

    def annotations(self, picture: Picture) -> Annotations:
        """Read the objects of one picture.

        Raises AnnotationError (a DataError) that names the file and what is wrong in it.
        """
        content, findings = self.reader.read(picture)
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            raise AnnotationError(errors[0].path, errors[0].text)
        if content is None:
            raise AnnotationError(
                picture.annotation, f"nothing can be read of {picture.name}: run the data check"
            )
        return content


def list_sha256(pictures: Sequence[Picture]) -> str:
    """Sha256 of a list whatever its order: the sorted names, each followed by a newline."""
    text = "".join(f"{name}\n" for name in sorted(picture.name for picture in pictures))
    return hashlib.sha256(text.encode()).hexdigest()


def seeded_share(pictures: Sequence[Picture], percent: int, seed: int = 0) -> tuple[Picture, ...]:
    """The first round(percent * n / 100) pictures, at least 1, by sha256(f"{seed}:{id}").

    In the order given; the same on every machine. Under one seed a smaller share lies in a larger.
    """
    ranked = sorted(
        pictures, key=lambda picture: hashlib.sha256(f"{seed}:{picture.id}".encode()).digest()
    )
    chosen = {picture.id for picture in ranked[: max(1, round(percent * len(pictures) / 100))]}
    return tuple(picture for picture in pictures if picture.id in chosen)


def box_outside(
    box: Sequence[float], low: float, width: float, height: float
) -> Literal["no", "rounding", "yes"]:
    """Whether x1, y1, x2, y2 leave [low, width] x [low, height], and by more than a pixel.

    One pixel is what tools that count from 0 instead of 1, or round, are off by.
    """
    beyond = max(low - box[0], low - box[1], box[2] - width, box[3] - height)
    return "no" if beyond <= 0 else "rounding" if beyond <= 1 else "yes"


def shared_names(train: Sequence[Picture], val: Sequence[Picture]) -> Iterator[Picture]:
    """The pictures of `val` whose name or id is in `train` too."""
    names = {picture.name for picture in train}
    ids = {picture.id for picture in train}
    return (picture for picture in val if picture.name in names or picture.id in ids)


def count_note(title: str, split: str, count: int, published: Mapping[str, int]) -> list[str]:
    """A note where a split has another number of pictures than the published one."""
    if count == published[split]:
        return []
    return [f"{count:,} {split} pictures, {title} has {published[split]:,}"]
