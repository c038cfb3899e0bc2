from pathlib import Path

import pytest

from vicregl_bench.data import (
    DetectionData,
    SegmentationData,
    make_ade20k,
    make_cityscapes,
    make_coco,
    make_voc,
    make_voc_boxes,
    read_detection,
    read_segmentation,
    read_voc_segmentation,
)


@pytest.fixture
def real_voc(shared: Path) -> Path:
    """The real VOC2012 pictures, where they are at hand."""
    return shared / "data" / "voc2012_seg" / "VOCdevkit"


@pytest.fixture
def made(tmp_path: Path) -> SegmentationData:
    """Return a small sound set that a test may damage."""
    devkit = make_voc(tmp_path / "made", train=3, val=2, seed=7, size=(80, 64), classes=2)
    return read_voc_segmentation(devkit, variant="voc12")


@pytest.fixture
def cityscapes(tmp_path: Path) -> SegmentationData:
    """Return a small sound set in the tree of Cityscapes."""
    out = make_cityscapes(tmp_path / "cityscapes", train=3, val=2, seed=7)
    return read_segmentation("cityscapes", out)


@pytest.fixture
def ade20k(tmp_path: Path) -> SegmentationData:
    """Return a small sound set in the tree of ADE20k."""
    out = make_ade20k(tmp_path / "ade", train=3, val=2, seed=7, size=(80, 64))
    return read_segmentation("ade20k", out)


@pytest.fixture
def voc_boxes(tmp_path: Path) -> DetectionData:
    """Return a small sound VOC2007."""
    out = make_voc_boxes(tmp_path / "boxes", train=4, val=3, seed=7, size=(80, 64), classes=2)
    return read_detection("voc_boxes", out)


@pytest.fixture
def coco(tmp_path: Path) -> DetectionData:
    """Return a small sound set in the tree of COCO."""
    out = make_coco(tmp_path / "coco", train=6, val=3, seed=7, size=(80, 64), classes=2)
    return read_detection("coco", out)
