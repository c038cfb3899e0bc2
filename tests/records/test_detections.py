import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.records.test_predictions import np_bytes, some_predictions
from vicregl_bench.errors import RecordError
from vicregl_bench.records.detections import KeptDetections, load_detections, save_detections
from vicregl_bench.records.predictions import load_predictions, save_predictions

CLASSES = ("cat", "dog", "cow")


def some_detections() -> list[KeptDetections]:
    """A picture with three objects and two detections, and an empty one."""
    return [
        KeptDetections(
            image="JPEGImages/2007_000033.jpg",
            size=(100, 150),
            truth_boxes=np.array([[10, 10, 60, 50], [70, 20, 140, 90], [2, 2, 8, 8]], float),
            truth_labels=np.array([0, 2, 1]),
            ignored=np.array([False, False, True]),
            boxes=np.array([[12.3, 11, 61, 52], [70, 20, 140, 80]], float),
            scores=np.array([0.9, 0.1]),
            labels=np.array([0, 2]),
        ),
        KeptDetections(
            image="/far/b.jpg",
            size=(30, 40),
            truth_boxes=np.zeros((0, 4)),
            truth_labels=np.zeros(0, np.int64),
            ignored=np.zeros(0, bool),
            boxes=np.zeros((0, 4)),
            scores=np.zeros(0),
            labels=np.zeros(0, np.int64),
        ),
    ]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_detections(path, some_detections(), CLASSES)
    back, classes = load_detections(path)
    assert classes == CLASSES
    assert [one.name for one in back] == ["2007_000033", "b"]
    for one, kept in zip(back, some_detections(), strict=True):
        assert (one.image, one.size) == (kept.image, kept.size)
        for name in ("truth_boxes", "truth_labels", "ignored", "boxes", "scores", "labels"):
            expected = getattr(kept, name)
            if expected.dtype == np.float64:
                expected = expected.astype(np.float32)
            np.testing.assert_array_equal(getattr(one, name), expected)
    assert list(tmp_path.iterdir()) == [path]
    save_detections(path, [], CLASSES)
    assert load_detections(path) == ((), CLASSES)


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"p\.npz: No such file.*--force"):
        load_detections(tmp_path / "p.npz")


def test_every_cut_and_flipped_bits_end_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_detections(path, some_detections(), CLASSES)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordError, match=r"damaged, half-written.*--force"):
            load_detections(path)
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_detections(path)  # some bytes (dates, attributes) mean nothing
        except RecordError as error:
            assert "\n" not in str(error) and str(path) in str(error) and "--force" in str(error)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictions(path, some_predictions())
    with pytest.raises(RecordError, match=r"no predictions of a run.*--force"):
        load_detections(path)
    save_detections(path, some_detections(), CLASSES)
    with pytest.raises(RecordError, match=r"no predictions of a run.*--force"):
        load_predictions(path)
    for content in (pickle.dumps({"a": 1}), np_bytes(np.zeros(3)), b""):
        path.write_bytes(content)
        with pytest.raises(RecordError, match="damaged, half-written"):
            load_detections(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_0": np.zeros((3, 4), np.float32)}, "have scores that do not fit"),
        ({"truth_boxes_0": np.zeros((3, 5), np.float32)}, "have truth_boxes that do not fit"),
        ({"boxes_0": np.float32(1.0)}, "have boxes that do not fit"),
        ({"truth_labels_0": np.array([0, 3, 1], np.int32)}, "have truth_labels of no class"),
        ({"labels_0": np.array([0, -1], np.int32)}, "have labels of no class"),
        ({"ignored_0": np.zeros(3)}, "have ignored of the type float64"),
        ({"scores_0": np.array([np.nan, 1], np.float32)}, "are not finite"),
        ({"size_0": np.array([0, 5], np.int32)}, "have no size"),
        ({"size_0": np.array([], np.int32)}, "have no size"),
        ({"scores_0": np.array([{"a": 1}], dtype=object)}, "damaged"),  # would be unpickled
    ],
)
def test_impossible_arrays(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_detections(path, some_detections(), CLASSES)
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | change))
    with pytest.raises(RecordError, match=f"{message}.*--force"):
        load_detections(path)


def test_a_file_that_lacks_some(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_detections(path, some_detections(), CLASSES)
    with np.load(path) as arrays:
        content = dict(arrays)
    for name in ("classes", "images", "size_1", "truth_boxes_0"):
        np.savez(path, **{key: value for key, value in content.items() if key != name})
        with pytest.raises(RecordError, match=r"not all predictions that it lists.*--force"):
            load_detections(path)
