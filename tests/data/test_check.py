import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.data import (
    CheckReport,
    Pair,
    SegmentationData,
    check_segmentation,
    palette,
    read_segmentation,
    read_voc_segmentation,
)


def relabel(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    save_mask(path, change(np.asarray(Image.open(path)).copy()))


def save_mask(path: Path, labels: np.ndarray, colours: np.ndarray | None = None) -> None:
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette((palette() if colours is None else colours).tobytes())
    image.save(path)


def put(labels: np.ndarray, *values: int) -> np.ndarray:
    labels[0, : len(values)] = values
    return labels


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    path.write_bytes(bytes(content))


def test_sound_set(made: SegmentationData) -> None:
    calls: list[tuple[int, int]] = []
    report = check_segmentation(
        made, on_progress=lambda done, total: calls.append((done, total)), workers=2
    )
    assert report.ok
    assert report.errors == ()
    assert calls == [(done, 5) for done in range(1, 6)]
    assert (report.train, report.val, report.variant) == (3, 2, "voc12")
    for split, pairs in made.splits.items():
        masks = [np.asarray(Image.open(pair.mask)) for pair in pairs]
        bins = [*range(21), 255]
        assert report.pixels[split] == tuple(
            sum(int((mask == label).sum()) for mask in masks) for label in bins
        )
        assert sum(report.pixels[split]) == len(pairs) * 80 * 64
        assert report.pictures[split] == tuple(
            sum(bool((mask == label).any()) for mask in masks) for label in range(21)
        )


def test_report_as_json(made: SegmentationData) -> None:
    truncate(made.val[0].image)
    report = check_segmentation(made)
    content = json.loads(json.dumps(report.to_json()))
    assert content == report.to_json()
    assert content["ok"] is False
    assert content["classes"][1] == "aeroplane"
    assert len(content["pixels"]["train"]) == 22
    assert len(content["pictures"]["val"]) == 21
    assert content["problems"][0]["severity"] == "error"
    assert content["problems"][0]["file"] == f"JPEGImages/{made.val[0].name}.jpg"


def test_report_says_which_set_and_which_masks(made: SegmentationData) -> None:
    report = check_segmentation(made)
    assert (report.dataset, report.variant, report.masks) == ("voc", "voc12", "class indices")


def as_rgb(pair: Pair) -> None:
    Image.open(pair.mask).convert("RGB").save(pair.mask)


def as_16_bit(pair: Pair) -> None:
    Image.fromarray(np.zeros((64, 80), dtype=np.uint16)).save(pair.mask)


def crop_mask(pair: Pair) -> None:
    relabel(pair.mask, lambda labels: labels[:, :-1])


@pytest.mark.parametrize(
    ("damage", "file", "text"),
    [
        (lambda pair: pair.image.unlink(), "image", "the picture is missing"),
        (lambda pair: pair.mask.unlink(), "mask", "the mask is missing"),
        (lambda pair: truncate(pair.image), "image", "the picture is truncated or cannot be"),
        (lambda pair: truncate(pair.mask), "mask", "the mask is truncated or cannot be"),
        (lambda pair: flip_in_the_middle(pair.mask), "mask", "the mask is truncated or cannot"),
        (lambda pair: pair.image.write_bytes(b""), "image", "the picture is truncated or cannot"),
        (lambda pair: pair.image.write_text("<html>"), "image", "the picture is truncated or"),
        (as_rgb, "mask", "of mode RGB: a palette PNG with class indices is needed"),
        (as_16_bit, "mask", "of mode I;16: a palette PNG with class indices is needed"),
        (
            lambda pair: relabel(pair.mask, lambda labels: put(labels, 21)),
            "mask",
            "the label 21: VOC has 0 to 20 and 255",
        ),
        (
            lambda pair: relabel(pair.mask, lambda labels: put(labels, 254, 77, 20, 255)),
            "mask",
            "the labels 77, 254: VOC has",
        ),
        (crop_mask, "mask", "the mask is 79x64, its picture 80x64"),
    ],
)
def test_one_error(
    made: SegmentationData, damage: Callable[[Pair], None], file: str, text: str
) -> None:
    pair = made.train[1]
    damage(pair)
    report = check_segmentation(made)
    assert not report.ok
    assert len(report.errors) == 1
    path: Path = getattr(pair, file)
    assert report.errors[0].file == path.relative_to(made.root).as_posix()
    assert text in report.errors[0].text


def test_missing_pair_is_two_errors(made: SegmentationData) -> None:
    made.val[0].image.unlink()
    made.val[0].mask.unlink()
    assert [problem.text for problem in check_segmentation(made).errors] == [
        "the picture is missing",
        "the mask is missing",
    ]


def test_empty_split(made: SegmentationData) -> None:
    report = check_segmentation(replace(made, val=()))
    assert [(problem.file, problem.text) for problem in report.errors] == [
        ("val", "the split val is empty")
    ]
    assert report.pixels["val"] == (0,) * 22


def warning_texts(report: CheckReport) -> list[str]:
    assert report.ok
    return [f"{problem.file}: {problem.text}" for problem in report.warnings]


def test_foreign_palette(made: SegmentationData) -> None:
    absent = warning_texts(check_segmentation(made))
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for pair in made.train[:2]:
        save_mask(pair.mask, np.asarray(Image.open(pair.mask)), grey)
    assert warning_texts(check_segmentation(made)) == [
        f"SegmentationClass/{made.train[0].name}.png: the mask's palette is not VOC's: its indices "
        "may mean other classes (1 more files like it)",
        *absent,
    ]


def test_palette_counts_for_present_labels_only(made: SegmentationData) -> None:
    before = warning_texts(check_segmentation(made))
    colours = palette()
    colours[3:] = 9  # the set has classes 1 and 2
    for pair in made.train:
        save_mask(pair.mask, np.asarray(Image.open(pair.mask)), colours)
    assert warning_texts(check_segmentation(made)) == before


def test_grey_masks_are_fine_and_grey_pictures_warned_of(made: SegmentationData) -> None:
    pair = made.train[0]
    before = check_segmentation(made)
    Image.fromarray(np.asarray(Image.open(pair.mask))).save(pair.mask)
    assert Image.open(pair.mask).mode == "L"
    Image.open(pair.image).convert("L").save(pair.image)
    after = check_segmentation(made)
    assert after.pixels == before.pixels
    assert warning_texts(after)[0] == (
        f"JPEGImages/{pair.name}.jpg: the picture is greyscale; it is read as RGB"
    )


def test_class_absent_in_val(made: SegmentationData) -> None:
    for pair in made.val:
        relabel(pair.mask, lambda labels: np.where(labels == 2, 1, labels))
    texts = warning_texts(check_segmentation(made))
    assert texts[-1].startswith("val: no val picture shows bicycle, bird, boat, ")
    assert "aeroplane" not in texts[-1]


def test_many_absent_classes_are_counted(ade20k: SegmentationData) -> None:
    report = check_segmentation(ade20k)
    [text] = [text for text in warning_texts(report) if text.startswith("val: no val picture")]
    shown = sum(count > 0 for count in report.pictures["val"])
    assert f" and {150 - shown - 20} more classes: no IoU for these" in text
    assert text.count(",") == 19


def test_real_data(real_voc: Path) -> None:
    report = check_segmentation(read_voc_segmentation(real_voc))
    assert report.problems == ()
    assert (report.train, report.val, report.variant) == (100, 60, "voc12")
    assert all(report.pictures["val"])


def test_cityscapes_pixels_are_counted_by_train_id(cityscapes: SegmentationData) -> None:
    by_train_id = check_segmentation(cityscapes)
    assert by_train_id.ok
    assert (by_train_id.dataset, by_train_id.masks) == ("cityscapes", "labelTrainIds")
    assert len(by_train_id.pixels["val"]) == 20
    assert sum(by_train_id.pixels["train"]) == 3 * 128 * 64
    for pair in (*cityscapes.train, *cityscapes.val):
        pair.mask.unlink()
    by_id = check_segmentation(read_segmentation("cityscapes", cityscapes.root))
    assert by_id.masks == "labelIds"
    assert by_id.pixels == by_train_id.pixels
    assert by_id.pictures == by_train_id.pictures


def test_ade20k_pixels_are_counted_without_other(ade20k: SegmentationData) -> None:
    report = check_segmentation(ade20k)
    assert report.ok
    for split, pairs in ade20k.splits.items():
        masks = [np.asarray(Image.open(pair.mask)) for pair in pairs]
        assert report.pixels[split] == tuple(
            sum(int((mask == value).sum()) for mask in masks) for value in (*range(1, 151), 0)
        )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cityscapes", 19, "the label 19: labelTrainIds are 0 to 18 and 255"),
        ("cityscapes", 33, "the label 33: labelTrainIds are 0 to 18 and 255"),
        ("ade20k", 151, "the label 151: ADE20k has 0 to 150, 0 for other"),
        ("ade20k", 255, "the label 255: ADE20k has 0 to 150, 0 for other; give the official"),
    ],
)
def test_impossible_values(
    name: str,
    value: int,
    text: str,
    cityscapes: SegmentationData,
    ade20k: SegmentationData,
) -> None:
    dataset = {"cityscapes": cityscapes, "ade20k": ade20k}[name]
    pair = dataset.val[1]
    labels = put(np.asarray(Image.open(pair.mask)).copy(), value)
    Image.fromarray(labels).save(pair.mask)
    report = check_segmentation(dataset)
    assert [problem.file for problem in report.errors] == [
        pair.mask.relative_to(dataset.root).as_posix()
    ]
    assert text in report.errors[0].text
    assert sum(report.pixels["val"]) == 2 * labels.size - 1  # the impossible pixel counts nowhere


def test_ids_given_as_train_ids_and_the_reverse(cityscapes: SegmentationData) -> None:
    for pair in (*cityscapes.train, *cityscapes.val):
        ids = pair.mask.with_name(pair.mask.name.replace("labelTrainIds", "labelIds"))
        pair.mask.replace(ids)  # train ids under the name of ids
    report = check_segmentation(read_segmentation("cityscapes", cityscapes.root))
    assert len(report.errors) == 5
    assert "the label 255: labelIds are 0 to 33" in report.errors[0].text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1"])
def test_coloured_masks_are_refused(ade20k: SegmentationData, mode: str) -> None:
    mask = ade20k.train[0].mask
    Image.open(mask).convert(mode).save(mask)
    [problem] = check_segmentation(ade20k).errors
    assert problem.file == f"annotations/training/{mask.name}"
    assert f"of mode {mode}: a greyscale PNG with class indices is needed" in problem.text


def test_palettes_of_greyscale_sets_are_warned_of(cityscapes: SegmentationData) -> None:
    before = check_segmentation(cityscapes)
    save_mask(cityscapes.val[0].mask, np.asarray(Image.open(cityscapes.val[0].mask)))
    after = check_segmentation(cityscapes)
    assert after.pixels == before.pixels
    assert any("has a palette; its indices are taken" in text for text in warning_texts(after))
