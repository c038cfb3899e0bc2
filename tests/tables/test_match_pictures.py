from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.records.test_matches import some_matches
from tests.tables.test_pictures import pixels
from vicregl_bench.records.matches import KeptMatches
from vicregl_bench.tables.detection_pictures import spread_colours
from vicregl_bench.tables.match_pictures import cell_centre, describe, draw_matches

GREY = np.full((2, 60, 60, 3), 128, dtype=np.uint8)


def of_colour(drawn: np.ndarray, index: int) -> np.ndarray:
    """(n, 2) places (row, column) of the colour of a match, lines blended with their edge too."""
    far = np.abs(drawn.astype(int) - spread_colours(3)[index].astype(int)).max(axis=2)
    return np.argwhere(far < 12)


def drawing(path: Path, kept: KeptMatches) -> np.ndarray:
    draw_matches([replace(kept, views=GREY)], path)
    return pixels(path)


def test_centres_by_hand() -> None:
    one = some_matches()  # 48 pixels, 2 x 3 cells
    assert cell_centre(one, 0) == (7.5, 11.5)
    assert cell_centre(one, 2) == (39.5, 11.5)
    assert cell_centre(one, 4) == (23.5, 35.5)


def test_in_words() -> None:
    assert describe(some_matches()) == (
        "a: 2 of the best 3 matches right; of all 2x3 cells 50.0 % right, distance error 12.5 % "
        "of the side"
    )


def test_lines_go_from_the_second_view_to_the_first(tmp_path: Path) -> None:
    """Match 2: from the bottom right cell of the right view to the left one of the left view."""
    drawn = drawing(tmp_path / "a.png", some_matches())
    width = drawn.shape[1]
    columns = of_colour(drawn, 2)[:, 1] / width
    panel = 3.2 / 6.7  # inches of 6.7
    left, right = panel / 6, 3.5 / 6.7 + 5 / 6 * panel
    assert abs(columns.min() - left) < 0.02 and abs(columns.max() - right) < 0.02


def test_a_wrong_match_is_dashed_and_shows_the_truth(tmp_path: Path) -> None:
    one = some_matches()
    wrong = drawing(tmp_path / "a.png", one)
    cells = one.cells.copy()
    cells[1, 2] = cells[1, 1]
    right = drawing(tmp_path / "b.png", replace(one, cells=cells))
    assert len(of_colour(wrong, 1)) < len(of_colour(right, 1))
    width = wrong.shape[1]
    truth = of_colour(wrong, 1)[:, 1] / width
    middle = 0.5 * 3.2 / 6.7  # the true cell, left of the one found, is in the middle column
    near = np.abs(truth - middle) < 0.01
    there = of_colour(right, 1)[:, 1] / width
    assert near.sum() > (np.abs(there - middle) < 0.01).sum()
    np.testing.assert_array_equal(of_colour(wrong, 2), of_colour(right, 2))


def test_one_row_a_picture(tmp_path: Path) -> None:
    draw_matches([some_matches()] * 2, tmp_path / "two.png")
    draw_matches([some_matches()], tmp_path / "one.png")
    two, one = pixels(tmp_path / "two.png"), pixels(tmp_path / "one.png")
    assert 1.8 < two.shape[0] / one.shape[0] < 2.1
