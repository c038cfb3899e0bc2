import argparse
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints.files.hostile import (
    LEGACY_START,
    StorageId,
    dumps,
    error_of,
    storage,
    tensor,
    write_legacy,
    write_zip,
)
from vicregl_bench.checkpoints import find_containers, read_file, summarise_file
from vicregl_bench.checkpoints.weights import to_float32
from vicregl_bench.errors import CheckpointError

BOTH = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def saved(path: Path, value: object, is_zip: bool) -> Any:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return read_file(path)


@BOTH
def test_all_kinds_of_tensors_are_read(tmp_path: Path, is_zip: bool) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "whole": whole,
        "row": whole[1],
        "column": whole[:, 2],
        "transposed": whole.t(),
        "empty": torch.zeros(0, 5),
        "point": torch.tensor(2.5),
        "expanded": torch.ones(1).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "view": torch.arange(8)[2:].view(2, 3),
    } | {
        str(dtype): torch.ones(2, dtype=dtype)
        for dtype in (
            *(torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool),
            *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        )
    }
    if is_zip:  # torch itself cannot read these from the old format
        tensors["uint16"] = torch.ones(2, dtype=torch.uint16)
    loaded = saved(tmp_path / "f.pth", tensors, is_zip)
    for key, wanted in tensors.items():
        assert loaded[key].dtype == wanted.dtype, key
        assert torch.equal(loaded[key], wanted), key
    assert isinstance(loaded["parameter"], torch.nn.Parameter)


@BOTH
def test_all_kinds_of_plain_values_are_read(tmp_path: Path, is_zip: bool) -> None:
    state = OrderedDict(w=torch.ones(1))
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    values = {
        "state": state,
        "args": argparse.Namespace(lr=0.5, sizes=(1, 2)),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cuda:0"),
        "counter": Counter("aab"),
        "milestones": {3, 5},
        "bytes": b"\xff",
        "bytearray": bytearray(b"ab"),
        "complex": 1 + 2j,
        "curve": np.arange(3, dtype=">i4"),
        "best": np.float64(0.5),
        "text": np.array(["ab"]),
    }
    loaded = saved(tmp_path / "f.pth", values, is_zip)
    assert loaded["curve"].tolist() == [0, 1, 2]
    assert vars(loaded["args"]) == {"lr": 0.5, "sizes": (1, 2)}
    same = set(values) - {"args", "curve", "text", "state"}
    assert {key: loaded[key] for key in same} == {key: values[key] for key in same}
    assert loaded["state"]._metadata == {"": {"version": 1}}


@BOTH
def test_sparse_and_meta_tensors_are_read(tmp_path: Path, is_zip: bool) -> None:
    tensors = {"sparse": torch.eye(3).to_sparse(), "meta": torch.ones(10**6, device="meta")}
    loaded = saved(tmp_path / "f.pth", tensors, is_zip)
    assert torch.equal(loaded["sparse"].to_dense(), torch.eye(3))
    assert loaded["meta"].device.type == "meta"
    with pytest.raises(CheckpointError, match="dense floating-point"):
        to_float32(loaded["meta"], where="f: meta")


@BOTH
def test_expanded_view_takes_no_memory(tmp_path: Path, is_zip: bool) -> None:
    """A file of a kilobyte may hold 10**12 equal elements; they are never written out."""
    loaded = saved(tmp_path / "f.pth", {"w": torch.ones(1).expand(10**6, 10**6)}, is_zip)
    for look in (find_containers, summarise_file):
        with pytest.raises(CheckpointError, match=r"is an expanded view, 1,000,000,000,000 ele"):
            look(loaded)
    with pytest.raises(CheckpointError, match=r"f: w: is an expanded view, 1,000,000,000,000 ele"):
        to_float32(loaded["w"], where="f: w")


def test_storages_of_a_zip_are_mapped(tmp_path: Path) -> None:
    loaded = saved(tmp_path / "f.pth", {"w": torch.ones(10)}, is_zip=True)
    assert not loaded["w"].untyped_storage().resizable()


def test_what_others_have_allowed_is_not_allowed_here(tmp_path: Path) -> None:
    torch.save({"p": tmp_path}, tmp_path / "f.pth")
    with torch.serialization.safe_globals([Path, (getattr, "builtins.getattr")]):
        assert "foreign globals" in error_of(tmp_path / "f.pth")
        assert Path in torch.serialization.get_safe_globals()
    torch.save({"args": argparse.Namespace(lr=1), "curve": np.ones(2)}, tmp_path / "f.pth")
    with torch.serialization.safe_globals(
        [(dict, "argparse.Namespace"), (dict, "numpy.dtype"), (dict, "numpy.ndarray")]
    ):
        loaded = read_file(tmp_path / "f.pth")
    assert isinstance(loaded, dict) and loaded["args"].lr == 1
    assert loaded["curve"].tolist() == [1, 1]


def test_hand_written_archives_are_like_real_ones(tmp_path: Path) -> None:
    """The hostile files differ from these in one number only."""
    entries = {"w": tensor(storage(4), (2, 2), (2, 1))}
    write_zip(tmp_path / "zip", entries, {"data/0": struct.pack("<4f", 1, 2, 3, 4)})
    stored = {"0": struct.pack("<4f", 1, 2, 3, 4)}
    legacy = {"w": tensor(storage(4, legacy=True), (2, 2), (2, 1))}
    write_legacy(tmp_path / "legacy", legacy, stored)
    for name in ("zip", "legacy"):
        loaded = read_file(tmp_path / name)
        assert isinstance(loaded, dict) and loaded["w"].tolist() == [[1, 2], [3, 4]]


def test_views_of_the_old_format(tmp_path: Path) -> None:
    """Files of torch before 0.4 hold slices of storages."""

    def slice_of(start: int, length: int) -> dict[str, Any]:
        view = StorageId(("storage", torch.FloatStorage, "0", "cpu", 4, ("1", start, length)))
        return {"w": tensor(view, (length,), (1,))}

    stored = {"0": struct.pack("<4f", 1, 2, 3, 4)}
    write_legacy(tmp_path / "f", slice_of(1, 2), stored)
    loaded = read_file(tmp_path / "f")
    assert isinstance(loaded, dict) and loaded["w"].tolist() == [2, 3]
    write_legacy(tmp_path / "f", slice_of(1, 4), stored)
    assert "a view lies outside its storage" in error_of(tmp_path / "f")


def test_storages_of_the_old_format_must_agree(tmp_path: Path) -> None:
    two = [tensor(storage(count, legacy=True), (1,), (1,)) for count in (4, 8)]
    write_legacy(tmp_path / "f", two)
    assert "two sizes" in error_of(tmp_path / "f")
    write_legacy(tmp_path / "f", two[:1], {"0": bytes(16), "1": bytes(16)})
    assert "list of storages is another" in error_of(tmp_path / "f")
    content = b"".join(map(dumps, (*LEGACY_START, two[0], [("0",)])))
    (tmp_path / "f").write_bytes(content)
    assert "list of storages is another" in error_of(tmp_path / "f")
    write_legacy(tmp_path / "f", {}, {}, system=storage(4, legacy=True))
    assert "named too early" in error_of(tmp_path / "f")


@pytest.mark.parametrize("size", [5, 15, 30, 200, 300, 20_000])
def test_old_file_truncated(tmp_path: Path, size: int) -> None:
    saved(tmp_path / "f", {"w": torch.ones(10_000)}, is_zip=False)
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes()[:size])
    assert "truncated" in error_of(tmp_path / "f")


@pytest.mark.parametrize(
    "value",
    [
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # a persistent id that is a string
        dumps({"w": StorageId(("module", 1, "0", "cpu", 4))}),
        dumps({"w": StorageId(("storage", "FloatStorage", "0", "cpu", 4))}),
        dumps({"w": StorageId(("storage", torch.FloatStorage, "0", "cpu", -4))}),
        b"\x80\x02cargparse\nNamespace\n}b.",
    ],
)
def test_what_torch_does_not_write_is_refused(tmp_path: Path, value: bytes) -> None:
    write_zip(tmp_path / "f", value)
    assert "its pickle cannot be read" in error_of(tmp_path / "f")


def test_records_of_other_programs(tmp_path: Path) -> None:
    write_zip(tmp_path / "f", {}, {"constants.pkl": b"N."})
    assert "TorchScript" in error_of(tmp_path / "f")
