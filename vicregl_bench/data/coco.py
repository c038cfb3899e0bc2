"""COCO 2017 as lists of files: 118,287 train and 5,000 val pictures, 80 classes, boxes and masks.

Layout and categories: the official tree and instances_{train,val}2017.json. Boxes are x, y, width,
height in the files, x, y, x + width, y + height here, as in mmdet's `CocoDataset`, whose rules for
what is left out (`_left_out`) hold too. The semi-supervised variants train on 1, 2, 5 or 10 % of
train2017; VICRegL never published its list, so ours is a seeded one.

Reading looks at the list of pictures in each JSON; annotations are parsed at the first picture
asked for (3 GB of memory for train2017) and kept.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vicregl_bench.data.detection import (
    Annotations,
    DetectionData,
    Finding,
    Picture,
    Segmentation,
    box_outside,
    count_note,
    list_sha256,
    seeded_share,
)
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.errors import ConfigError, DataError

COUNTS = {"train": 118_287, "val": 5_000}
PERCENTS = (1, 2, 5, 10)
_FULL = "coco2017"
VARIANTS = (_FULL, *(f"{_FULL}_{percent}pct" for percent in PERCENTS))

# The 80 of the 91 category ids that have objects, in the order of instances_*2017.json.
CATEGORIES: dict[int, str] = {
    **{1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus"},
    **{7: "train", 8: "truck", 9: "boat", 10: "traffic light", 11: "fire hydrant"},
    **{13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat", 18: "dog"},
    **{19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra"},
    **{25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    **{34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite"},
    **{39: "baseball bat", 40: "baseball glove", 41: "skateboard", 42: "surfboard"},
    **{43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife"},
    **{50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange"},
    **{56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut", 61: "cake"},
    **{62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table"},
    **{70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard"},
    **{77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink"},
    **{82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors"},
    **{88: "teddy bear", 89: "hair drier", 90: "toothbrush"},
}
COCO_CLASSES = tuple(CATEGORIES.values())
_LABELS: dict[object, int] = {category: label for label, category in enumerate(CATEGORIES)}

_IMAGES = re.compile(r'"images"\s*:\s*(?=\[)')
_Json = dict[str, Any]


def read_coco_detection(
    data_root: str | Path, *, variant: str = _FULL, fraction: int | None = None, seed: int = 0
) -> DetectionData:
    """Read the lists of COCO 2017.

    Args:
        data_root: holds train2017, val2017 and annotations, or is the parent of a folder `coco`
            that does.
        variant: "coco2017", or "coco2017_10pct" and so on for a share of train2017.
        fraction: the share in percent (1, 2, 5 or 10), another way to say the variant.
        seed: of the share: the pictures first by sha256 of "seed:image id".

    Raises:
        DataError: the tree is incomplete, a JSON is cut off or has no usable list of pictures.
        ConfigError: no such variant or share.
    """
    if fraction is not None and fraction not in PERCENTS:
        raise ConfigError(f"no share of {fraction} % of COCO: use {_or(PERCENTS)}")
    if fraction is not None:
        variant = f"{_FULL}_{fraction}pct"
    if variant not in VARIANTS:
        raise ConfigError(f"unknown COCO variant {variant!r}: use {_or(VARIANTS)}")
    root = find_root(
        data_root,
        ("coco",),
        [item for split in COUNTS for item in (f"{split}2017", _instances(split))],
        "COCO 2017",
        "unpack train2017.zip, val2017.zip and annotations_trainval2017.zip in one folder and give "
        "it as data root",
    )
    files = {split: _InstancesFile(root / _instances(split)) for split in COUNTS}
    train, val = (
        tuple(
            Picture(
                Path(entry["file_name"]).stem,
                entry["id"],
                root / f"{split}2017" / entry["file_name"],
                files[split].path,
            )
            for entry in files[split].images.values()
        )
        for split in COUNTS
    )
    notes = [
        *count_note(_FULL, "train", len(train), COUNTS),
        *count_note(_FULL, "val", len(val), COUNTS),
    ]
    if variant != _FULL:
        percent = PERCENTS[VARIANTS.index(variant) - 1]
        train = seeded_share(train, percent, seed)
        notes.append(
            f"{percent} % of train is a seeded list of our own ({len(train):,} pictures, seed "
            f"{seed}, sha256 {list_sha256(train)}): the paper's was not published"
        )
    return DetectionData(
        name="coco",
        variant=variant,
        root=root,
        classes=COCO_CLASSES,
        train=train,
        val=val,
        reader=CocoReader({item.path: item for item in files.values()}),
        notes=tuple(notes),
    )


def _instances(split: str) -> str:
    return f"annotations/instances_{split}2017.json"


def _or(values: tuple[object, ...]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"


class CocoReader:
    """Reads from the JSON files of all splits."""

    def __init__(self, files: Mapping[Path, "_InstancesFile"]) -> None:
        self._files = files

    def read(self, picture: Picture) -> tuple[Annotations | None, list[Finding]]:
        """The objects of a picture, by the order of the file; crowds are kept and marked.

        Two findings of one kind are two findings; those that concern the whole file are `shared`.
        """
        file = self._files[picture.annotation]
        entry = file.images[picture.id]
        width, height = int(entry["width"]), int(entry["height"])
        if file.content.broken:
            return None, []
        findings: list[Finding] = []
        boxes: list[tuple[float, ...]] = []
        labels: list[int] = []
        crowd: list[bool] = []
        segmentations: list[Segmentation] = []
        areas: list[float] = []
        for annotation in file.content.by_image.get(picture.id, []):
            number = annotation.get("id")
            problem = _malformed(annotation, width, height)
            if problem is not None:
                text = f"annotation {number} of {picture.name}: {problem}"
                findings.append(Finding("error", file.path, text))
                continue
            if _left_out(annotation, width, height):
                text = "an object is empty or marked to be ignored; it is left out, as in mmdet"
                findings.append(Finding("warning", file.path, text))
                continue
            label = _LABELS.get(_hashable(annotation.get("category_id")))
            if label is None:
                continue  # reported as shared
            x, y, w, h = map(float, annotation["bbox"])
            boxes.append((x, y, x + w, y + h))
            labels.append(label)
            crowd.append(bool(annotation.get("iscrowd", 0)))
            segmentations.append(annotation.get("segmentation") or [])
            areas.append(float(annotation["area"]))
        content = Annotations(
            width=width,
            height=height,
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array(labels, dtype=np.int64),
            difficult=np.zeros(len(labels), dtype=bool),
            truncated=np.zeros(len(labels), dtype=bool),
            crowd=np.array(crowd, dtype=bool),
            segmentations=tuple(segmentations),
            areas=np.array(areas, dtype=np.float64),
        )
        return content, findings

    def shared(self) -> list[Finding]:
        """What is wrong with each JSON as a whole, and objects of no known picture or class."""
        return [
            Finding("error", file.path, text)
            for file in self._files.values()
            for text in file.content.problems
        ]


@dataclass
class _Content:
    """The annotations of a JSON, or why there are none."""

    by_image: dict[object, list[_Json]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: bool = False


class _InstancesFile:
    """One instances_*.json: its pictures at once, its annotations when first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = _image_entries(path)

    @cached_property
    def content(self) -> _Content:
        try:
            document = json.loads(_read_text(self.path))
        except ValueError as error:
            problem = f"the JSON is damaged or half-written ({error})"
            return _Content(problems=[problem], broken=True)
        for part in ("annotations", "categories"):
            items = document.get(part)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                return _Content(problems=[f"the JSON has no list of {part}"], broken=True)
        content = _Content(problems=_category_problems(document["categories"]))
        seen: set[object] = set()
        for annotation in document["annotations"]:
            number, image, category = (
                _hashable(annotation.get(key)) for key in ("id", "image_id", "category_id")
            )
            if image not in self.images:
                content.problems.append(f"annotation {number} is of the unknown image {image}")
                continue
            if category not in CATEGORIES:
                content.problems.append(
                    f"annotation {number} is of the unknown category {category}"
                )
            if number in seen:
                content.problems.append(f"the annotation id {number} stands twice")
            seen.add(number)
            content.by_image.setdefault(image, []).append(annotation)
        return content


def _hashable(value: object) -> int | str | float | None:
    return value if value is None or isinstance(value, int | str | float) else repr(value)


def _category_problems(categories: list[_Json]) -> list[str]:
    found = {_hashable(item.get("id")): item.get("name") for item in categories}
    return [
        f"category {number} is {found.get(number)!r}, COCO's is {name!r}"
        for number, name in CATEGORIES.items()
        if found.get(number) != name
    ]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _image_entries(path: Path) -> dict[int | str, _Json]:
    """The list "images" by id; nothing behind it is parsed.

    Raises DataError where the file is cut off, or the list is missing or malformed.
    """
    text = _read_text(path)
    if not text[-64:].rstrip().endswith("}"):
        raise DataError(f"{path} is cut off or no JSON: restore it from the official archive")
    match = _IMAGES.search(text)
    if match is None:
        raise DataError(f'{path} has no list of "images": restore it from the official archive')
    try:
        entries, _ = json.JSONDecoder().raw_decode(text, match.end())
    except ValueError as error:
        raise DataError(f'cannot read the list of "images" of {path}: {error}') from error
    images: dict[int | str, _Json] = {}
    for entry in entries:
        if not _is_image(entry):
            raise DataError(f"{path} has a picture without id, file_name, width and height")
        if entry["id"] in images:
            raise DataError(f"the image id {entry['id']} stands twice in {path}")
        images[entry["id"]] = entry
    if not images:
        raise DataError(f'the list of "images" of {path} is empty')
    return images


def _is_image(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    sizes = [entry.get("width"), entry.get("height")]
    return (
        isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and all(isinstance(side, int) and side > 0 for side in sizes)
    )


def _malformed(annotation: _Json, width: int, height: int) -> str | None:
    """What makes an annotation unusable, or None."""
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f"the box {box} is not four numbers"
    if not _is_number(annotation.get("area")):
        return "there is no area"
    x, y, w, h = box
    if w < 0 or h < 0:
        return f"the box {box} has a negative size"
    if box_outside((x, y, x + w, y + h), 0, width, height) == "yes":
        return f"the box {box} lies outside of the picture of {width}x{height}"
    return _broken_segmentation(
        annotation.get("segmentation"), bool(annotation.get("iscrowd")), width, height
    )


def _left_out(annotation: _Json, width: int, height: int) -> bool:
    """Whether mmdet's `CocoDataset` leaves an object out, the class aside."""
    x, y, w, h = annotation["bbox"]
    inside_w = min(x + w, width) - max(x, 0)
    inside_h = min(y + h, height) - max(y, 0)
    small = inside_w <= 0 or inside_h <= 0 or w < 1 or h < 1 or annotation["area"] <= 0
    return bool(annotation.get("ignore", False)) or small


def _broken_segmentation(value: object, crowd: bool, width: int, height: int) -> str | None:
    if value is None:
        return None  # boxes without masks, as other data sets in this format have
    if isinstance(value, list):
        if crowd:
            return "a crowd's segmentation is a run-length code, not polygons"
        good = value and all(
            isinstance(ring, list)
            and len(ring) >= 6
            and len(ring) % 2 == 0
            and all(map(_is_number, ring))
            for ring in value
        )
        return None if good else "the segmentation is not polygons of three or more points"
    if not isinstance(value, dict):
        return "the segmentation is neither polygons nor a run-length code"
    if value.get("size") != [height, width]:
        return f"the segmentation is of the size {value.get('size')}, not {[height, width]}"
    counts = value.get("counts")
    if isinstance(counts, str):
        return None if counts else "the segmentation's run-length code is empty"
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        return "the segmentation's run-length code is no list of counts"
    if sum(counts) != height * width:
        return f"the segmentation's run-length code covers {sum(counts)} of {height * width} pixels"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
