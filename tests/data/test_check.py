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
    VocSegmentation,
    check_segmentation,
    palette,
    read_voc_segmentation,
    require_sound,
)
from vicregl_bench.errors import DataError


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


def test_sound_set(made: VocSegmentation) -> None:
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


def test_report_as_json(made: VocSegmentation) -> None:
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
    made: VocSegmentation, damage: Callable[[Pair], None], file: str, text: str
) -> None:
    pair = made.train[1]
    damage(pair)
    report = check_segmentation(made)
    assert not report.ok
    assert len(report.errors) == 1
    path: Path = getattr(pair, file)
    assert report.errors[0].file == path.relative_to(made.root).as_posix()
    assert text in report.errors[0].text


def test_missing_pair_is_two_errors(made: VocSegmentation) -> None:
    made.val[0].image.unlink()
    made.val[0].mask.unlink()
    assert [problem.text for problem in check_segmentation(made).errors] == [
        "the picture is missing",
        "the mask is missing",
    ]


def test_empty_split(made: VocSegmentation) -> None:
    report = check_segmentation(replace(made, val=()))
    assert [(problem.file, problem.text) for problem in report.errors] == [
        ("val", "the split val is empty")
    ]
    assert report.pixels["val"] == (0,) * 22


def warning_texts(report: CheckReport) -> list[str]:
    assert report.ok
    return [f"{problem.file}: {problem.text}" for problem in report.warnings]


def test_foreign_palette(made: VocSegmentation) -> None:
    absent = warning_texts(check_segmentation(made))
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for pair in made.train[:2]:
        save_mask(pair.mask, np.asarray(Image.open(pair.mask)), grey)
    assert warning_texts(check_segmentation(made)) == [
        f"SegmentationClass/{made.train[0].name}.png: the mask's palette is not VOC's: its indices "
        "may mean other classes (1 more files like it)",
        *absent,
    ]


def test_palette_counts_for_present_labels_only(made: VocSegmentation) -> None:
    before = warning_texts(check_segmentation(made))
    colours = palette()
    colours[3:] = 9  # the set has classes 1 and 2
    for pair in made.train:
        save_mask(pair.mask, np.asarray(Image.open(pair.mask)), colours)
    assert warning_texts(check_segmentation(made)) == before


def test_grey_masks_are_fine_and_grey_pictures_warned_of(made: VocSegmentation) -> None:
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


def test_class_absent_in_val(made: VocSegmentation) -> None:
    for pair in made.val:
        relabel(pair.mask, lambda labels: np.where(labels == 2, 1, labels))
    texts = warning_texts(check_segmentation(made))
    assert texts[-1].startswith("val: no val picture shows bicycle, bird, boat, ")
    assert "aeroplane" not in texts[-1]


def test_a_clean_check_runs_once(made: VocSegmentation, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "deep"
    report = require_sound(made, cache_dir=cache)
    assert not report.remembered
    [memo] = cache.iterdir()
    assert json.loads(memo.read_text())["report"]["train"] == 3
    assert require_sound(made, cache_dir=cache).remembered
    relabel(made.train[0].mask, lambda labels: put(labels, 1))
    assert not require_sound(made, cache_dir=cache).remembered
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("content", ["", '{"check_version": 1, "repo', "[]", "{}", "\x00"])
def test_half_written_memo_is_redone(made: VocSegmentation, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache"
    require_sound(made, cache_dir=cache)
    [memo] = cache.iterdir()
    memo.write_text(content)
    assert not require_sound(made, cache_dir=cache).remembered
    assert require_sound(made, cache_dir=cache).remembered


def test_unwritable_cache_is_no_error(made: VocSegmentation, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert not require_sound(made, cache_dir=blocked).remembered
    assert not require_sound(made, cache_dir=blocked / "below").remembered


def test_cache_variable(
    made: VocSegmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICREGL_BENCH_CACHE", str(tmp_path / "mine"))
    require_sound(made)
    assert len(list((tmp_path / "mine" / "data_checks").glob("*.json"))) == 1
    assert require_sound(made).remembered


def test_errors_are_named_and_not_remembered(made: VocSegmentation, tmp_path: Path) -> None:
    for pair in (*made.train, *made.val[:1]):
        pair.image.unlink()
        truncate(pair.mask)
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            require_sound(made, cache_dir=tmp_path / "cache")
        text = str(caught.value)
        assert text.count("the picture is missing") == 3
        assert text.count("the mask is truncated") == 2
        assert "; and 3 more." in text
        assert f"`vicregl-bench data check voc_linear --data-root {made.root}`" in text
        assert "\n" not in text
    assert not (tmp_path / "cache").exists()


def test_real_data(real_voc: Path) -> None:
    report = check_segmentation(read_voc_segmentation(real_voc))
    assert report.problems == ()
    assert (report.train, report.val, report.variant) == (100, 60, "voc12")
    assert all(report.pictures["val"])
