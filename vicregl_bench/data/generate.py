"""Generated data sets in the layouts of real ones, for trying the tool out and for tests.

`make_voc` writes a VOC devkit (segmentation, boxes and class lists) from `scene.draw_scene`,
`make_voc_boxes` one for detection, `make_cityscapes`, `make_ade20k` and `make_coco` their official
trees, `make_image_folder` a folder a class; the pictures say nothing about real data, only that a
pipeline learns what can be learned.
"""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicregl_bench.data.ade20k import ADE20K_CLASSES
from vicregl_bench.data.cityscapes import CITYSCAPES_CLASSES, TRAIN_IDS
from vicregl_bench.data.coco import CATEGORIES
from vicregl_bench.data.made_folder import fill_once
from vicregl_bench.data.scene import LOOKS, MAX_OBJECTS, MIN_SIDE, Scene, draw_scene
from vicregl_bench.data.segmentation import IGNORE, Labels
from vicregl_bench.data.voc import CLASSES, palette
from vicregl_bench.errors import ConfigError

GENERATOR_VERSION = 1  # raised whenever the same parameters give other files
JPEG_QUALITY = 90
# Val pictures are numbered from here: neither split depends on the size of the other.
VAL_OFFSET = 500_000

_Truth = dict[str, frozenset[int]]  # by picture id: the classes in it


def make_voc(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    classes: int = 6,
    year: str = "2012",
) -> Path:
    """Write a generated VOC devkit into the folder `out`; return its VOCdevkit.

    Layout: VOC devkit 2012 with JPEGImages, SegmentationClass, SegmentationObject (palette PNG,
    255 on borders), Annotations (boxes 1-based, inclusive, of the labelled pixels) and the lists of
    ImageSets/Segmentation and ImageSets/Main. `size` is (width, height); the first `classes` of
    VOC's classes are used and taken in turn, so each is in a split that has that many pictures.

    A picture depends on the seed, its number, the size and the number of classes only, so more
    pictures leave the earlier ones as they are. The same call gives the same bytes under the same
    numpy and Pillow; where `out` already holds its result, nothing is written.

    Raises ConfigError for impossible values, DataError where `out` holds anything else or cannot
    be written.
    """
    _check_values(train, val, seed, size, classes, len(CLASSES) - 1)
    if not (len(year) == 4 and year.isascii() and year.isdigit()):
        raise ConfigError(f"year must be four digits, as in 2012, not {year!r}")
    parameters = _parameters("voc", train, val, seed, size, classes) | {"year": year}

    def write(out: Path) -> None:
        root = out / "VOCdevkit" / f"VOC{year}"
        for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations"):
            (root / folder).mkdir(parents=True)
        truth: dict[str, _Truth] = {}
        for split, numbers in _numbers(train, val).items():
            truth[split] = {}
            for number in numbers:
                name = f"{year}_{number:06d}"
                scene = _draw(seed, number, size, classes)
                write_voc_picture(root, name, scene)
                truth[split][name] = frozenset(item.label for item in scene.instances)
        write_voc_lists(root, truth)

    pictures = f"VOCdevkit/VOC{year}/JPEGImages/*.jpg"
    fill_once(out, parameters, ("VOCdevkit",), {pictures: train + val}, write)
    return Path(out) / "VOCdevkit"


def make_voc_boxes(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    classes: int = 6,
) -> Path:
    """Write generated pictures with boxes as VOC2007 into the folder `out`; return its VOCdevkit.

    Layout: JPEGImages, Annotations, and the lists trainval (the training pictures) and test (the
    others) of ImageSets/Main. Objects partly behind another one are marked difficult. No masks;
    `make_voc` writes those. The rest is as in `make_voc`.

    Raises ConfigError for impossible values, DataError where `out` holds anything else or cannot
    be written.
    """
    _check_values(train, val, seed, size, classes, len(CLASSES) - 1)

    def write(out: Path) -> None:
        root = out / "VOCdevkit" / "VOC2007"
        lists = root / "ImageSets" / "Main"
        for folder in (root / "JPEGImages", root / "Annotations", lists):
            folder.mkdir(parents=True)
        for split, numbers in _numbers(train, val).items():
            for number in numbers:
                scene = _draw(seed, number, size, classes)
                _write_voc_boxes(root, f"{number:06d}", scene, hard=True)
            names = [f"{number:06d}" for number in numbers]
            _write_lines(lists / ("trainval.txt" if split == "train" else "test.txt"), names)

    fill_once(
        out,
        _parameters("voc_boxes", train, val, seed, size, classes),
        ("VOCdevkit",),
        {
            "VOCdevkit/VOC2007/JPEGImages/*.jpg": train + val,
            "VOCdevkit/VOC2007/Annotations/*.xml": train + val,
        },
        write,
    )
    return Path(out) / "VOCdevkit"


# Two cities a train split, as lists have to be read city by city.
_CITIES = {"train": ("eastford", "westford"), "val": ("northford",)}
_BORDER_ID = 4  # labelIds: "static", one of the ids that are ignored


def make_cityscapes(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (128, 64),
    classes: int = len(CITYSCAPES_CLASSES) - 1,
) -> Path:
    """Write generated pictures in the tree of Cityscapes into the folder `out`; return `out`.

    Layout: leftImg8bit and gtFine with labelTrainIds and labelIds that say the same; no
    instanceIds, colours or polygons. The ground is road, borders are void, and objects are of
    `classes` of the other 18 classes, spread evenly. The rest is as in `make_voc`.

    Raises ConfigError for impossible values, DataError where `out` holds anything else or cannot
    be written.
    """
    most = len(CITYSCAPES_CLASSES) - 1
    _check_values(train, val, seed, size, classes, most)
    train_ids = _table([0, *_spread(1, most, classes)], border=IGNORE)
    ids = np.full(256, _BORDER_ID, dtype=np.uint8)  # labelIds by train id
    for label_id, train_id in TRAIN_IDS.items():
        if train_id != IGNORE:
            ids[train_id] = label_id

    def write(out: Path) -> None:
        for split, numbers in _numbers(train, val).items():
            cities = _CITIES[split]
            for city in cities:
                for part in ("leftImg8bit", "gtFine"):
                    (out / part / split / city).mkdir(parents=True)
            for number in numbers:
                city = cities[number % len(cities)]
                name = f"{city}_{number:06d}_000019"
                scene = _draw(seed, number, size, classes)
                labels = train_ids[scene.labels]
                pictures, masks = (out / part / split / city for part in ("leftImg8bit", "gtFine"))
                Image.fromarray(scene.image).save(pictures / f"{name}_leftImg8bit.png")
                Image.fromarray(labels).save(masks / f"{name}_gtFine_labelTrainIds.png")
                Image.fromarray(ids[labels]).save(masks / f"{name}_gtFine_labelIds.png")

    fill_once(
        out,
        _parameters("cityscapes", train, val, seed, size, classes),
        ("leftImg8bit", "gtFine"),
        {"leftImg8bit/*/*/*_leftImg8bit.png": train + val, "gtFine/*/*/*.png": 2 * (train + val)},
        write,
    )
    return Path(out)


def make_ade20k(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    classes: int = len(LOOKS),
) -> Path:
    """Write generated pictures in the tree of ADE20k into `out`; return ADEChallengeData2016.

    The ground is wall (1 in the mask), borders are other (0), and objects are of `classes` of the
    other 149 classes, spread evenly. The rest is as in `make_voc`.

    Raises ConfigError for impossible values, DataError where `out` holds anything else or cannot
    be written.
    """
    _check_values(train, val, seed, size, classes, len(LOOKS))
    values = _table([1, *_spread(2, len(ADE20K_CLASSES), classes)], border=0)
    folders = {"train": "training", "val": "validation"}

    def write(out: Path) -> None:
        root = out / "ADEChallengeData2016"
        for split, numbers in _numbers(train, val).items():
            pictures, masks = (root / part / folders[split] for part in ("images", "annotations"))
            pictures.mkdir(parents=True)
            masks.mkdir(parents=True)
            for number in numbers:
                name = f"ADE_{split}_{number:08d}"
                scene = _draw(seed, number, size, classes)
                picture = Image.fromarray(scene.image)
                picture.save(pictures / f"{name}.jpg", quality=JPEG_QUALITY)
                Image.fromarray(values[scene.labels]).save(masks / f"{name}.png")

    fill_once(
        out,
        _parameters("ade20k", train, val, seed, size, classes),
        ("ADEChallengeData2016",),
        {
            "ADEChallengeData2016/images/*/*.jpg": train + val,
            "ADEChallengeData2016/annotations/*/*.png": train + val,
        },
        write,
    )
    return Path(out) / "ADEChallengeData2016"


def make_coco(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    classes: int = 6,
) -> Path:
    """Write generated pictures with boxes and masks in the tree of COCO 2017; return `out`.

    Objects are of `classes` of the 80 classes, spread evenly, with the outlines of their labelled
    pixels as polygons, through the centres of the outermost ones; `area` counts the pixels. In a
    picture of three or more objects the last is a crowd (`iscrowd`), as an uncompressed run-length
    code. The rest is as in `make_voc`.

    Raises ConfigError for impossible values, DataError where `out` holds anything else or cannot
    be written.
    """
    _check_values(train, val, seed, size, classes, len(LOOKS))
    ids = list(CATEGORIES)
    used = [0, *(ids[label] for label in _spread(0, len(ids) - 1, classes))]  # by scene label

    def write(out: Path) -> None:
        (out / "annotations").mkdir(parents=True)
        for split, numbers in _numbers(train, val).items():
            (out / f"{split}2017").mkdir()
            images: list[dict[str, object]] = []
            annotations: list[dict[str, object]] = []
            for number in numbers:
                scene = _draw(seed, number, size, classes)
                name = f"{number:012d}.jpg"
                picture = Image.fromarray(scene.image)
                picture.save(out / f"{split}2017" / name, quality=JPEG_QUALITY)
                sides = {"height": size[1], "width": size[0]}
                images.append({"file_name": name, **sides, "id": number, "license": 1})
                annotations += coco_annotations(number, scene, used)
            content = {
                "info": {"description": "vicregl-bench generated", "version": GENERATOR_VERSION},
                "licenses": [{"id": 1, "name": "generated", "url": ""}],
                "images": images,
                "annotations": annotations,
                "categories": [
                    {"supercategory": "generated", "id": number, "name": name}
                    for number, name in CATEGORIES.items()
                ],
            }
            path = out / "annotations" / f"instances_{split}2017.json"
            path.write_text(json.dumps(content), encoding="utf-8", newline="\n")

    fill_once(
        out,
        _parameters("coco", train, val, seed, size, classes),
        ("annotations", "train2017", "val2017"),
        {"*2017/*.jpg": train + val, "annotations/instances_*2017.json": 2},
        write,
    )
    return Path(out)


def make_image_folder(
    out: str | Path,
    *,
    train: int,
    val: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    classes: int = 6,
) -> Path:
    """Write generated pictures of one object each as `train/CLASS/*.png` and `val/CLASS/*.png`.

    Classes are the first `classes` of VOC's, taken in turn; a class that no val picture shows has
    no folder there. The rest is as in `make_voc`. Returns `out`.

    Raises ConfigError for impossible values, among them fewer training pictures than classes;
    DataError where `out` holds anything else or cannot be written.
    """
    _check_values(train, val, seed, size, classes, len(LOOKS))
    if train < classes:
        raise ConfigError(f"train must be at least {classes}, a picture a class, not {train}")

    def write(out: Path) -> None:
        for split, numbers in _numbers(train, val).items():
            for number in numbers:
                scene = _draw(seed, number, size, classes, most=1)
                folder = out / split / CLASSES[scene.instances[0].label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(scene.image).save(folder / f"{number:06d}.png")

    fill_once(
        out,
        _parameters("folder", train, val, seed, size, classes),
        ("train", "val"),
        {"train/*/*.png": train, "val/*/*.png": val},
        write,
    )
    return Path(out)


MAKERS: Mapping[str, Callable[..., Path]] = {
    "voc": make_voc,
    "cityscapes": make_cityscapes,
    "ade20k": make_ade20k,
    "voc_boxes": make_voc_boxes,
    "coco": make_coco,
    "folder": make_image_folder,
}
"""Every layout by its name on the command line and in suites; all take train, val and seed."""


def coco_annotations(
    image_id: int, scene: Scene, categories: Sequence[int]
) -> list[dict[str, object]]:
    """Return the COCO annotations of a scene, by `categories` of its labels."""
    annotations: list[dict[str, object]] = []
    for index, item in enumerate(scene.instances, start=1):
        mask = scene.objects == index
        x0, y0, x1, y1 = item.box
        crowd = index == len(scene.instances) >= _CROWD_FROM
        annotations.append(
            {
                "segmentation": _run_lengths(mask) if crowd else _polygons(mask),
                "area": int(mask.sum()),
                "iscrowd": int(crowd),
                "image_id": image_id,
                "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1],
                "category_id": categories[item.label],
                "id": image_id * 100 + index,
            }
        )
    return annotations


_CROWD_FROM = 3  # objects in a picture


def _run_lengths(mask: npt.NDArray[np.bool_]) -> dict[str, object]:
    """COCO's uncompressed code: lengths of runs of 0, 1, 0, ... down the columns."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def _polygons(mask: npt.NDArray[np.bool_]) -> list[list[float]]:
    """The outlines of a mask's parts; of a part with no inside, a rectangle around it."""
    import cv2

    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    polygons: list[list[float]] = []
    for outline in outlines:
        points = outline.reshape(-1, 2)
        if len(points) < 3:
            (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
            corners = [(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1)]
            points = np.array(corners) - 0.5
        polygons.append([float(value) for value in (points + 0.5).ravel()])
    return polygons


def write_voc_picture(root: Path, name: str, scene: Scene) -> None:
    """Write one scene as picture, masks and annotation of a VOC year folder `root`."""
    _palette_image(scene.labels).save(root / "SegmentationClass" / f"{name}.png")
    _palette_image(scene.objects).save(root / "SegmentationObject" / f"{name}.png")
    _write_voc_boxes(root, name, scene, hard=False)


def _write_voc_boxes(root: Path, name: str, scene: Scene, *, hard: bool) -> None:
    Image.fromarray(scene.image).save(root / "JPEGImages" / f"{name}.jpg", quality=JPEG_QUALITY)
    annotation = voc_annotation(root.name, name, scene, hard=hard)
    (root / "Annotations" / f"{name}.xml").write_text(annotation, encoding="utf-8", newline="\n")


def voc_annotation(folder: str, name: str, scene: Scene, *, hard: bool = False) -> str:
    """Return the VOC XML of a scene: boxes count pixels from 1, both ends included.

    With `hard`, occluded objects are difficult; else none is.
    """
    height, width, depth = scene.image.shape
    annotation = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **values: object) -> None:
        for tag, value in values.items():
            ElementTree.SubElement(parent, tag).text = str(value)

    add(annotation, folder=folder, filename=f"{name}.jpg")
    source = ElementTree.SubElement(annotation, "source")
    add(source, database="vicregl-bench generated", annotation="vicregl-bench", image="generated")
    add(ElementTree.SubElement(annotation, "size"), width=width, height=height, depth=depth)
    add(annotation, segmented=int(not hard))
    for item in scene.instances:
        thing = ElementTree.SubElement(annotation, "object")
        add(thing, name=CLASSES[item.label], pose="Unspecified", truncated=int(item.truncated))
        difficult = hard and item.occluded
        add(thing, occluded=int(item.occluded), difficult=int(difficult))
        xmin, ymin, xmax, ymax = (edge + 1 for edge in item.box)
        box = ElementTree.SubElement(thing, "bndbox")
        add(box, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    ElementTree.indent(annotation, "\t")
    return ElementTree.tostring(annotation, encoding="unicode") + "\n"


def write_voc_lists(root: Path, truth: Mapping[str, Mapping[str, frozenset[int]]]) -> None:
    """Write ImageSets of a VOC year folder from the classes in every picture of train and val.

    Main has a list a class with 1 or -1 a picture; 0 ("difficult only") does not occur.
    """
    lists = {**truth, "trainval": {**truth["train"], **truth["val"]}}
    for kind in ("Segmentation", "Main"):
        (root / "ImageSets" / kind).mkdir(parents=True)
        for split, pictures in lists.items():
            _write_lines(root / "ImageSets" / kind / f"{split}.txt", sorted(pictures))
    for label, class_name in enumerate(CLASSES[1:], start=1):
        for split, pictures in lists.items():
            lines = [
                f"{name} {1 if label in found else -1:2d}"
                for name, found in sorted(pictures.items())
            ]
            _write_lines(root / "ImageSets" / "Main" / f"{class_name}_{split}.txt", lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii", newline="\n")


def _palette_image(labels: Labels) -> Image.Image:
    image = Image.fromarray(labels).convert("P")
    image.putpalette(palette().tobytes())
    return image


def _parameters(
    layout: str, train: int, val: int, seed: int, size: tuple[int, int], classes: int
) -> dict[str, object]:
    return {
        "layout": layout,
        "version": GENERATOR_VERSION,
        "train": train,
        "val": val,
        "seed": seed,
        "size": list(size),
        "classes": classes,
    }


def _numbers(train: int, val: int) -> dict[str, range]:
    """The numbers of the pictures by split."""
    return {
        "train": range(1, train + 1),
        "val": range(VAL_OFFSET + 1, VAL_OFFSET + val + 1),
    }


def _draw(
    seed: int, number: int, size: tuple[int, int], classes: int, most: int = MAX_OBJECTS
) -> Scene:
    rng = np.random.default_rng([seed, number])
    first = (number - 1) % classes + 1
    return draw_scene(rng, size=size, classes=classes, first=first, most=most)


def _spread(first: int, last: int, count: int) -> list[int]:
    """`count` numbers from `first` to `last`, both included, as evenly as integers can lie."""
    return [first + i * (last - first) // max(1, count - 1) for i in range(count)]


def _table(values: Sequence[int], border: int) -> Labels:
    """(256,) mask values by scene label: `values` for ground and classes, `border` for 255."""
    table = np.zeros(256, dtype=np.uint8)
    table[: len(values)] = values
    table[IGNORE] = border
    return table


def _check_values(
    train: int, val: int, seed: int, size: tuple[int, int], classes: int, most: int
) -> None:
    for what, count in (("train", train), ("val", val)):
        if not 1 <= count < VAL_OFFSET:
            raise ConfigError(f"{what} must be from 1 to {VAL_OFFSET - 1} pictures, not {count}")
    if not 1 <= classes <= most:
        raise ConfigError(f"classes must be from 1 to {most}, not {classes}")
    if min(size) < MIN_SIDE:
        raise ConfigError(f"size {size[0]}x{size[1]} is too small: both at least {MIN_SIDE} pixels")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, is {seed}")
