from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tables.test_pictures import count, pixels
from vicregl_bench.data import palette
from vicregl_bench.records.detections import KeptDetections
from vicregl_bench.tables.detection_pictures import (
    best_detections,
    draw_detections,
    spread_colours,
)

CLASSES = ("cat", "dog", "a $very$ long name of a cow")
COLOURS = palette()[1:]
RIGHT = 4.5 * 110  # where the panel of predictions begins: inches by dots an inch


def kept(**changes: Any) -> KeptDetections:
    """A cat that is there, and found."""
    one = KeptDetections(
        image="a.jpg",
        size=(150, 200),
        truth_boxes=np.array([[20.0, 30, 120, 130]]),
        truth_labels=np.array([0]),
        ignored=np.array([False]),
        boxes=np.array([[25.0, 30, 120, 120]]),
        scores=np.array([0.8]),
        labels=np.array([0]),
    )
    return replace(one, **changes)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (200, 150), (10, 200, 90)).save(path)
    return path


def drawing(picture: Path, one: KeptDetections, **options: Any) -> np.ndarray:
    """(H, W, 3) of a drawing of one picture."""
    path = picture.parent / "drawn.png"
    assert draw_detections([(picture, one)], CLASSES, path, COLOURS, **options) == ()
    return pixels(path)


def of_class(drawn: np.ndarray, label: int) -> tuple[int, int]:
    """Pixels of a class's colour, among truth and among predictions."""
    middle = int(RIGHT)
    return count(drawn[:, :middle], COLOURS[label]), count(drawn[:, middle:], COLOURS[label])


def test_boxes_are_in_their_panel_and_colour(picture: Path) -> None:
    truth, found = of_class(drawing(picture, kept()), 0)
    assert truth > 500 and found > 500
    assert of_class(drawing(picture, kept()), 1) == (0, 0)
    truth, found = of_class(drawing(picture, kept(labels=np.array([1]))), 0)
    assert truth > 500 and found == 0
    assert of_class(drawing(picture, kept(labels=np.array([2]))), 2)[1] > 500


def test_ignored_objects_are_dashed(picture: Path) -> None:
    whole, _ = of_class(drawing(picture, kept()), 0)
    dashed, _ = of_class(drawing(picture, kept(ignored=np.array([True]))), 0)
    assert 0.3 * whole < dashed < 0.8 * whole


def test_weak_detections_are_not_drawn(picture: Path) -> None:
    weak = kept(scores=np.array([0.29]))
    assert of_class(drawing(picture, weak), 0)[1] == 0
    assert of_class(drawing(picture, weak, threshold=0.2), 0)[1] > 500


def test_the_best_are_drawn() -> None:
    many = kept(
        boxes=np.zeros((40, 4)), scores=np.linspace(0.1, 0.99, 40), labels=np.zeros(40, int)
    )
    assert best_detections(many, 0.3, 20) == list(range(39, 19, -1))
    assert best_detections(many, 0.9, 20) == [39, 38, 37, 36]
    assert best_detections(kept(scores=np.array([0.3])), 0.3, 20) == [0]  # the threshold counts


def test_a_picture_without_objects(picture: Path) -> None:
    nothing = {"truth_boxes": np.zeros((0, 4)), "truth_labels": np.zeros(0, int)}
    nothing |= {"ignored": np.zeros(0, bool), "boxes": np.zeros((0, 4))}
    nothing |= {"scores": np.zeros(0), "labels": np.zeros(0, int)}
    drawn = drawing(picture, kept(**nothing))
    assert of_class(drawn, 0) == (0, 0)
    assert drawn.shape[1] > 900


def test_a_missing_picture_is_grey_and_reported(picture: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.jpg"
    rows = [(picture, kept()), (absent, kept())]
    assert draw_detections(rows, CLASSES, tmp_path / "p.png", COLOURS) == (absent,)
    drawn = pixels(tmp_path / "p.png")
    area = 2 * 484 * 363  # two panels of 4.4 inches, 4:3
    assert 0.9 * area < count(drawn, (200, 200, 200)) < area
    assert of_class(drawn, 0)[1] > 1000  # boxes on grey


def test_boxes_beyond_the_picture_do_not_change_the_drawing(picture: Path) -> None:
    inside = drawing(picture, kept())
    beyond = drawing(picture, kept(boxes=np.array([[-30.0, -20, 500, 400]])))
    assert beyond.shape == inside.shape


def test_colours_are_far_apart() -> None:
    colours = spread_colours(80).astype(int)
    assert colours.shape == (80, 3)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert (apart + 1000 * np.eye(80, dtype=int)).min() >= 15
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100  # neighbours in the list
    assert spread_colours(0).shape == (0, 3)
