import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_check import truncate
from vicregl_bench.data import (
    ClassificationData,
    check_classification,
    make_image_folder,
    make_voc_boxes,
    read_folder,
    read_imagenet,
    read_subset,
    read_voc07_classification,
    require_sound,
)
from vicregl_bench.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> ClassificationData:
    root = make_image_folder(tmp_path / "set", train=7, val=4, seed=3, size=(64, 64), classes=3)
    return read_folder(root)


def test_sound_set(folder: ClassificationData) -> None:
    calls: list[tuple[int, int]] = []
    report = check_classification(
        folder, on_progress=lambda done, total: calls.append((done, total)), workers=2
    )
    assert calls == [(done, 11) for done in range(1, 12)]
    assert report.ok
    assert report.problems == ()
    assert report.pictures == {"train": (3, 2, 2), "val": (1, 1, 2)}
    assert report.left_out == {"train": (0, 0, 0), "val": (0, 0, 0)}
    assert (report.train, report.val, report.leaked) == (7, 4, 0)
    content = json.loads(json.dumps(report.to_json()))
    assert content == report.to_json()
    assert (content["ok"], content["dataset"], content["variant"]) == (True, "folder", "folder")


def test_damaged_pictures_are_errors(folder: ClassificationData) -> None:
    first, second, third = (item.image for item in folder.train[:3])
    first.unlink()
    truncate(second)
    third.write_bytes(b"no picture at all")
    empty = folder.val[0].image
    empty.write_bytes(b"")
    report = check_classification(folder)
    root = folder.root
    assert [(problem.file, problem.text[:44]) for problem in report.errors] == [
        (first.relative_to(root).as_posix(), "the picture is missing"),
        (second.relative_to(root).as_posix(), "the picture is truncated or cannot be decode"),
        (third.relative_to(root).as_posix(), "the picture is truncated or cannot be decode"),
        (empty.relative_to(root).as_posix(), "the picture is truncated or cannot be decode"),
    ]
    assert not report.ok


def test_truncated_jpeg_is_an_error(folder: ClassificationData) -> None:
    path = folder.train[0].image.with_suffix(".jpg")
    with Image.open(folder.train[0].image) as picture:
        picture.save(path)
    folder.train[0].image.unlink()
    assert check_classification(read_folder(folder.root)).ok
    path.write_bytes(path.read_bytes()[:-200])
    [problem] = check_classification(read_folder(folder.root)).errors
    assert "the picture is truncated or cannot be decoded" in problem.text


def test_copies_are_warnings_of_three_kinds(folder: ClassificationData) -> None:
    root = folder.root
    original = folder.train[0].image
    assert original == root / "train/aeroplane/000001.png"
    for copy in (
        "train/aeroplane/x.png",
        "train/bird/y.png",
        "val/bird/z.png",
        "val/bicycle/z.png",
    ):
        shutil.copyfile(original, root / copy)
    report = check_classification(read_folder(root))
    assert report.ok
    assert report.leaked == 2
    same = "byte for byte train/aeroplane/000001.png"
    assert [(problem.file, problem.text) for problem in report.warnings] == [
        ("train/aeroplane/x.png", f"{same}: one picture under two names"),
        ("train/bird/y.png", f"{same}: one picture with two labels"),
        (
            "val/bicycle/z.png",
            f"{same}: a training picture is tested on (1 more pictures like it)",
        ),
    ]


def test_absent_classes_and_grey_pictures(folder: ClassificationData) -> None:
    for item in folder.train[:2]:
        with Image.open(item.image) as picture:
            picture.convert("L").save(item.image)
    subset = replace(
        folder,
        train=tuple(item for item in folder.train if item.label != 2),
        val=tuple(item for item in folder.val if item.label == 2),
    )
    report = check_classification(subset)
    assert report.ok
    assert [(problem.file, problem.text) for problem in report.warnings] == [
        (
            "train/aeroplane/000001.png",
            "the picture is greyscale; it is read as RGB (1 more files like it)",
        ),
        ("train", "1 classes have no train picture, the first is bird"),
        ("val", "no val picture shows aeroplane, bicycle: no accuracy for these"),
    ]


def test_empty_split_is_an_error(folder: ClassificationData) -> None:
    report = check_classification(replace(folder, val=()))
    assert [(problem.file, problem.text) for problem in report.problems] == [
        ("val", "the split val is empty")
    ]


def test_image_labels_of_voc(tmp_path: Path) -> None:
    devkit = make_voc_boxes(tmp_path / "voc", train=12, val=3, seed=0, size=(80, 64), classes=3)
    data = read_voc07_classification(devkit)
    report = check_classification(data)
    assert report.ok
    for split, items in data.splits.items():
        for label in range(20):
            labels = [item.labels[label] for item in items]
            assert report.pictures[split][label] == labels.count(1)
            assert report.left_out[split][label] == labels.count(0)
    assert sum(report.left_out["train"]) > 0
    trained, tested = report.warnings
    assert trained.text == "17 classes have no train picture, the first is boat"
    assert tested.text.startswith("no val picture shows ")
    assert tested.text.endswith("tvmonitor: no AP for these")
    first, second = (require_sound(data, cache_dir=tmp_path / "cache") for _ in range(2))
    assert (first.remembered, second.remembered) == (False, True)
    shutil.copyfile(data.train[0].image, data.val[0].image)
    assert check_classification(data).leaked == 1


def test_a_clean_check_is_remembered(folder: ClassificationData, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, second = (require_sound(folder, cache_dir=cache) for _ in range(2))
    assert (first.remembered, second.remembered) == (False, True)
    assert not require_sound(read_subset(folder, percent=50), cache_dir=cache).remembered
    assert not require_sound(replace(folder, name="imagenet"), cache_dir=cache).remembered
    truncate(folder.train[0].image)
    with pytest.raises(DataError, match="vicregl-bench data check folder --data-root"):
        require_sound(folder, cache_dir=cache)


def test_real_imagenette(shared: Path) -> None:
    root = shared / "data/imagenette224"
    if not root.is_dir():
        pytest.skip("no ../shared/data/imagenette224")
    report = check_classification(read_imagenet(root))
    assert report.ok
    assert report.pictures == {"train": (80,) * 10, "val": (40,) * 10}
    assert report.leaked == 0
    [warning] = report.warnings
    assert warning.text == "the picture is greyscale; it is read as RGB (14 more files like it)"
