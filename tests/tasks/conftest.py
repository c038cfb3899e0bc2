"""Made-up Cityscapes and ADE20k trees, the same for all tests of tasks."""

from pathlib import Path

import pytest

from vicregl_bench.data import make_ade20k, make_cityscapes


@pytest.fixture(scope="session")
def tiny_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 8 training and 4 val pictures."""
    return make_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes", train=8, val=4, seed=0)


@pytest.fixture(scope="session")
def tiny_ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 8 training and 4 val pictures."""
    return make_ade20k(tmp_path_factory.mktemp("data") / "ade", train=8, val=4, seed=0)
