import argparse
import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.files.hostile import RECONSTRUCT, Made, array_state, dumps, error_of
from vicregl_bench.checkpoints import read_file

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(12, dtype=np.int16)[::-2],
    "big": np.arange(3, dtype=">f8"),
    "half": np.array([1, 2], np.float16),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "point": np.array(2.5),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "complex": np.array([1j]),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_rebuilt(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(pickle.dumps(ARRAYS, protocol))
    loaded = read_file(path)
    assert isinstance(loaded, dict) and list(loaded) == list(ARRAYS)
    for name, wanted in ARRAYS.items():
        assert loaded[name].shape == wanted.shape
        assert loaded[name].dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
        assert loaded[name].tolist() == wanted.tolist()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_rebuilt(tmp_path: Path, protocol: int) -> None:
    values = {
        "args": argparse.Namespace(lr=0.5, arch="resnet50"),
        "ordered": OrderedDict(b=1, a=2),
        "counter": Counter("abca"),
        "scalars": [np.float32(1.5), np.int64(7), np.bool_(True), np.str_("x"), np.float64(2)],
        "set": {1, "a"},
        "frozen": frozenset({2}),
        "bytes": [b"", b"\xff\x00", bytearray(b"ab"), bytearray()],
        "complex": 1 + 2j,
    }
    path = tmp_path / "f.pkl"
    path.write_bytes(pickle.dumps(values, protocol))
    loaded = read_file(path)
    assert isinstance(loaded, dict)
    assert isinstance(loaded["args"], argparse.Namespace)
    assert vars(loaded["args"]) == {"lr": 0.5, "arch": "resnet50"}
    assert loaded | {"args": values["args"]} == values


def test_python_2_pickles_are_read(tmp_path: Path) -> None:
    """As cPickle writes them: byte strings for names and values, NumPy 1's module names."""
    values = np.array([1.0, 200.0], dtype="<f4").tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85U\x01btR"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x03(U\x02f4K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + values + b"tb"
    )
    ordered = b"ccollections\nOrderedDict\n(]]U\x01aaK\x05aatR"
    data = b"\x80\x02}(U\x05modelq\x05}U\x04conv" + array + b"sU\x01o" + ordered + b"u."
    (tmp_path / "f.pkl").write_bytes(data)
    loaded = read_file(tmp_path / "f.pkl")
    assert isinstance(loaded, dict)
    assert loaded["model"]["conv"].tolist() == [1.0, 200.0]
    assert loaded["o"] == {"a": 5}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Made(set, [(1, 2)]), "set has members"),
        (Made(complex, "1"), "complex number"),
        (Made(OrderedDict, [(("a", 1), 2)]), "OrderedDict has items"),
        (Made(np.dtype, [("a", "f8")]), "structured or unknown dtype"),
        (Made(np.dtype, "f8,f8"), "structured or unknown dtype"),
        (Made(np.dtype, "f8", state=(3, "<", (np.dtype("i4"), (9,)), None, None)), "structured"),
        (array_state((2,), b"x" * 15), "does not fit"),
        (array_state((-1,), b""), "has a shape"),
        (array_state((10**12,), b"", "S0"), "does not fit"),
        (array_state((0, 10**30), [1]), "does not fit"),
        (Made(RECONSTRUCT, dict, (0,), b"b"), "foreign"),
        (Made(set, state={"a": 1}), "cannot be read"),
    ],
)
def test_what_no_pickler_writes_is_refused(tmp_path: Path, value: Any, words: str) -> None:
    (tmp_path / "f.pkl").write_bytes(dumps(value))
    assert words in error_of(tmp_path / "f.pkl")


@pytest.mark.parametrize(
    "name",
    [b"argparse\nNamespace", b"collections\nOrderedDict", b"numpy\ndtype", b"numpy\nndarray"],
)
@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00xK\x01s", b"N}X\x01\x00\x00\x00xK\x01s\x86"])
def test_a_pickle_changes_no_class_or_function(tmp_path: Path, name: bytes, state: bytes) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(b"\x80\x02c" + name + b"\n" + state + b"b.")
    assert "cannot be read" in error_of(path)
    assert not hasattr(argparse.Namespace, "x")
    path.write_bytes(b"\x80\x02cargparse\nNamespace\n)R.")
    assert not hasattr(read_file(path), "x")


def test_arrays_of_objects_do_not_nest(tmp_path: Path) -> None:
    inner = np.array([None], dtype=object)
    outer = np.empty(1, dtype=object)
    outer[0] = inner
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(outer))
    assert "an array of objects holds arrays" in error_of(tmp_path / "f.pkl")
