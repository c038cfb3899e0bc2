import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.files.hostile import (
    Made,
    array_state,
    dumps,
    error_of,
    npy,
    npz,
    save_object,
)
from vicregl_bench.checkpoints import find_containers, read_file


def test_dict_in_an_npy_file(tmp_path: Path) -> None:
    tree = {"res_net50/~/initial_conv": {"w": np.ones((7, 7, 3, 2), np.float32)}}
    save_object(tmp_path / "f.npy", tree)
    loaded = read_file(tmp_path / "f.npy")
    (found,) = find_containers(loaded).containers
    assert {key: tuple(value.shape) for key, value in found.tensors.items()} == {
        "res_net50/~/initial_conv/w": (7, 7, 3, 2)
    }


def test_foreign_object_in_an_npy_file(tmp_path: Path) -> None:
    save_object(tmp_path / "f.npy", {"path": Path("a")})
    assert "pathlib" in error_of(tmp_path / "f.npy")
    assert read_file(tmp_path / "f.npy", trust_pickle=True) == {"path": Path("a")}


def test_plain_arrays_name_no_tensors(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((2, 3)))
    message = error_of(tmp_path / "f.npy")
    assert "holds one array of float64" in message and "np.savez" in message


def test_several_objects_are_no_dict(tmp_path: Path) -> None:
    save_object(tmp_path / "f.npy", [{"a": 1}, None])
    assert "not one dict" in error_of(tmp_path / "f.npy")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated_npy(tmp_path: Path, share: float) -> None:
    save_object(tmp_path / "f.npy", {"w": np.ones(1000)})
    data = (tmp_path / "f.npy").read_bytes()
    (tmp_path / "f.npy").write_bytes(data[: int(len(data) * share)])
    message = error_of(tmp_path / "f.npy")
    assert "truncated" in message or "download or copy the file again" in message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_a_dict_of_arrays(tmp_path: Path, save: Any) -> None:
    arrays = {
        "a/kernel": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "none": np.zeros((0, 2)),
    }
    save(tmp_path / "f.npz", **arrays)
    loaded = read_file(tmp_path / "f.npz")
    assert isinstance(loaded, dict) and list(loaded) == list(arrays)
    assert all(np.array_equal(loaded[key], wanted) for key, wanted in arrays.items())
    (found,) = find_containers(loaded).containers
    assert list(found.tensors) == list(arrays)
    assert found.tensors["big"].tolist() == [0, 1, 2]


def test_zeros_among_weights_are_no_bomb(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=10_000)
    np.savez_compressed(tmp_path / "f.npz", w=weights, zeros=np.zeros(100_000))
    loaded = read_file(tmp_path / "f.npz")
    assert isinstance(loaded, dict) and loaded["zeros"].shape == (100_000,)


def test_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=np.array({"w": 1}))
    message = error_of(tmp_path / "f.npz", trust_pickle=True)
    assert "'a.npy' cannot be read (it holds Python objects" in message


def test_other_packing_is_refused(tmp_path: Path) -> None:
    entries = {"a.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(4))}
    npz(tmp_path / "f.npz", entries, zipfile.ZIP_LZMA)
    assert "packed in another way" in error_of(tmp_path / "f.npz")


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=np.arange(100.0))
    data = bytearray((tmp_path / "f.npz").read_bytes())
    data[500] ^= 1
    (tmp_path / "f.npz").write_bytes(bytes(data))
    assert "Bad CRC-32" in error_of(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "negative"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "does not fit"),
        ("{'descr': 'V0', 'fortran_order': False, 'shape': (1000000000,), }", "does not fit"),
        ("__import__('os').system('true')", "cannot be read"),
        ("(" * 110, "cannot be read"),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, header: str, words: str) -> None:
    npz(tmp_path / "f.npz", {"a.npy": npy(header, bytes(4))})
    assert words in error_of(tmp_path / "f.npz")


def test_elements_of_no_size_are_counted(tmp_path: Path) -> None:
    header = "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,), }"
    npz(tmp_path / "f.npz", {"a.npy": npy(header)})
    assert "shape does not fit" in error_of(tmp_path / "f.npz")


def test_object_array_of_absurd_shape(tmp_path: Path) -> None:
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1000000000000,), }"
    (tmp_path / "f.npy").write_bytes(npy(header, dumps(array_state((10**12,)))))
    assert "does not fit" in error_of(tmp_path / "f.npy")
    (tmp_path / "f.npy").write_bytes(npy(header, dumps(Made(dict))))
    assert "foreign globals: __builtin__.dict" in error_of(tmp_path / "f.npy")
