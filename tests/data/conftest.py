from pathlib import Path

import pytest

from vicregl_bench.data import (
    SegmentationData,
    make_ade20k,
    make_cityscapes,
    make_voc,
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
