"""Data of one class are refused by every task of classification."""

import shutil
from pathlib import Path

import pytest

from tests.tasks.asking import ask
from vicregl_bench.data import make_image_folder
from vicregl_bench.errors import DataError
from vicregl_bench.tasks.plan import make_plan

TASKS = (
    "folder_knn",
    "folder_linear",
    "folder_linear_cached",
    "folder_probe_search",
    "folder_semi_10",
)


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Two classes: 8 training and 4 val pictures."""
    root = make_image_folder(tmp_path / "folder", train=24, val=12, seed=0, size=(72, 64))
    for split in ("train", "val"):
        for path in sorted((root / split).iterdir())[2:]:
            shutil.rmtree(path)
    return root


def refused(task: str, root: Path) -> None:
    with pytest.raises(DataError, match="are of one class: there is nothing to tell apart"):
        make_plan(ask(task, {"knn.ks": [1]} if task == "folder_knn" else {}, root, root / "out"))


@pytest.mark.parametrize("task", TASKS)
def test_one_class_is_refused(folder: Path, task: str) -> None:
    for split in ("train", "val"):
        shutil.rmtree(max((folder / split).iterdir()))
    refused(task, folder)


def test_a_list_of_one_class_is_refused(folder: Path) -> None:
    own = sorted(min((folder / "train").iterdir()).iterdir())
    names = [f"{path.parent.name}/{path.name}" for path in own]
    (folder / "10percent.txt").write_text("\n".join(names) + "\n")
    refused("folder_semi_10", folder)


def test_the_slice_leaves_every_class_in_train(folder: Path, tmp_path: Path) -> None:
    for seed in range(10):
        settings = {"knn.ks": [1], "sweep.holdout": 0.9, "sweep.run_seed": seed}
        plan = make_plan(ask("folder_knn", settings, folder, tmp_path, select="holdout"))
        assert {picture.label for picture in plan.train} == {0, 1}
        assert len(plan.train) == 2 and len(plan.holdout) == 6
