import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from vicregl_bench.errors import RecordError
from vicregl_bench.records.predictions import (
    KeptPrediction,
    image_below,
    load_predictions,
    predictions_path,
    save_predictions,
)


def some_predictions() -> list[KeptPrediction]:
    """Two pictures of different sizes."""
    truth = np.arange(12, dtype=np.uint8).reshape(3, 4)
    truth[0, 0] = 255
    return [
        KeptPrediction("JPEGImages/2007_000033.jpg", truth, truth[::-1].copy()),
        KeptPrediction("/far/b_leftImg8bit.png", truth[:2], truth[1:]),
    ]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = predictions_path(tmp_path / "voc_linear-v1-ci-r18.ckpt-abc.json")
    assert path.name == "voc_linear-v1-ci-r18.ckpt-abc.predictions.npz"
    save_predictions(path, some_predictions())
    back = load_predictions(path)
    assert [one.name for one in back] == ["2007_000033", "b"]
    for one, kept in zip(back, some_predictions(), strict=True):
        assert one.image == kept.image
        assert one.truth.dtype == one.labels.dtype == np.uint8
        np.testing.assert_array_equal(one.truth, kept.truth)
        np.testing.assert_array_equal(one.labels, kept.labels)
    assert list(tmp_path.iterdir()) == [path]


def test_no_predictions_are_a_file_too(tmp_path: Path) -> None:
    save_predictions(tmp_path / "p.npz", [])
    assert load_predictions(tmp_path / "p.npz") == ()


def test_paths_below_the_data_root_are_relative() -> None:
    root = Path("/data/voc")
    assert image_below(root / "JPEGImages" / "a.jpg", root) == "JPEGImages/a.jpg"
    assert image_below(Path("/other/a.jpg"), root) == "/other/a.jpg"


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"p\.npz: No such file.*--force"):
        load_predictions(tmp_path / "p.npz")


def test_every_cut_and_flipped_bits_end_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictions(path, some_predictions())
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordError, match="damaged, half-written"):
            load_predictions(path)
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_predictions(path)  # some bytes (dates, attributes) mean nothing
        except RecordError as error:
            assert "\n" not in str(error) and str(path) in str(error)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, intersect=np.zeros(3))
    with pytest.raises(RecordError, match="no predictions of a run"):
        load_predictions(path)
    for content in (pickle.dumps({"a": 1}), b"\x89PNG", np_bytes(np.zeros(3)), b""):
        path.write_bytes(content)
        with pytest.raises(RecordError, match="damaged, half-written"):
            load_predictions(path)


def np_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 5), np.uint8), "no one size"),
        (np.zeros((3, 4), np.int64), "no labels"),
        (np.array([{"a": 1}], dtype=object), "damaged"),  # would have to be unpickled
    ],
)
def test_impossible_labels(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictions(path, some_predictions()[:1])
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | {"labels_0": labels}))
    with pytest.raises(RecordError, match=message):
        load_predictions(path)
