from pathlib import Path

import pytest

from vicregl_bench.data import VocSegmentation, make_voc, read_voc_segmentation


@pytest.fixture
def real_voc(shared: Path) -> Path:
    """The real VOC2012 pictures, where they are at hand."""
    return shared / "data" / "voc2012_seg" / "VOCdevkit"


@pytest.fixture
def made(tmp_path: Path) -> VocSegmentation:
    """Return a small sound set that a test may damage."""
    devkit = make_voc(tmp_path / "made", train=3, val=2, seed=7, size=(80, 64), classes=2)
    return read_voc_segmentation(devkit, variant="voc12")
