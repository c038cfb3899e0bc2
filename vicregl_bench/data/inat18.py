"""INaturalist 2018 (Van Horn et al. 2018) as lists of files: 8,142 species, a class a picture."""

import json
from pathlib import Path
from typing import Any

from vicregl_bench.data.classification import ClassificationData
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.split_lists import Published, listed_data
from vicregl_bench.errors import ConfigError, DataError

IMAGES = "train_val2018"
# README of the competition (visipedia/inat_comp, 2018).
_INAT18 = Published("inat18", "iNaturalist 2018", 8_142, {"train": 437_513, "val": 24_426})


def read_inat18(data_root: str | Path, *, variant: str = "inat18") -> ClassificationData:
    """Read the lists of iNaturalist 2018 as its competition ships it.

    Layout: `train2018.json` and `val2018.json`, with `images`, `annotations` and `categories` as
    COCO's have them and one annotation a picture, and the pictures of both in
    `train_val2018/KINGDOM/CATEGORY/*.jpg`. Classes are in the order of the category ids. Other
    numbers than the published ones are noted.

    Args:
        data_root: holds them, or is the parent of `inat18`, `inat2018` or `iNaturalist18` that
            does.
        variant: "inat18".

    Raises:
        DataError: the tree is incomplete, a JSON is cut off or malformed, both have other
            categories, or a picture stands twice or is of no or two classes.
        ConfigError: another variant.
    """
    if variant != "inat18":
        raise ConfigError(f"unknown iNaturalist variant {variant!r}: there is inat18 alone")
    files = {split: f"{split}2018.json" for split in ("train", "val")}
    root = find_root(
        data_root,
        ("inat18", "inat2018", "iNaturalist18"),
        (*files.values(), IMAGES),
        "iNaturalist 2018",
        "unpack train_val2018.tar.gz, train2018.json.tar.gz and val2018.json.tar.gz in one folder "
        "and give it as data root",
    )
    read = {split: _read(root / file) for split, file in files.items()}
    (_, categories), (_, others) = read.values()
    if categories != others:
        raise DataError(
            f"{root / files['train']} and {files['val']} have other categories: restore both"
        )
    return listed_data(
        _INAT18,
        root=root,
        images=root / IMAGES,
        classes=_names(categories),
        splits={split: rows for split, (rows, _) in read.items()},
    )


def _read(path: Path) -> tuple[list[tuple[str, int]], dict[int, str]]:
    """Paths and labels of a JSON's pictures, and the names of its categories by their ids."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; restore the official file") from error
    try:
        categories = {int(one["id"]): str(one["name"]) for one in content["categories"]}
        labels = {category: label for label, category in enumerate(sorted(categories))}
        classes: dict[int, int] = {}
        for one in content["annotations"]:
            label = labels[one["category_id"]]
            if classes.setdefault(one["image_id"], label) != label:
                raise DataError(f"{path}: image {one['image_id']} is of two classes; restore it")
        rows = [
            (str(one["file_name"]).removeprefix(f"{IMAGES}/"), classes[one["id"]])
            for one in content["images"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no list of pictures, annotations and categories "
            f"({type(error).__name__}: {error}); restore the official file"
        ) from error
    return rows, {category: categories[category] for category in sorted(categories)}


def _names(categories: dict[int, str]) -> list[str]:
    """Names of the classes, with their ids where two have one name."""
    names = list(categories.values())
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({category})" for category, name in categories.items()]
