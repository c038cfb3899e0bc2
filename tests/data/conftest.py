from pathlib import Path

import pytest

from vicregl_bench.data import VocSegmentation, make_voc, read_voc_segmentation

REAL_VOC = Path(__file__).parents[3] / "shared" / "data" / "voc2012_seg" / "VOCdevkit"


@pytest.fixture
def real_voc() -> Path:
    if not REAL_VOC.is_dir():
        pytest.skip("real data (shared/data/voc2012_seg) is not beside this checkout")
    return REAL_VOC


@pytest.fixture
def made(tmp_path: Path) -> VocSegmentation:
    """Return a small sound set that a test may damage."""
    devkit = make_voc(tmp_path / "made", train=3, val=2, seed=7, size=(80, 64), classes=2)
    return read_voc_segmentation(devkit, variant="voc12")
