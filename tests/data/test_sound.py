import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.test_check import put, relabel, truncate
from vicregl_bench.data import DetectionData, SegmentationData, require_sound
from vicregl_bench.errors import DataError


def test_a_clean_check_runs_once(made: SegmentationData, tmp_path: Path) -> None:
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
def test_half_written_memo_is_redone(made: SegmentationData, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache"
    require_sound(made, cache_dir=cache)
    [memo] = cache.iterdir()
    memo.write_text(content)
    assert not require_sound(made, cache_dir=cache).remembered
    assert require_sound(made, cache_dir=cache).remembered


def test_unwritable_cache_is_no_error(made: SegmentationData, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert not require_sound(made, cache_dir=blocked).remembered
    assert not require_sound(made, cache_dir=blocked / "below").remembered


def test_cache_variable(
    made: SegmentationData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICREGL_BENCH_CACHE", str(tmp_path / "mine"))
    require_sound(made)
    assert len(list((tmp_path / "mine" / "data_checks").glob("*.json"))) == 1
    assert require_sound(made).remembered


def test_errors_are_named_and_not_remembered(made: SegmentationData, tmp_path: Path) -> None:
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
        assert f"`vicregl-bench data check voc --data-root {made.root}`" in text
        assert "\n" not in text
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["voc_boxes", "coco"])
def test_detection_sets_are_remembered_too(
    kind: str, voc_boxes: DetectionData, coco: DetectionData, tmp_path: Path
) -> None:
    dataset = {"voc_boxes": voc_boxes, "coco": coco}[kind]
    first, second = (require_sound(dataset, cache_dir=tmp_path / "cache") for _ in range(2))
    assert (first.remembered, second.remembered) == (False, True)
    assert first.warnings == second.warnings
    path = dataset.train[0].annotation
    path.write_text(path.read_text() + " ")
    assert not require_sound(dataset, cache_dir=tmp_path / "cache").remembered
    truncate(dataset.train[0].image)
    with pytest.raises(DataError, match=f"vicregl-bench data check {kind} --data-root"):
        require_sound(dataset, cache_dir=tmp_path / "cache")


def test_missing_masks_are_named(cityscapes: SegmentationData, ade20k: SegmentationData) -> None:
    for dataset in (cityscapes, ade20k):
        mask = dataset.train[2].mask
        mask.unlink()
        with pytest.raises(DataError) as caught:
            require_sound(dataset)
        text = str(caught.value)
        assert f"{mask.relative_to(dataset.root).as_posix()}: the mask is missing" in text
        assert f"`vicregl-bench data check {dataset.name} --data-root {dataset.root}`" in text


def test_a_check_counts_for_its_own_data_set_only(ade20k: SegmentationData, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert not require_sound(ade20k, cache_dir=cache).remembered
    other = replace(ade20k, name="other")
    assert not require_sound(other, cache_dir=cache).remembered
    assert require_sound(other, cache_dir=cache).remembered
