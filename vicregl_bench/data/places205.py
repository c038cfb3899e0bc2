"""Places205 (Zhou et al. 2014) as lists of files: 205 scenes, a class a picture."""

from pathlib import Path

from vicregl_bench.data.classification import ClassificationData
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.split_lists import Published, listed_data
from vicregl_bench.errors import ConfigError, DataError

IMAGES = "data/vision/torralba/deeplearning/images256"
LISTS = "trainvalsplit_places205"
# Zhou et al. 2014, section 4: 100 pictures of each class in val.
_PLACES205 = Published("places205", "Places205", 205, {"train": 2_448_873, "val": 20_500})


def read_places205(data_root: str | Path, *, variant: str = "places205") -> ClassificationData:
    """Read the lists of Places205 as MIT ships it, resized to 256 x 256.

    Layout: `trainvalsplit_places205/train_places205.csv` and `val_places205.csv`, a line
    "a/abbey/gsun_x.jpg 0" a picture, below `data/vision/torralba/deeplearning/images256`.
    A class is named by its folder without the first letter, as in "apartment_building/outdoor".
    Other numbers than the published ones are noted.

    Args:
        data_root: holds both, or is the parent of `places205` or `Places205` that does.
        variant: "places205".

    Raises:
        DataError: the tree is incomplete, a list is unreadable or malformed, has a picture twice or
            a folder with two classes, or leaves out a number between two classes.
        ConfigError: another variant.
    """
    if variant != "places205":
        raise ConfigError(f"unknown Places205 variant {variant!r}: there is places205 alone")
    files = {split: f"{LISTS}/{split}_places205.csv" for split in ("train", "val")}
    root = find_root(
        data_root,
        ("places205", "Places205"),
        (*files.values(), IMAGES),
        "Places205",
        "unpack imagesPlaces205_resize.tar.gz and trainvalsplit_places205.tar.gz in one folder and "
        "give it as data root",
    )
    splits = {split: _rows(root / file) for split, file in files.items()}
    return listed_data(
        _PLACES205,
        root=root,
        images=root / IMAGES,
        classes=_classes(root / LISTS, [row for rows in splits.values() for row in rows]),
        splits=splits,
    )


def _rows(path: Path) -> list[tuple[str, int]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        picture, _, label = line.strip().rpartition(" ")
        folder = picture.lstrip("/").rpartition("/")[0]
        if not folder or not label.isdecimal():
            raise DataError(
                f"line {number} of {path}: {line[:80]!r} is not a picture's path and its class, as "
                "in 'a/abbey/gsun_x.jpg 0'; restore the official list"
            )
        rows.append((picture.lstrip("/"), int(label)))
    return rows


def _classes(lists: Path, rows: list[tuple[str, int]]) -> list[str]:
    """Names of the classes, by the folders of their first pictures."""
    named: dict[int, str] = {}
    for path, label in rows:
        if label not in named:
            folder = path.rpartition("/")[0]
            letter, _, rest = folder.partition("/")
            named[label] = rest if len(letter) == 1 and rest else folder
    if sorted(named) != list(range(len(named))):
        missing = next(label for label in range(len(named)) if label not in named)
        raise DataError(
            f"the lists in {lists} have no picture of class {missing}, but of class {max(named)}: "
            "classes are numbered from 0 on without gaps"
        )
    return [named[label] for label in sorted(named)]
