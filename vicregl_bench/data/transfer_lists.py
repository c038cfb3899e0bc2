"""Readers of classification sets whose splits are lists of pictures: CUB-200, Food-101, SUN397.

Reading looks at the lists only, pictures are not opened. `transfer` says what is published of them.
"""

from collections.abc import Mapping
from pathlib import Path

from vicregl_bench.data.classification import ClassificationData
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.split_lists import Published, listed_data
from vicregl_bench.errors import DataError

_CUB_LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")


def read_cub200_lists(data_root: str | Path, published: Published) -> ClassificationData:
    """Read CUB-200-2011: `images/` and the lists beside it, in `data_root` or `CUB_200_2011` there.

    `images.txt`, `image_class_labels.txt` and `train_test_split.txt` have a line a picture, of its
    number and of its path, its class's number in `classes.txt`, and 1 for training.

    Raises:
        DataError: a file is missing, unreadable or malformed, the lists have other pictures,
            or as `listed_data`.
    """
    root = find_root(
        data_root,
        ("CUB_200_2011", "CUB_200_2011/CUB_200_2011"),
        ("images", *_CUB_LISTS),
        "CUB-200-2011",
        "unpack CUB_200_2011.tgz",
    )
    classes, paths, labels, training = (_numbered(root / name) for name in _CUB_LISTS)
    for name, column in zip(_CUB_LISTS[2:], (labels, training), strict=True):
        if column.keys() != paths.keys():
            odd = min(column.keys() ^ paths.keys())
            raise DataError(f"picture {odd} is in one of {root / name} and images.txt only")
    index = {number: label for label, number in enumerate(classes)}
    splits: dict[str, list[tuple[str, int]]] = {"1": [], "0": []}
    for number, path in paths.items():
        label, split = index.get(labels[number]), splits.get(training[number])
        if label is None:
            raise DataError(f"{root / _CUB_LISTS[2]}: class {labels[number]} is not in classes.txt")
        if split is None:
            raise DataError(
                f"{root / _CUB_LISTS[3]}: {training[number]!r} is neither 1 (train) nor 0 (test)"
            )
        split.append((path, label))
    return listed_data(
        published,
        root=root,
        images=root / "images",
        classes=tuple(classes.values()),
        splits={"train": splits["1"], "val": splits["0"]},
    )


def read_food101_lists(data_root: str | Path, published: Published) -> ClassificationData:
    """Read Food-101: `images/CLASS/*.jpg`, `meta/train.txt` and `meta/test.txt`.

    They are in `data_root` or in `food-101` there. A line of a list is a path below `images`
    without its ending. Classes are those of the training list, sorted, as torchvision's.

    Raises:
        DataError: a file is missing, unreadable or malformed, a class is tested on only, or as
            `listed_data`.
    """
    root = find_root(
        data_root,
        ("food-101", "food101"),
        ("images", "meta/train.txt", "meta/test.txt"),
        "Food-101",
        "unpack food-101.tar.gz",
    )
    lists = {name: _lines(root / "meta" / f"{name}.txt") for name in ("train", "test")}
    classes = sorted({line.partition("/")[0] for line in lists["train"] if "/" in line})
    labels = {name: label for label, name in enumerate(classes)}

    def rows(name: str) -> list[tuple[str, int]]:
        path = root / "meta" / f"{name}.txt"
        return [(f"{line}.jpg", _label(line, labels, path)) for line in lists[name]]

    return listed_data(
        published,
        root=root,
        images=root / "images",
        classes=classes,
        splits={"train": rows("train"), "val": rows("test")},
    )


def read_sun397_lists(
    data_root: str | Path, published: Published, *, partition: int = 1
) -> ClassificationData:
    """Read SUN397: the pictures in `SUN397/`, the lists in `Partitions/` beside it.

    Both are in `data_root` or in a folder `SUN397` or `sun397` there. `ClassName.txt` has classes,
    as "/a/abbey", `Training_01.txt` and `Testing_01.txt` have pictures, as "/a/abbey/sun_x.jpg".
    Class names lose their letter, as torchvision's.

    Args:
        data_root: where it is.
        published: what is known of it.
        partition: of the ten.

    Raises:
        DataError: a file is missing, unreadable or malformed, a picture of no class, or as
            `listed_data`.
    """
    train, test = (f"Partitions/{name}_{partition:02d}.txt" for name in ("Training", "Testing"))
    root = find_root(
        data_root,
        ("SUN397", "sun397"),
        ("SUN397", "Partitions/ClassName.txt", train, test),
        "SUN397",
        "unpack SUN397.tar.gz, and Partitions.zip into a folder Partitions beside SUN397",
    )
    folders = _lines(root / "Partitions" / "ClassName.txt")
    labels = {folder.strip("/"): label for label, folder in enumerate(folders)}
    if len(labels) < len(folders):
        raise DataError(f"a class stands twice in {root / 'Partitions' / 'ClassName.txt'}")

    def rows(name: str) -> list[tuple[str, int]]:
        paths = [line.lstrip("/") for line in _lines(root / name)]
        return [(path, _label(path, labels, root / name)) for path in paths]

    return listed_data(
        published,
        root=root,
        images=root / "SUN397",
        classes=[folder.partition("/")[2] for folder in labels],
        splits={"train": rows(train), "val": rows(test)},
    )


def _label(path: str, labels: Mapping[str, int], where: Path) -> int:
    """The label of the class whose folder holds a picture."""
    folder = path.rpartition("/")[0]
    if folder not in labels:
        raise DataError(f"{where}: {path!r} is of no known class; restore the official list")
    return labels[folder]


def _lines(path: Path) -> list[str]:
    """The lines of a list that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"the list {path} is empty; restore the official one")
    return lines


def _numbered(path: Path) -> dict[str, str]:
    """A list of a number and a value a line."""
    found: dict[str, str] = {}
    for line in _lines(path):
        number, _, value = line.partition(" ")
        if not number.isdigit() or not value or number in found:
            raise DataError(
                f"{path}: {line!r} is not a new number and its value; restore the official list"
            )
        found[number] = value
    return found
