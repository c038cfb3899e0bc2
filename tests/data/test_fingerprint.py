import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vicregl_bench.data import (
    DetectionData,
    SegmentationData,
    fingerprint,
    read_detection,
    read_voc_segmentation,
    stat_key,
)
from vicregl_bench.errors import DataError


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def moved(dataset: SegmentationData, to: Path) -> SegmentationData:
    shutil.copytree(dataset.root, to / "VOC2012")
    return read_voc_segmentation(to, variant="voc12")


def test_small_sets_are_identified_by_content(made: SegmentationData) -> None:
    before = fingerprint(made.splits)
    assert before.kind == "content"
    assert len(before.value) == 64
    assert fingerprint(made.splits) == before
    for path in (made.train[1].image, made.val[0].mask):
        flip_last_byte(path)
        changed = fingerprint(made.splits)
        assert changed != before
        before = changed


def test_location_and_times_do_not_count(made: SegmentationData, tmp_path: Path) -> None:
    there = moved(made, tmp_path / "elsewhere")
    os.utime(there.train[0].image, (1, 1))
    assert fingerprint(there.splits) == fingerprint(made.splits)
    small, large = (fingerprint(item.splits, content_limit=0) for item in (made, there))
    assert small == large


def test_lists_count(made: SegmentationData) -> None:
    before = fingerprint(made.splits)
    assert fingerprint(replace(made, train=made.train[:2]).splits) != before
    assert fingerprint(replace(made, train=made.train[::-1]).splits) != before
    assert fingerprint(replace(made, train=made.val, val=made.train).splits) != before


def test_large_sets_are_identified_by_names_and_sizes(made: SegmentationData) -> None:
    files = [path for pairs in made.splits.values() for p in pairs for path in (p.image, p.mask)]
    total = sum(path.stat().st_size for path in files)
    assert fingerprint(made.splits, content_limit=total).kind == "content"
    before = fingerprint(made.splits, content_limit=total - 1)
    assert before.kind == "names+sizes"
    flip_last_byte(files[0])
    assert fingerprint(made.splits, content_limit=total - 1) == before
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    assert fingerprint(made.splits, content_limit=total - 1) != before


def test_stat_key_follows_size_and_time(made: SegmentationData, tmp_path: Path) -> None:
    key = stat_key(made.splits)
    assert stat_key(moved(made, tmp_path / "elsewhere").splits) == key  # copytree keeps times
    stat = made.val[1].mask.stat()
    os.utime(made.val[1].mask, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert stat_key(made.splits) != key


def test_missing_file_is_named(made: SegmentationData) -> None:
    made.train[2].mask.unlink()
    for identify in (fingerprint, stat_key):
        with pytest.raises(DataError, match=rf"{made.train[2].name}\.png .* missing"):
            identify(made.splits)


@pytest.mark.parametrize("name", ["voc_boxes", "coco"])
def test_detection_sets(
    name: str, voc_boxes: DetectionData, coco: DetectionData, tmp_path: Path
) -> None:
    dataset = {"voc_boxes": voc_boxes, "coco": coco}[name]
    before = fingerprint(dataset.splits)
    assert before.kind == "content"
    shutil.copytree(dataset.root, tmp_path / "elsewhere")
    there = read_detection(name, tmp_path / "elsewhere")
    assert fingerprint(there.splits) == before
    assert stat_key(there.splits) == stat_key(dataset.splits)
    assert fingerprint(replace(dataset, train=dataset.train[1:]).splits) != before
    for path in dataset.val[0].files:
        flip_last_byte(path)
        changed = fingerprint(dataset.splits)
        assert changed != before
        before = changed
    # the one JSON of a split counts once: 10 pictures do not make it ten times as large
    files = {path for items in dataset.splits.values() for item in items for path in item.files}
    total = sum(path.stat().st_size for path in files)
    assert fingerprint(dataset.splits, content_limit=total).kind == "content"
    assert fingerprint(dataset.splits, content_limit=total - 1).kind == "names+sizes"
    dataset.val[0].annotation.unlink()
    for identify in (fingerprint, stat_key):
        with pytest.raises(DataError, match=rf"{dataset.val[0].annotation.name} .* missing"):
            identify(dataset.splits)
