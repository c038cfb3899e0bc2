from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.made_record import make_record
from vicregl_bench.data import palette
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record
from vicregl_bench.tables.pictures import (
    ClassBar,
    class_bars,
    draw_classes,
    draw_curve,
    draw_predictions,
)

TRUTH = np.zeros((30, 40), dtype=np.uint8)
TRUTH[10:20, 10:30] = 15
TRUTH[0] = 255


def scored(by_class: dict[str, float | None], **changes: Any) -> Record:
    return make_record(best={"by_class": by_class}, **changes)


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3) of what was drawn, which is a PNG."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(drawn: np.ndarray, colour: Any) -> int:
    return int((drawn == np.array(colour)).all(axis=2).sum())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "2007_000033.jpg"
    Image.new("RGB", (40, 30), (10, 200, 90)).save(path)
    return path


def test_bars_without_another_record_are_the_own_ones_highest_first() -> None:
    bars = class_bars(scored({"a": 10.0, "b": None, "c": 30.0, "d": 0.0}))
    assert bars == [ClassBar("c", 30.0), ClassBar("a", 10.0), ClassBar("d", 0.0)]


def test_bars_of_two_records_are_sorted_by_difference() -> None:
    own = scored({"a": 10.0, "b": 50.0, "c": 30.0, "d": None, "e": 0.0})
    other = scored({"a": 40.0, "b": 49.0, "c": 10.0, "d": 1.0, "e": None})
    bars = class_bars(own, other)
    assert [(bar.name, bar.gain) for bar in bars] == [("c", 20.0), ("b", 1.0), ("a", -30.0)]
    assert [(bar.score, bar.against) for bar in bars] == [(30.0, 10.0), (50.0, 49.0), (10.0, 40.0)]


def test_bars_need_a_best_and_the_same_classes() -> None:
    own = scored({"a": 10.0})
    without = make_record(best=None, results=(), status="interrupted")
    for pair in ((without, None), (own, without), (without, own)):
        with pytest.raises(ConfigError, match=r"a\.pth has no score, it was interrupted"):
            class_bars(*pair)
    with pytest.raises(ConfigError, match=r"other classes .* 2 and 1"):
        class_bars(own, scored({"a": 10.0, "b": 1.0}))
    with pytest.raises(ConfigError, match="other classes"):
        class_bars(scored({"a": 1.0, "b": 1.0}), scored({"b": 1.0, "a": 1.0}))
    with pytest.raises(ConfigError, match=r"no class has a value$"):
        class_bars(scored({"a": None}))
    with pytest.raises(ConfigError, match="no class has a value in both"):
        class_bars(own, scored({"a": None}))


def test_bars_are_drawn_in_two_colours_against_another_record(tmp_path: Path) -> None:
    own = scored({"a": 90.0, "b": 20.0})
    draw_classes(own, tmp_path / "one.png")
    draw_classes(own, tmp_path / "two.png", scored({"a": 10.0, "b": 90.0}, name="_b$x$.pth"))
    blue, orange = (31, 119, 180), (255, 127, 14)  # C0 and C1
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert count(one, blue) > 2000 and count(one, orange) == 0
    assert count(two, blue) > 2000 and count(two, orange) > 2000


def test_150_classes_stand_in_columns(tmp_path: Path) -> None:
    own = scored({f"class {i}": i / 2 for i in range(150)})
    draw_classes(own, tmp_path / "c.png", own)
    height, width = pixels(tmp_path / "c.png").shape[:2]
    assert 1500 < width < 1800 and 1200 < height < 1800


def test_the_curve_follows_the_record(tmp_path: Path) -> None:
    def head(lr: float, miou: float | None) -> dict[str, Any]:
        return {
            "lr": lr,
            "seed": 0,
            "score": miou,
            "scores": {"miou": miou, "pixel_accuracy": miou},
        }

    draw_curve(make_record(results=[head(0.1, 50.0), head(0.01, 40.0)]), tmp_path / "a.png")
    draw_curve(make_record(results=[head(0.1, 40.0), head(0.01, 50.0)]), tmp_path / "b.png")
    a, b = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    assert min(a.shape[:2]) > 300
    assert a.shape != b.shape or (a != b).any()
    for results in ([], [head(0.1, None)]):
        with pytest.raises(ConfigError, match="no learning-rate curve"):
            draw_curve(make_record(results=results, best=None), tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_a_grid_over_warm_ups_has_a_line_for_each(tmp_path: Path) -> None:
    def results(*iters: int) -> list[dict[str, Any]]:
        return [
            {
                "lr": lr,
                "seed": 0,
                "score": 400 * lr + number * 10,
                "options": {"warmup.iters": warmup, "warmup.start_factor": 0.001},
            }
            for number, warmup in enumerate(iters)
            for lr in (0.1, 0.01)
        ]

    blue, orange = (31, 119, 180), (255, 127, 14)
    one = make_record(task={"metric": "ap"}, results=results(100))
    two = make_record(task={"metric": "ap"}, results=results(100, 1000))
    draw_curve(one, tmp_path / "one.png")
    draw_curve(two, tmp_path / "two.png")
    alone, both = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert count(alone, blue) > 100 and count(alone, orange) == 0
    assert count(both, blue) > 100 and count(both, orange) > 100
    assert both.shape[0] > alone.shape[0] + 30  # the captions are below


def test_a_wrong_prediction_changes_its_panel_and_the_legend(picture: Path, tmp_path: Path) -> None:
    wrong = TRUTH.copy()
    wrong[12:18, 12:20] = 8
    colours, classes = palette(), [f"c{i}" for i in range(21)]
    for name, labels in (("right", TRUTH), ("wrong", wrong)):
        path = tmp_path / f"{name}.png"
        assert draw_predictions([(picture, TRUTH, labels)], colours, path, classes) == ()
    right, other = pixels(tmp_path / "right.png"), pixels(tmp_path / "wrong.png")
    assert right.shape == other.shape
    panels = 3 * 2.68 * 110  # inches of three pictures and gaps, by dots an inch
    changed = np.argwhere((right != other).any(axis=2) & (np.arange(right.shape[1]) > panels / 3))
    assert changed[:, 1].min() > 2 * panels / 3  # neither ground truth nor picture
    assert count(right, colours[8]) == 0 and count(other, colours[8]) > 1000
    assert (changed[:, 1] > panels).any()  # the legend names another class
    assert count(right, colours[255]) > 1000


def test_a_missing_or_broken_picture_is_grey_and_reported(picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no")
    absent = tmp_path / "absent.jpg"
    rows = [(path, TRUTH, TRUTH) for path in (picture, broken, absent)]
    assert draw_predictions(rows, palette(), tmp_path / "p.png") == (broken, absent)
    drawn = pixels(tmp_path / "p.png")
    area = 286 * 214  # a panel of 2.6 inches, 4:3
    assert 1.9 * area < count(drawn, (200, 200, 200)) < 2.1 * area


def test_a_legend_of_too_many_classes_counts_the_rest(picture: Path, tmp_path: Path) -> None:
    many = np.arange(150, dtype=np.uint8).repeat(8).reshape(30, 40)
    draw_predictions([(picture, many, many)], palette(), tmp_path / "p.png", ["only one name"])
    height, width = pixels(tmp_path / "p.png").shape[:2]
    assert width < 1400 and height < 350
