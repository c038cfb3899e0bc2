"""What several test packages share: made-up pictures and the way to the shared real ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from vicregl_bench.data import make_voc
from vicregl_bench.engine.mmcv_ext import install_mmcv_ext

install_mmcv_ext()  # before any test module imports mmseg, and with it mmdet

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 12 training and 6 val pictures."""
    return make_voc(tmp_path_factory.mktemp("voc"), train=12, val=6, seed=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered data checks go to a folder of the test session."""
    monkeypatch.setenv("VICREGL_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture()
def shared() -> Path:
    """The folder of real pictures and weights, where it is at hand."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared with real pictures and weights beside the project")
    return SHARED


@pytest.fixture(autouse=True)
def own_scope() -> Iterator[None]:
    """No test meets a default scope (mmseg, mmdet) that another has left, nor leans on it."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()
