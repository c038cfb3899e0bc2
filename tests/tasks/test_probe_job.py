"""What an interrupted probe keeps counts only as long as pictures and code are what they were."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.reporter import Silent
from tests.tasks.asking import ask
from tests.tasks.stopping import stop_after
from vicregl_bench.data import fingerprint, make_image_folder
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.features import cache
from vicregl_bench.features.extractor import Extractor
from vicregl_bench.records import Record
from vicregl_bench.tasks import plan
from vicregl_bench.tasks.run import run_task

CROPS: dict[str, Any] = {"data.crop": 48, "data.resize": [56, 56]}
LINEAR = ("folder_linear_cached", CROPS, "fitting", 1)
SEARCH = ("folder_probe_search", CROPS, "searching", 2)
VIEWS = ("folder_correspondence", {"views.size": 128, "sweep.seeds": 2}, "matches, seed 0", 12)


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Six classes, 30 training and 12 val pictures."""
    return make_image_folder(tmp_path / "folder", train=30, val=12, seed=0, size=(72, 64))


@pytest.fixture(autouse=True)
def of_a_large_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of more than 256 MiB, whose content is not part of a run's key."""
    for module in (plan, cache):
        monkeypatch.setattr(module, "fingerprint", partial(fingerprint, content_limit=0))


def other_pictures(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Upside down and in few colours, in files of the same sizes."""
    for path in folder.rglob("*.png"):
        size, buffer = path.stat().st_size, io.BytesIO()
        pixels = np.asarray(Image.open(path).convert("RGB"))[::-1, :, [2, 0, 1]]
        Image.fromarray(pixels // 64 * 64).save(buffer, "PNG", optimize=True)
        content = buffer.getvalue()
        assert len(content) <= size
        path.write_bytes(content + b"\0" * (size - len(content)))


def other_code(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """That says so."""
    before = Extractor._vectors

    def changed(self: Extractor, crops: torch.Tensor) -> torch.Tensor:
        return before(self, crops.flip(1).roll(5, -1) // 32 * 32)

    patch.setattr(Extractor, "_vectors", changed)
    patch.setattr(cache, "FEATURE_VERSION", 99)


def run(task: tuple[Any, ...], root: Path, out: Path, reporter: Silent | None = None) -> Record:
    return run_task(ask(task[0], task[1], root, out), reporter or Silent()).record


@pytest.mark.parametrize(
    ("task", "change"),
    [
        (LINEAR, other_pictures),
        (LINEAR, other_code),
        (SEARCH, other_pictures),
        (VIEWS, other_pictures),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else one.__name__,
)
def test_what_is_kept_of_others_is_dropped(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: tuple[Any, ...],
    change: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    before = run(task, folder, tmp_path / "before")
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(task, folder, tmp_path / "out", stop_after(patch, *task[2:]))
    change(folder, monkeypatch)
    reporter = Silent()
    resumed = run(task, folder, tmp_path / "out", reporter)
    fresh = run(task, folder, tmp_path / "fresh")
    assert resumed.results == fresh.results != before.results
    assert sum("changed since: it is computed anew" in text for text in reporter.warnings) == 1


def test_what_is_kept_of_the_same_stays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        run(LINEAR, folder, tmp_path, stop_after(patch, "fitting", 1))
    (point,) = tmp_path.glob("work/*/points/*.npz")
    content = point.stat().st_ino
    steps: list[int] = []

    def look(name: str, done: int) -> None:
        if name == "fitting":
            steps.append(point.stat().st_ino)

    reporter = Silent(look)
    run(LINEAR, folder, tmp_path, reporter)
    assert reporter.warnings == [] and steps == [content] * 2
