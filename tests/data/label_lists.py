"""Made-up trees of data sets whose classes are in lists: Places205 and iNaturalist 2018."""

import json
import shutil
from pathlib import Path

from vicregl_bench.data import make_image_folder
from vicregl_bench.data.classification import ClassificationData, read_folder


def make_places205(root: Path, *, train: int = 18, val: int = 12, seed: int = 0) -> Path:
    """Six scenes of made-up pictures, where MIT's archives have theirs."""
    data = _pictures(root, train, val, seed)
    images = root / "data/vision/torralba/deeplearning/images256"
    lists = root / "trainvalsplit_places205"
    lists.mkdir(parents=True)
    for split, items in data.splits.items():
        rows = []
        for item in items:
            scene = data.classes[item.label]
            path = f"{scene[0]}/{scene}/{split}_{item.image.name}"
            _copy(item.image, images / path)
            rows.append(f"{path} {item.label}\n")
        (lists / f"{split}_places205.csv").write_text("".join(reversed(rows)))
    shutil.rmtree(data.root)
    return root


def make_inat18(root: Path, *, train: int = 18, val: int = 12, seed: int = 0) -> Path:
    """Six species of made-up pictures, where the competition's archives have theirs."""
    data = _pictures(root, train, val, seed)
    ids = [10 * label + 3 for label in range(len(data.classes))]
    categories = [
        {"id": category, "name": name, "supercategory": "Aves"}
        for category, name in zip(ids, data.classes, strict=True)
    ]
    number = 0
    for split, items in data.splits.items():
        images, annotations = [], []
        for item in items:
            number += 1
            category = ids[item.label]
            path = f"train_val2018/Aves/{category}/{number:08x}{item.image.suffix}"
            _copy(item.image, root / path)
            images.append({"id": number, "file_name": path, "width": 72, "height": 64})
            annotations.append({"id": number, "image_id": number, "category_id": category})
        content = {
            "images": images,
            "annotations": annotations[::-1],
            "categories": categories[::-1],
        }
        (root / f"{split}2018.json").write_text(json.dumps(content))
    shutil.rmtree(data.root)
    return root


def _pictures(root: Path, train: int, val: int, seed: int) -> ClassificationData:
    root.mkdir(parents=True, exist_ok=True)
    return read_folder(
        make_image_folder(root / "made", train=train, val=val, seed=seed, size=(72, 64))
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
