from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vicregl_bench.errors import RecordError
from vicregl_bench.records.arrays import read_arrays, write_arrays
from vicregl_bench.records.matches import KeptMatches, load_matches, save_matches
from vicregl_bench.records.predictions import load_predictions


def some_matches() -> KeptMatches:
    """Two smooth views on a grid of 2 x 3 cells; the first and the last match are right."""
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    view = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=2)
    return KeptMatches(
        image="val/cat/a.png",
        views=np.stack([view, view[:, ::-1]]),
        grid=(2, 3),
        cells=np.array([[0, 2, 2], [1, 0, 1], [5, 3, 3]], dtype=np.int32),
        similarity=np.array([0.9, 0.8, 0.7], dtype=np.float32),
        accuracy=50.0,
        error=12.5,
    )


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path, one = tmp_path / "p.npz", some_matches()
    save_matches(path, [one, replace(one, image="b.png")])
    back, other = load_matches(path)
    assert (back.name, other.name) == ("a", "b")
    assert (back.grid, back.accuracy, back.error) == (one.grid, 50.0, 12.5)
    np.testing.assert_array_equal(back.cells, one.cells)
    np.testing.assert_array_equal(back.similarity, one.similarity)
    assert back.right.tolist() == [True, False, True]
    assert back.views.shape == one.views.shape and back.views.dtype == np.uint8
    far = np.abs(back.views.astype(int) - one.views.astype(int))
    assert far.mean() < 3  # JPEG
    assert list(tmp_path.iterdir()) == [path]
    save_matches(path, [])
    assert load_matches(path) == ()


def test_absent_and_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(RecordError, match=r"p\.npz: No such file.*--force"):
        load_matches(path)
    save_matches(path, [some_matches()])
    with pytest.raises(RecordError, match=r"holds no predictions of a run.*--force"):
        load_predictions(path)


def test_every_cut_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_matches(path, [some_matches()])
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordError, match=r"damaged, half-written.*--force"):
            load_matches(path)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cells_0", np.array([[0, 2, 6]] * 3, dtype=np.int32), "cells outside the grid"),
        ("cells_0", np.array([[0, 2]] * 3, dtype=np.int32), "cells that do not fit"),
        ("cells_0", np.zeros((3, 3)), "cells that do not fit"),
        ("similarity_0", np.full(3, np.nan, dtype=np.float32), "not finite"),
        ("similarity_0", np.zeros(3), "similarities that do not fit"),
        ("grid_0", np.array([0, 3], dtype=np.int32), "no grid"),
        ("scores_0", np.zeros(3), "no scores"),
        ("views_0_1", np.arange(50, dtype=np.uint8), "damaged views"),
    ],
)
def test_impossible_matches(tmp_path: Path, name: str, value: np.ndarray, text: str) -> None:
    path = tmp_path / "p.npz"
    save_matches(path, [some_matches()])
    write_arrays(path, read_arrays(path) | {name: value})
    with pytest.raises(RecordError, match=rf"{text}.*--force"):
        load_matches(path)


def test_a_list_longer_than_its_matches(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_matches(path, [some_matches()])
    arrays = read_arrays(path)
    del arrays["grid_0"]
    write_arrays(path, arrays)
    with pytest.raises(RecordError, match=r"not all predictions that it lists.*--force"):
        load_matches(path)
