"""Generated data sets in the layouts of real ones, for trying the tool out and for tests.

`make_voc` writes a VOC devkit (segmentation, boxes and class lists) from `scene.draw_scene`; the
pictures say nothing about real data, only that a pipeline learns what can be learned.
"""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vicregl_bench.data.scene import MIN_SIDE, Labels, Scene, draw_scene
from vicregl_bench.data.voc import CLASSES, palette
from vicregl_bench.errors import ConfigError, DataError

MARKER = ".vicregl-bench.json"
UNFINISHED = ".vicregl-bench.unfinished.json"
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
    _check_values(train, val, seed, size, classes, year)
    parameters: dict[str, object] = {
        "layout": "voc",
        "version": GENERATOR_VERSION,
        "train": train,
        "val": val,
        "seed": seed,
        "size": list(size),
        "classes": classes,
        "year": year,
    }

    def draw(number: int) -> Scene:
        rng = np.random.default_rng([seed, number])
        return draw_scene(rng, size=size, classes=classes, first=(number - 1) % classes + 1)

    splits = {
        "train": range(1, train + 1),
        "val": range(VAL_OFFSET + 1, VAL_OFFSET + val + 1),
    }

    def write(out: Path) -> None:
        root = out / "VOCdevkit" / f"VOC{year}"
        for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations"):
            (root / folder).mkdir(parents=True)
        truth: dict[str, _Truth] = {}
        for split, numbers in splits.items():
            truth[split] = {}
            for number in numbers:
                name = f"{year}_{number:06d}"
                scene = draw(number)
                write_voc_picture(root, name, scene)
                truth[split][name] = frozenset(item.label for item in scene.instances)
        write_voc_lists(root, truth)

    out = Path(out)
    devkit = out / "VOCdevkit"
    try:
        if not _already_there(out, devkit / f"VOC{year}" / "JPEGImages", parameters, train + val):
            _write_marked(out, parameters, write)
    except OSError as error:
        raise DataError(f"cannot write the generated data into {out}: {error}") from error
    return devkit


def write_voc_picture(root: Path, name: str, scene: Scene) -> None:
    """Write one scene as picture, masks and annotation of a VOC year folder `root`."""
    Image.fromarray(scene.image).save(root / "JPEGImages" / f"{name}.jpg", quality=JPEG_QUALITY)
    _palette_image(scene.labels).save(root / "SegmentationClass" / f"{name}.png")
    _palette_image(scene.objects).save(root / "SegmentationObject" / f"{name}.png")
    annotation = voc_annotation(root.name, name, scene)
    (root / "Annotations" / f"{name}.xml").write_text(annotation, encoding="utf-8", newline="\n")


def voc_annotation(folder: str, name: str, scene: Scene) -> str:
    """Return the VOC XML of a scene: boxes count pixels from 1, both ends included."""
    height, width, depth = scene.image.shape
    annotation = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **values: object) -> None:
        for tag, value in values.items():
            ElementTree.SubElement(parent, tag).text = str(value)

    add(annotation, folder=folder, filename=f"{name}.jpg")
    source = ElementTree.SubElement(annotation, "source")
    add(source, database="vicregl-bench generated", annotation="vicregl-bench", image="generated")
    add(ElementTree.SubElement(annotation, "size"), width=width, height=height, depth=depth)
    add(annotation, segmented=1)
    for item in scene.instances:
        thing = ElementTree.SubElement(annotation, "object")
        add(thing, name=CLASSES[item.label], pose="Unspecified", truncated=int(item.truncated))
        add(thing, occluded=int(item.occluded), difficult=0)
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


def _check_values(
    train: int, val: int, seed: int, size: tuple[int, int], classes: int, year: str
) -> None:
    for what, count in (("train", train), ("val", val)):
        if not 1 <= count < VAL_OFFSET:
            raise ConfigError(f"{what} must be from 1 to {VAL_OFFSET - 1} pictures, not {count}")
    if not 1 <= classes < len(CLASSES):
        raise ConfigError(f"classes must be from 1 to {len(CLASSES) - 1}, not {classes}")
    if min(size) < MIN_SIDE:
        raise ConfigError(f"size {size[0]}x{size[1]} is too small: both at least {MIN_SIDE} pixels")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, is {seed}")
    if not (len(year) == 4 and year.isascii() and year.isdigit()):
        raise ConfigError(f"year must be four digits, as in 2012, not {year!r}")


def _already_there(out: Path, pictures: Path, parameters: Mapping[str, object], count: int) -> bool:
    """Whether `out` holds the finished result; DataError where it holds anything not ours."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out} is a file: choose another --out")
    entries = {path.name for path in out.iterdir()}
    if MARKER in entries:
        if _read_marker(out / MARKER) != parameters:
            raise DataError(
                f"{out} holds data generated with other parameters: choose another --out"
            )
        if not pictures.is_dir() or sum(1 for _ in pictures.glob("*.jpg")) != count:
            raise DataError(
                f"{out} holds generated data that was changed since: remove it or choose another "
                "--out"
            )
        return True
    foreign = sorted(entries - ({UNFINISHED, "VOCdevkit"} if UNFINISHED in entries else set()))
    if foreign:
        raise DataError(f"{out} holds other files ({foreign[0]}): choose another --out")
    return False


def _read_marker(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_marked(
    out: Path, parameters: Mapping[str, object], write: Callable[[Path], None]
) -> None:
    """Call `write(out)` between an unfinished marker and the final one, on a clean folder."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / UNFINISHED
    unfinished.write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8", newline="\n")
    if (out / "VOCdevkit").exists():
        shutil.rmtree(out / "VOCdevkit")
    write(out)
    unfinished.replace(out / MARKER)
