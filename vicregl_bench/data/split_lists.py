"""What readers of classification sets by lists of paths with labels share, and published counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vicregl_bench.data.classification import ClassificationData, Labelled
from vicregl_bench.data.detection import count_note
from vicregl_bench.errors import DataError

Rows = Iterable[tuple[str, int]]
"""Paths below the folder of pictures, and labels."""


@dataclass(frozen=True)
class Published:
    """What is known of a data set.

    Attributes:
        name: in settings, of the one variant too.
        title: in papers.
        classes: C.
        counts: pictures of train and val; none where no split of these classes is published.
    """

    name: str
    title: str
    classes: int
    counts: Mapping[str, int]


def listed_data(
    published: Published,
    *,
    root: Path,
    images: Path,
    classes: Sequence[str],
    splits: Mapping[str, Rows],
) -> ClassificationData:
    """A data set in the order of classes, then names; other numbers than the published are noted.

    Args:
        published: what is known of it.
        root: the data root.
        images: the folder that paths are below.
        classes: names.
        splits: `train` and `val`.

    Raises:
        DataError: a split without pictures, a picture that stands twice, or a folder with pictures
            of two classes: the folder is what tells a picture's class in a record's fingerprint.
    """
    of_folder: dict[str, int] = {}
    seen: set[str] = set()
    found: dict[str, tuple[Labelled, ...]] = {}
    for split, rows in splits.items():
        items = []
        for path, label in rows:
            folder, _, file = path.rpartition("/")
            first = of_folder.setdefault(folder, label)
            if first != label:
                raise DataError(
                    f"the lists in {root} have pictures of {classes[first]} and of "
                    f"{classes[label]} in the folder {folder}: restore the official lists"
                )
            name = f"{folder}/{file.rpartition('.')[0] or file}"
            if name in seen:
                raise DataError(
                    f"{path} stands twice in the lists of {root}: restore the official lists"
                )
            seen.add(name)
            items.append(Labelled(name, images / path, label))
        if not items:
            raise DataError(f"the {split} list of {root} has no pictures: restore it")
        found[split] = tuple(sorted(items, key=lambda item: (item.label, item.name)))
    notes = []
    if len(classes) != published.classes:
        notes.append(f"{len(classes):,} classes, {published.title} has {published.classes:,}")
    for split, pictures in found.items():
        notes += count_note(published.title, split, len(pictures), published.counts)
    return ClassificationData(
        name=published.name,
        variant=published.name,
        root=root,
        classes=tuple(classes),
        train=found["train"],
        val=found["val"],
        notes=tuple(notes),
    )
