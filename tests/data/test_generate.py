import hashlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.data import (
    CLASSES,
    check_detection,
    check_segmentation,
    make_ade20k,
    make_cityscapes,
    make_coco,
    make_voc,
    make_voc_boxes,
    palette,
    read_detection,
    read_segmentation,
    read_voc_segmentation,
)
from vicregl_bench.data import generate as generate_module
from vicregl_bench.data.cityscapes import LABEL_IDS, TRAIN_IDS
from vicregl_bench.data.made_folder import MARKER, UNFINISHED
from vicregl_bench.errors import ConfigError, DataError

SMALL = {"train": 3, "val": 2, "seed": 5, "classes": 3}


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc") / "out", train=12, val=6, seed=0)


def test_set_is_sound_and_shows_every_class(devkit: Path) -> None:
    assert devkit.name == "VOCdevkit"
    dataset = read_voc_segmentation(devkit)
    assert [pair.name for pair in dataset.train[:2]] == ["2012_000001", "2012_000002"]
    report = check_segmentation(dataset)
    assert report.ok
    assert (report.train, report.val) == (12, 6)
    for split in ("train", "val"):
        assert all(report.pictures[split][:7])
        assert not any(report.pictures[split][7:])
        ignored, total = report.pixels[split][21], sum(report.pixels[split])
        assert 0.01 < ignored / total < 0.2
        assert 0.3 < report.pixels[split][0] / total < 0.9


def test_masks_are_palette_images(devkit: Path) -> None:
    for folder in ("SegmentationClass", "SegmentationObject"):
        paths = sorted((devkit / "VOC2012" / folder).iterdir())
        assert len(paths) == 18
        for path in paths:
            mask = Image.open(path)
            assert mask.mode == "P"
            assert mask.size == (160, 120)
            assert mask.getpalette() == palette().ravel().tolist()
            assert 255 in np.asarray(mask)


def test_boxes_are_those_of_the_masks(devkit: Path) -> None:
    root = devkit / "VOC2012"
    paths = sorted((root / "Annotations").iterdir())
    assert len(paths) == 18
    for path in paths:
        annotation = ElementTree.parse(path).getroot()
        assert annotation.findtext("folder") == "VOC2012"
        assert annotation.findtext("filename") == f"{path.stem}.jpg"
        assert annotation.findtext("segmented") == "1"
        size = [annotation.findtext(f"size/{name}") for name in ("width", "height", "depth")]
        assert size == ["160", "120", "3"]
        labels = np.asarray(Image.open(root / "SegmentationClass" / f"{path.stem}.png"))
        objects = np.asarray(Image.open(root / "SegmentationObject" / f"{path.stem}.png"))
        things = annotation.findall("object")
        assert len(things) == len(np.unique(objects)) - 2  # ground and borders
        for index, thing in enumerate(things, start=1):
            rows, columns = np.nonzero(objects == index)
            box = [int(thing.findtext(f"bndbox/{e}", "")) for e in ("xmin", "ymin", "xmax", "ymax")]
            low, high = (columns.min() + 1, rows.min() + 1), (columns.max() + 1, rows.max() + 1)
            assert box == [*low, *high]
            assert set(labels[rows, columns]) == {CLASSES.index(thing.findtext("name", ""))}
            assert thing.findtext("pose") == "Unspecified"
            assert thing.findtext("difficult") == "0"
            assert thing.findtext("truncated") in ("0", "1")


def test_lists(devkit: Path) -> None:
    sets = devkit / "VOC2012" / "ImageSets"

    def lines(item: str) -> list[str]:
        return (sets / item).read_text().splitlines()

    train = [f"2012_{number:06d}" for number in range(1, 13)]
    val = [f"2012_{number:06d}" for number in range(500_001, 500_007)]
    for kind in ("Segmentation", "Main"):
        assert lines(f"{kind}/train.txt") == train
        assert lines(f"{kind}/val.txt") == val
        assert lines(f"{kind}/trainval.txt") == train + val
    assert len(list((sets / "Main").iterdir())) == 3 + 20 * 3
    for label in (1, 6, 7):
        for line in lines(f"Main/{CLASSES[label]}_trainval.txt"):
            name, flag = line.split()
            mask = Image.open(devkit / "VOC2012" / "SegmentationClass" / f"{name}.png")
            assert flag == ("1" if label in np.asarray(mask) else "-1")
    assert lines("Main/aeroplane_train.txt")[0] == "2012_000001  1"
    assert lines("Main/tvmonitor_val.txt")[0] == "2012_500001 -1"


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, second = (make_voc(tmp_path / name, **SMALL) for name in ("a", "b"))
    assert digests(first.parent) == digests(second.parent)
    other = make_voc(tmp_path / "c", **SMALL | {"seed": 6})
    pictures = [digests(kit / "VOC2012" / "JPEGImages") for kit in (first, other)]
    assert pictures[0].keys() == pictures[1].keys()
    assert not set(pictures[0].values()) & set(pictures[1].values())


def test_pictures_do_not_depend_on_counts(tmp_path: Path) -> None:
    few = digests(make_voc(tmp_path / "few", **SMALL) / "VOC2012" / "JPEGImages")
    more = digests(
        make_voc(tmp_path / "more", **SMALL | {"train": 5, "val": 3}) / "VOC2012" / "JPEGImages"
    )
    assert few.items() < more.items()
    assert len(set(more.values())) == 8


def test_size_classes_and_year(tmp_path: Path) -> None:
    devkit = make_voc(
        tmp_path / "out", train=20, val=1, seed=0, size=(96, 128), classes=20, year="2007"
    )
    root = devkit / "VOC2007"
    assert Image.open(root / "JPEGImages" / "2007_000001.jpg").size == (96, 128)
    report = check_segmentation(read_voc_segmentation(root))
    assert report.ok
    assert all(report.pictures["train"])


def test_finished_folder_is_returned_untouched(tmp_path: Path) -> None:
    devkit = make_voc(tmp_path / "out", **SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert make_voc(tmp_path / "out", **SMALL) == devkit
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    assert json.loads((tmp_path / "out" / MARKER).read_text())["seed"] == 5


@pytest.mark.parametrize("change", [{"seed": 6}, {"train": 4}, {"classes": 2}, {"size": (80, 64)}])
def test_other_parameters_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    make_voc(tmp_path / "out", **SMALL)
    with pytest.raises(DataError, match="other parameters: choose another --out"):
        make_voc(tmp_path / "out", **SMALL | change)


def test_changed_results_are_refused(tmp_path: Path) -> None:
    devkit = make_voc(tmp_path / "out", **SMALL)
    (devkit / "VOC2012" / "JPEGImages" / "2012_000001.jpg").unlink()
    with pytest.raises(DataError, match="changed since"):
        make_voc(tmp_path / "out", **SMALL)


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "VOCdevkit").mkdir()
    with pytest.raises(DataError, match=r"holds other files \(VOCdevkit\)"):
        make_voc(tmp_path, **SMALL)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        make_voc(tmp_path / "file", **SMALL)
    with pytest.raises(DataError, match="cannot write"):
        make_voc(tmp_path / "file" / "below", **SMALL)
    (tmp_path / "empty").mkdir()
    assert make_voc(tmp_path / "empty", **SMALL).is_dir()


def test_interrupted_generation_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate_module, "write_voc_lists", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_voc(out, **SMALL | {"train": 4})
    assert (out / UNFINISHED).is_file()
    assert not (out / MARKER).exists()
    devkit = make_voc(out, **SMALL)
    assert not (out / UNFINISHED).exists()
    assert digests(devkit) == digests(make_voc(tmp_path / "clean", **SMALL))

    (out / MARKER).rename(out / UNFINISHED)
    (out / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt"):
        make_voc(out, **SMALL)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"train": 0}, "train must be from 1"),
        ({"val": 0}, "val must be from 1"),
        ({"val": 500_000}, "499999"),
        ({"classes": 0}, "classes must be from 1 to 20"),
        ({"classes": 21}, "classes must be from 1 to 20"),
        ({"size": (160, 40)}, "160x40 is too small"),
        ({"seed": -1}, "seed"),
        ({"year": "12"}, "four digits"),
    ],
)
def test_impossible_values(tmp_path: Path, change: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_voc(tmp_path / "out", **SMALL | change)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_cityscapes_masks_of_both_kinds_agree(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "out", train=18, val=2, seed=0)
    assert root == tmp_path / "out"
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == [
        "gtFine",
        "leftImg8bit",
    ]
    dataset = read_segmentation("cityscapes", root)
    for pair in (*dataset.train, *dataset.val):
        assert Image.open(pair.image).size == (128, 64)
        mask = Image.open(pair.mask)
        assert (mask.mode, mask.size) == ("L", (128, 64))
        ids = np.asarray(Image.open(str(pair.mask).replace("labelTrainIds", "labelIds")))
        np.testing.assert_array_equal(LABEL_IDS.lookup[ids], np.asarray(mask))
        assert set(np.unique(ids)) <= set(TRAIN_IDS)
        assert {4, 7} < set(np.unique(ids))  # borders, road and an object
    report = check_segmentation(dataset)
    assert report.ok
    assert all(report.pictures["train"])  # all 19 classes
    assert 0.01 < report.pixels["train"][19] / sum(report.pixels["train"]) < 0.2


def test_cityscapes_with_few_classes(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "out", train=4, val=2, seed=0, classes=3)
    report = check_segmentation(read_segmentation("cityscapes", root))
    assert [label for label, count in enumerate(report.pictures["train"]) if count] == [0, 1, 9, 18]


def test_ade20k_uses_other_and_classes_of_the_whole_range(tmp_path: Path) -> None:
    root = make_ade20k(tmp_path / "out", train=20, val=2, seed=0, size=(80, 64))
    assert root == tmp_path / "out" / "ADEChallengeData2016"
    dataset = read_segmentation("ade20k", root)
    values: set[int] = set()
    for pair in (*dataset.train, *dataset.val):
        mask = Image.open(pair.mask)
        assert (mask.mode, mask.size) == ("L", (80, 64))
        assert {0, 1} < set(np.unique(np.asarray(mask)))
        values |= set(np.unique(np.asarray(mask)).tolist())
    assert values == {0, 1, *(2 + i * 148 // 19 for i in range(20))}
    assert {2, 150} < values
    assert check_segmentation(dataset).ok


def test_voc_boxes(tmp_path: Path, devkit: Path) -> None:
    root = make_voc_boxes(tmp_path / "out", train=12, val=6, seed=0)
    assert root == tmp_path / "out" / "VOCdevkit"
    dataset = read_detection("voc_boxes", root)
    report = check_detection(dataset)
    assert report.ok
    assert (report.train, report.val) == (12, 6)
    # the pictures and boxes of make_voc, only that objects behind others are difficult
    difficult = 0
    for number, picture in [(i + 1, picture) for i, picture in enumerate(dataset.train)]:
        other = devkit / "VOC2012" / "JPEGImages" / f"2012_{number:06d}.jpg"
        assert picture.image.read_bytes() == other.read_bytes()
        things = ElementTree.parse(picture.annotation).findall("object")
        masked = ElementTree.parse(devkit / "VOC2012" / "Annotations" / f"{other.stem}.xml")
        for thing, twin in zip(things, masked.findall("object"), strict=True):
            assert [edge.text for edge in thing.iterfind("bndbox/*")] == [
                edge.text for edge in twin.iterfind("bndbox/*")
            ]
            assert thing.findtext("difficult") == thing.findtext("occluded")
            difficult += int(thing.findtext("difficult", ""))
    assert report.ignored["train"] == difficult > 0


def test_coco_masks_are_those_of_the_objects(tmp_path: Path, devkit: Path) -> None:
    from pycocotools.coco import COCO

    root = make_coco(tmp_path / "out", train=12, val=6, seed=0)
    assert root == tmp_path / "out"
    dataset = read_detection("coco", root)
    report = check_detection(dataset)
    assert report.ok
    assert (report.train, report.val) == (12, 6)
    assert {label for label, count in enumerate(report.objects["train"]) if count} == {
        *(0, 15, 31, 47, 63, 79)
    }
    api = COCO(str(root / "annotations" / "instances_train2017.json"))
    crowds = 0
    for picture in dataset.train:
        # the same scenes as make_voc's, whose masks say which pixel is of which object
        mask = devkit / "VOC2012" / "SegmentationObject" / f"2012_{picture.id:06d}.png"
        objects = np.asarray(Image.open(mask))
        items = api.loadAnns(api.getAnnIds(imgIds=picture.id))
        found = dataset.annotations(picture)
        assert len(items) == len(found.labels) == len(np.unique(objects)) - 2
        for index, item in enumerate(items, start=1):
            truth = objects == index
            drawn = api.annToMask(item).astype(bool)
            assert item["area"] == truth.sum()
            rows, columns = np.nonzero(truth)
            assert found.boxes[index - 1].tolist() == [
                *(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            ]
            if item["iscrowd"]:
                np.testing.assert_array_equal(drawn, truth)
                crowds += 1
            else:
                # polygons run through the centres of the outermost pixels: half a pixel is lost
                assert (drawn & truth).sum() / (drawn | truth).sum() > 0.85
    assert report.ignored["train"] == crowds > 0


def test_run_lengths_and_polygons() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, 0] = mask[1:, 2] = True
    code = generate_module._run_lengths(mask)
    assert code == {"counts": [0, 1, 6, 2, 3], "size": [3, 4]}
    assert generate_module._run_lengths(~mask)["counts"] == [1, 6, 2, 3]
    polygons = generate_module._polygons(mask)
    assert sorted(polygons) == [[0, 0, 1, 0, 1, 1, 0, 1], [2, 1, 3, 1, 3, 3, 2, 3]]


@pytest.mark.parametrize("make", [make_cityscapes, make_ade20k])
def test_other_layouts_are_reproducible_and_guarded(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    values = {"train": 3, "val": 2, "seed": 5}
    root = make(tmp_path / "out", **values)
    before = digests(root)
    assert len(before) in (10, 16)  # ADE20k: 5 pairs; Cityscapes: 5 x 3 files and the marker
    assert make(tmp_path / "out", **values) == root
    assert digests(root) == before
    before.pop(MARKER, None)
    other = digests(make(tmp_path / "more", **values | {"train": 4}))
    assert before.items() < other.items()
    assert digests(make(tmp_path / "seed", **values | {"seed": 6})) != before
    with pytest.raises(DataError, match="other parameters"):
        make(tmp_path / "out", **values | {"seed": 6})
    next(path for path in sorted(root.rglob("*.png")) if "labelIds" not in path.name).unlink()
    with pytest.raises(DataError, match="changed since"):
        make(tmp_path / "out", **values)
    with pytest.raises(DataError, match="other parameters"):
        make_voc(tmp_path / "out", **values)


@pytest.mark.parametrize("make", [make_voc_boxes, make_coco])
def test_detection_layouts_are_reproducible_and_guarded(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    values = {"train": 3, "val": 2, "seed": 5}
    root = make(tmp_path / "out", **values)
    before = digests(root)
    assert len(before) in (12, 8)  # VOC: 5 pictures, 5 XML, 2 lists; COCO: 5, 2 JSON and marker
    assert digests(make(tmp_path / "twin", **values)) == before
    assert make(tmp_path / "out", **values) == root
    pictures = {name: digest for name, digest in before.items() if name.endswith(".jpg")}
    assert pictures.items() < digests(make(tmp_path / "more", **values | {"val": 4})).items()
    with pytest.raises(DataError, match="other parameters"):
        make(tmp_path / "out", **values | {"seed": 6})
    next(root.rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match="changed since"):
        make(tmp_path / "out", **values)
    with pytest.raises(ConfigError, match="classes must be from 1 to 20, not 21"):
        make(tmp_path / "bad", **values, classes=21)


def test_impossible_values_of_other_layouts(tmp_path: Path) -> None:
    values = {"train": 3, "val": 2, "seed": 5}
    with pytest.raises(ConfigError, match="classes must be from 1 to 18, not 19"):
        make_cityscapes(tmp_path / "out", **values, classes=19)
    with pytest.raises(ConfigError, match="classes must be from 1 to 20, not 21"):
        make_ade20k(tmp_path / "out", **values, classes=21)
    with pytest.raises(ConfigError, match="128x32 is too small"):
        make_cityscapes(tmp_path / "out", **values, size=(128, 32))
    assert not (tmp_path / "out").exists()


def test_package_imports_neither_torch_nor_mmengine() -> None:
    code = (
        "import sys, vicregl_bench.data; "
        "print([m for m in ('torch', 'mmengine', 'mmseg', 'mmcv') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
