"""PASCAL VOC boxes as lists of files: train on VOC2007 and VOC2012 trainval, test on VOC2007 test.

Layout: VOC devkits 2007 and 2012. In the XML files a box counts pixels from 1, both ends included;
here it is mmdet's (`XMLDataset`, minus_one): 1 is taken from all four numbers, so boxes count from
0 and still end on their last pixel. (detectron2 takes 1 from xmin and ymin only.) Reading looks at
lists only; XML is parsed picture by picture.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from vicregl_bench.data.detection import (
    Annotations,
    DetectionData,
    Finding,
    Picture,
    box_outside,
    count_note,
)
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.voc import CLASSES, read_list
from vicregl_bench.errors import ConfigError

BOX_CLASSES = CLASSES[1:]
# Pictures of each published list: VOC2007 5,011 trainval and 4,952 test, VOC2012 11,540 trainval.
COUNTS = {
    "voc0712": {"train": 16_551, "test": 4_952},
    "voc07": {"train": 5_011, "test": 4_952},
}

_TRAINVAL = "ImageSets/Main/trainval.txt"
_TEST = "ImageSets/Main/test.txt"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc_detection(data_root: str | Path, *, variant: str = "voc0712") -> DetectionData:
    """Read the lists of VOC boxes: `voc0712` (trainval of both years) or `voc07`.

    `data_root` is VOCdevkit, its parent, or the VOC2007 folder in it; VOC2012 is looked for beside
    VOC2007. Without it the answer is `voc07` even where `voc0712` was asked for, and a note says
    so. Counts other than the published ones are noted too. A picture in both splits is left to the
    check.

    Raises DataError where no such set is found, a list is empty or unreadable, or an id stands
    twice in a list; ConfigError for an unknown variant.
    """
    if variant not in COUNTS:
        raise ConfigError(f"unknown VOC variant {variant!r}: choose one of {', '.join(COUNTS)}")
    year07 = find_root(
        data_root,
        ("VOC2007", "VOCdevkit/VOC2007"),
        ("JPEGImages", "Annotations", _TRAINVAL, _TEST),
        "VOC2007 detection",
        "unpack VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar in one folder and give "
        "VOCdevkit, its parent, or the VOC2007 folder in it as data root",
    )
    devkit = year07.parent if year07.name == "VOC2007" else year07.resolve().parent
    year12 = devkit / "VOC2012"
    train = _pictures(year07, _TRAINVAL)
    notes: list[str] = []
    found = variant
    if variant == "voc0712":
        if (year12 / _TRAINVAL).is_file():
            train += _pictures(year12, _TRAINVAL)
        else:
            found = "voc07"
            notes.append(
                f"voc07 ({len(train):,} train) in place of voc0712: no VOC2012/{_TRAINVAL} beside "
                "VOC2007"
            )
    test = _pictures(year07, _TEST)
    for split, pictures in (("train", train), ("test", test)):
        notes += count_note(found, split, len(pictures), COUNTS[found])
    return DetectionData(
        name="voc_boxes",
        variant=found,
        root=devkit,
        classes=BOX_CLASSES,
        train=train,
        val=test,
        reader=VocReader(),
        notes=tuple(notes),
    )


class VocReader:
    """Reads one XML a picture."""

    def read(self, picture: Picture) -> tuple[Annotations | None, list[Finding]]:
        """The objects of a picture, in the file's order; difficult ones are kept and marked."""
        path = picture.annotation
        findings: list[Finding] = []
        try:
            root = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            return None, [Finding("error", path, "the annotation is missing")]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            text = f"the annotation is half-written or no XML ({error})"
            return None, [Finding("error", path, text)]
        try:
            width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
        except ValueError as error:
            return None, [Finding("error", path, f"the annotation has no usable size ({error})")]
        boxes: list[list[float]] = []
        labels: list[int] = []
        flags: list[tuple[bool, bool]] = []
        for number, thing in enumerate(root.findall("object"), start=1):
            try:
                name = _text(thing, "name")
                # the cut to integers is mmdet's: some boxes of VOC2011 and VOC2012 have fractions
                edges = [int(float(_text(thing, f"bndbox/{edge}"))) for edge in _EDGES]
                flag = _flag(thing, "difficult"), _flag(thing, "truncated")
            except (ValueError, OverflowError) as error:
                text = f"object {number} is malformed ({error})"
                findings.append(Finding("error", path, text))
                continue
            if name not in BOX_CLASSES:
                text = f"object {number} is of the unknown class {name!r}, VOC has 20"
                findings.append(Finding("error", path, text))
                continue
            findings += _box_findings(path, number, edges, width, height)
            boxes.append([edge - 1 for edge in edges])
            labels.append(BOX_CLASSES.index(name))
            flags.append(flag)
        marks = np.array(flags, dtype=bool).reshape(-1, 2)
        content = Annotations(
            width=width,
            height=height,
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array(labels, dtype=np.int64),
            difficult=marks[:, 0],
            truncated=marks[:, 1],
            crowd=np.zeros(len(labels), dtype=bool),
        )
        return content, findings

    def shared(self) -> list[Finding]:
        """Nothing: every file is about one picture."""
        return []


def _box_findings(
    path: Path, number: int, edges: list[int], width: int, height: int
) -> list[Finding]:
    shown = f"object {number}'s box {', '.join(map(str, edges))}"
    if edges[2] < edges[0] or edges[3] < edges[1]:
        return [Finding("error", path, f"{shown} is empty: xmin, ymin, xmax, ymax are needed")]
    outside = box_outside(edges, 1, width, height)
    if outside == "yes":
        text = f"{shown} lies outside of the picture of {width}x{height}"
        return [Finding("error", path, text)]
    if outside == "rounding":
        text = "a box is a pixel outside of its picture: VOC counts from 1"
        return [Finding("warning", path, text)]
    if edges[2] == edges[0] or edges[3] == edges[1]:
        text = "a box is one pixel wide or high, which mmdet takes for empty"
        return [Finding("warning", path, text)]
    return []


def _text(parent: ElementTree.Element, path: str) -> str:
    text = parent.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"no <{path}>")
    return text.strip()


def _flag(thing: ElementTree.Element, name: str) -> bool:
    """A flag that is 0 where it is not given."""
    return bool(int(thing.findtext(name) or 0))


def _pictures(root: Path, item: str) -> tuple[Picture, ...]:
    pictures, annotations = root / "JPEGImages", root / "Annotations"
    return tuple(
        Picture(name, name, pictures / f"{name}.jpg", annotations / f"{name}.xml")
        for name in read_list(root / item)
    )
