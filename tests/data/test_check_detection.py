import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.test_check import truncate
from vicregl_bench.data import DetectionData, Picture, check_detection, read_detection


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_edge(path: Path, edge: str, value: object) -> None:
    head, tail = path.read_text().split(f"<{edge}>", 1)
    path.write_text(f"{head}<{edge}>{value}{tail[tail.index('<') :]}")


def crop(path: Path) -> None:
    image = Image.open(path)
    image.crop((0, 0, 79, 64)).save(path)


def again(dataset: DetectionData) -> DetectionData:
    """The data set read anew, as the JSON of COCO is kept."""
    return read_detection(dataset.name, dataset.root)


@pytest.mark.parametrize("name", ["voc_boxes", "coco"])
def test_sound_sets(name: str, voc_boxes: DetectionData, coco: DetectionData) -> None:
    dataset = {"voc_boxes": voc_boxes, "coco": coco}[name]
    calls: list[tuple[int, int]] = []
    report = check_detection(
        dataset, on_progress=lambda done, total: calls.append((done, total)), workers=2
    )
    total = len(dataset.train) + len(dataset.val)
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert report.ok
    assert len(report.warnings) == 1  # classes absent in val
    assert "no AP for these" in report.warnings[0].text
    for split, pictures in dataset.splits.items():
        found = [dataset.annotations(picture) for picture in pictures]
        counted = [item.labels[~item.ignored].tolist() for item in found]
        for label in range(len(dataset.classes)):
            assert report.objects[split][label] == sum(row.count(label) for row in counted)
            assert report.pictures[split][label] == sum(label in row for row in counted)
        assert report.ignored[split] == sum(int(item.ignored.sum()) for item in found)
        assert report.empty[split] == 0
    content = json.loads(json.dumps(report.to_json()))
    assert content == report.to_json()
    assert (content["ok"], content["dataset"]) == (True, name)


def errors_of(dataset: DetectionData) -> list[tuple[str, str]]:
    return [(problem.file, problem.text) for problem in check_detection(dataset).errors]


@pytest.mark.parametrize(
    ("damage", "file", "text"),
    [
        (lambda p: p.image.unlink(), "image", "the picture is missing"),
        (lambda p: truncate(p.image), "image", "the picture is truncated or cannot"),
        (lambda p: p.annotation.unlink(), "annotation", "the annotation is missing"),
        (
            lambda p: truncate(p.annotation),
            "annotation",
            "half-written or no XML (no element found: line",
        ),
        (
            lambda p: p.annotation.write_text(""),
            "annotation",
            "half-written or no XML (no element found: line 1",
        ),
        (lambda p: p.annotation.write_bytes(b"\xff\xfe\x00"), "annotation", "no XML"),
        (
            lambda p: p.annotation.write_text("<html/>"),
            "annotation",
            "the annotation has no usable size (no <size/width>)",
        ),
        (
            lambda p: swap(p.annotation, "<difficult>0<", "<difficult>no<"),
            "annotation",
            "object 1 is malformed (invalid literal",
        ),
        (
            lambda p: (
                swap(p.annotation, "<xmin>", "<left>") or swap(p.annotation, "</xmin>", "</left>")
            ),
            "annotation",
            "object 1 is malformed (no <bndbox/xmin>)",
        ),
        (
            lambda p: set_edge(p.annotation, "xmin", "inf"),
            "annotation",
            "object 1 is malformed (cannot convert float infinity",
        ),
        (
            lambda p: set_edge(p.annotation, "name", "dragon"),
            "annotation",
            "object 1 is of the unknown class 'dragon', VOC has 20",
        ),
        (lambda p: set_edge(p.annotation, "xmax", 82), "annotation", "82, "),
        (
            lambda p: set_edge(p.annotation, "ymin", -1),
            "annotation",
            "lies outside of the picture",
        ),
        (lambda p: set_edge(p.annotation, "xmax", 1), "annotation", "is empty: xmin, ymin, xmax"),
        (
            lambda p: crop(p.image),
            "annotation",
            "000002.jpg is for 80x64, the picture 79x64",
        ),
    ],
)
def test_one_error_in_voc(
    voc_boxes: DetectionData, damage: Callable[[Picture], Any], file: str, text: str
) -> None:
    picture = voc_boxes.train[1]
    damage(picture)
    path: Path = getattr(picture, file)
    [(named, said)] = errors_of(voc_boxes)
    assert named == path.relative_to(voc_boxes.root).as_posix()
    assert text in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("edge", "value", "text"),
    [
        ("xmax", 81, "a box is a pixel outside of its picture: VOC counts from 1"),
        ("ymin", 0, "a box is a pixel outside of its picture: VOC counts from 1"),
    ],
)
def test_a_pixel_is_a_warning(voc_boxes: DetectionData, edge: str, value: int, text: str) -> None:
    before = check_detection(voc_boxes)
    for picture in voc_boxes.train[:2]:
        set_edge(picture.annotation, edge, value)
    report = check_detection(voc_boxes)
    assert report.ok
    first = voc_boxes.train[0].annotation.relative_to(voc_boxes.root).as_posix()
    assert (report.warnings[0].file, report.warnings[0].text) == (
        first,
        f"{text} (1 more files like it)",
    )
    assert report.objects == before.objects


def test_box_of_one_pixel(voc_boxes: DetectionData) -> None:
    path = voc_boxes.train[0].annotation
    set_edge(path, "xmin", 5)
    set_edge(path, "xmax", 5)
    assert check_detection(voc_boxes).warnings[0].text == (
        "a box is one pixel wide or high, which mmdet takes for empty"
    )


def test_picture_in_both_lists(voc_boxes: DetectionData) -> None:
    path = voc_boxes.root / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    path.write_text(path.read_text() + "000002\n")
    assert errors_of(again(voc_boxes)) == [
        (
            "VOC2007/JPEGImages/000002.jpg",
            "the picture is listed for train and val: training pictures must not be tested on",
        )
    ]


def test_same_picture_under_two_names(voc_boxes: DetectionData) -> None:
    train, val = voc_boxes.train, voc_boxes.val
    shutil.copy(train[0].image, val[1].image)
    shutil.copy(train[2].image, train[3].image)
    report = check_detection(voc_boxes)
    assert report.ok
    assert [(problem.file, problem.text) for problem in report.warnings[:2]] == [
        (
            "VOC2007/JPEGImages/000004.jpg",
            "byte for byte VOC2007/JPEGImages/000003.jpg of train: listed under two names",
        ),
        (
            "VOC2007/JPEGImages/500002.jpg",
            "byte for byte VOC2007/JPEGImages/000001.jpg of train: tested on a training picture",
        ),
    ]


def test_grey_picture_and_empty_split(voc_boxes: DetectionData) -> None:
    picture = voc_boxes.train[0]
    Image.open(picture.image).convert("L").save(picture.image)
    report = check_detection(replace(voc_boxes, val=()))
    assert [(problem.file, problem.text) for problem in report.problems] == [
        ("val", "the split val is empty"),
        ("VOC2007/JPEGImages/000001.jpg", "the picture is greyscale; it is read as RGB"),
    ]


def first_object(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda content: change(content["annotations"][0])


def crowd(item: dict[str, Any], total: int = 64 * 80, size: tuple[int, int] = (64, 80)) -> None:
    item["iscrowd"] = 1
    item["segmentation"] = {"size": list(size), "counts": [0, 7, total - 7]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (first_object(lambda item: item.update(image_id=77)), "101 is of the unknown image 77"),
        (first_object(lambda item: item.update(image_id=[1])), "101 is of the unknown image [1]"),
        (first_object(lambda item: item.update(category_id=12)), "101 is of the unknown category"),
        (first_object(lambda item: item.pop("category_id")), "is of the unknown category None"),
        (lambda content: content["annotations"].append(content["annotations"][0]), "101 stands tw"),
        (lambda content: content.pop("annotations"), "the JSON has no list of annotations"),
        (lambda content: content.update(annotations=[1]), "the JSON has no list of annotations"),
        (lambda content: content.pop("categories"), "the JSON has no list of categories"),
        (
            lambda content: content["categories"].pop(),
            "category 90 is None, COCO's is 'toothbrush'",
        ),
        (
            lambda content: content["categories"][0].update(name="human"),
            "category 1 is 'human', COCO's is 'person'",
        ),
        (first_object(lambda item: item.update(bbox=[1, 2, 3])), "the box [1, 2, 3] is not four"),
        (first_object(lambda item: item.update(bbox=None)), "the box None is not four numbers"),
        (first_object(lambda item: item.update(bbox=[1, 2, float("nan"), 4])), "is not four num"),
        (first_object(lambda item: item.update(bbox=[1, 2, -3, 4])), "has a negative size"),
        (
            first_object(lambda item: item.update(bbox=[70, 2, 12, 4])),
            "outside of the picture of 8",
        ),
        (first_object(lambda item: item.pop("area")), "there is no area"),
        (first_object(lambda item: item.update(segmentation=[])), "not polygons of three or more"),
        (first_object(lambda item: item.update(segmentation=[[1, 2, 3, 4]])), "not polygons of th"),
        (first_object(lambda item: item.update(segmentation=[[1, 2, 3, 4, 5, 6, 7]])), "not poly"),
        (first_object(lambda item: item.update(segmentation=[[1, 2, 3, 4, 5, "6"]])), "not polyg"),
        (first_object(lambda item: item.update(segmentation="xx")), "neither polygons nor a run"),
        (first_object(lambda item: item.update(iscrowd=1)), "a crowd's segmentation is a run-le"),
        (first_object(lambda item: crowd(item, total=99)), "code covers 99 of 5120 pixels"),
        (first_object(lambda item: crowd(item, size=(80, 64))), "the size [80, 64], not [64, 80]"),
        (
            lambda content: content["images"][0].update(width=81),
            "000000000001.jpg is for 81x64, the picture 80x64",
        ),
    ],
)
def test_one_error_in_coco(
    coco: DetectionData, change: Callable[[dict[str, Any]], Any], text: str
) -> None:
    path = coco.train[0].annotation
    content = json.loads(path.read_text())
    content["annotations"] = [item for item in content["annotations"] if not item["iscrowd"]]
    change(content)
    path.write_text(json.dumps(content))
    [(named, said)] = errors_of(again(coco))
    assert named == "annotations/instances_train2017.json"
    assert text in said
    assert "\n" not in said


def test_json_broken_in_the_middle_is_one_error(coco: DetectionData) -> None:
    path = coco.val[0].annotation
    swap(path, '"annotations": [{', '"annotations": [{,')
    [(named, said)] = errors_of(again(coco))
    assert named == "annotations/instances_val2017.json"
    assert "the JSON is damaged or half-written (" in said


def test_pictures_of_coco(coco: DetectionData) -> None:
    coco.train[0].image.unlink()
    truncate(coco.val[0].image)
    assert [(file, text[:24]) for file, text in errors_of(coco)] == [
        ("train2017/000000000001.jpg", "the picture is missing"),
        ("val2017/000000500001.jpg", "the picture is truncated"),
    ]


def test_objects_left_out_by_mmdet_are_a_warning(coco: DetectionData) -> None:
    path = coco.train[0].annotation
    content = json.loads(path.read_text())
    for item in content["annotations"][:2]:
        item["bbox"][2] = 0
    path.write_text(json.dumps(content))
    report = check_detection(again(coco))
    assert report.ok
    assert report.warnings[0].text.startswith(
        "an object is empty or marked to be ignored; it is left out, as in mmdet (1 more"
    )


def test_share_of_coco(coco: DetectionData) -> None:
    report = check_detection(read_detection("coco", coco.root, "coco2017_10pct"))
    assert report.ok
    assert (report.train, report.variant) == (1, "coco2017_10pct")


def test_real_voc(shared: Path) -> None:
    root = shared / "data" / "voc2007_det"
    if not root.is_dir():
        pytest.skip("no ../shared/data/voc2007_det")
    report = check_detection(read_detection("voc_boxes", root))
    assert report.problems == ()
    assert {split: sum(counts) for split, counts in report.objects.items()} == {
        "train": 381,
        "val": 165,
    }
    assert report.ignored == {"train": 88, "val": 36}


def test_real_coco(shared: Path) -> None:
    root = shared / "data" / "coco_mini"
    if not root.is_dir():
        pytest.skip("no ../shared/data/coco_mini")
    report = check_detection(read_detection("coco", root))
    assert report.ok
    assert report.ignored == {"train": 7, "val": 1}
    assert int(np.sum(report.objects["train"])) == 533
    assert report.empty == {"train": 2, "val": 0}
