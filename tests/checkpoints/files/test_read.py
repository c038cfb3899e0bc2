import argparse
import hashlib
import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.files.hostile import Payload, error_of, save_arrays, save_object
from vicregl_bench.checkpoints import file_sha256, find_containers, read_file
from vicregl_bench.errors import CheckpointError


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_namespaces_and_numpy_values_are_read(tmp_path: Path, is_zip: bool) -> None:
    entries = {
        "w": torch.arange(3.0),
        "args": argparse.Namespace(lr=0.5),
        "best": np.float64(1.5),
        "seen": np.int64(7),
        "curve": np.array([1, 2], dtype=np.int32),
    }
    torch.save(entries, tmp_path / "f.pth", _use_new_zipfile_serialization=is_zip)
    loaded = read_file(tmp_path / "f.pth")
    assert isinstance(loaded, dict)
    assert loaded["w"].tolist() == [0.0, 1.0, 2.0]
    assert loaded["args"].lr == 0.5
    assert (loaded["best"], loaded["seen"]) == (1.5, 7)
    assert loaded["curve"].tolist() == [1, 2]


def test_numpy_1_module_names_are_read(tmp_path: Path) -> None:
    torch.save(
        {"best": np.float64(1.5)}, tmp_path / "new.pth", _use_new_zipfile_serialization=False
    )
    old = (tmp_path / "new.pth").read_bytes().replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in old
    (tmp_path / "old.pth").write_bytes(old)
    assert read_file(tmp_path / "old.pth") == {"best": 1.5}


def test_the_allow_list_is_left_as_it_was(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace()}, tmp_path / "f.pth")
    before = set(map(str, torch.serialization.get_safe_globals()))
    read_file(tmp_path / "f.pth")
    assert set(map(str, torch.serialization.get_safe_globals())) == before
    with torch.serialization.safe_globals([argparse.Namespace]):
        read_file(tmp_path / "f.pth")
        assert argparse.Namespace in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("is_zip", [True, False])
def test_foreign_global_is_refused_by_name_and_not_run(tmp_path: Path, is_zip: bool) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "evil.pth"
    entries = {"w": torch.ones(2), "x": Payload(trace, "Path.write_text")}
    torch.save(entries, path, _use_new_zipfile_serialization=is_zip)
    message = error_of(path)
    assert "pathlib" in message
    assert "--trust-pickle" in message
    assert not trace.exists()


def test_every_foreign_global_of_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    torch.save({"a": random.Random(0), "b": io.StringIO("x"), "c": argparse.Namespace()}, path)
    message = error_of(path)
    assert "_io.StringIO, random.Random;" in message
    assert "Namespace" not in message


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickle_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"x": Payload(trace, "Path.write_text")}, protocol=protocol))
    message = error_of(path)
    assert "pathlib" in message
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_only_foreign_globals_are_named(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "f.pkl"
    entries = [deque([1]), np.arange(2), OrderedDict(a=1), {1}, argparse.Namespace()]
    path.write_bytes(pickle.dumps([*entries, random.Random(0)], protocol=protocol))
    assert "foreign globals: collections.deque, random.Random; pass" in error_of(path)


def test_blocked_module_is_named(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    assert "posix.system" in error_of(path)


def test_new_pickle_protocol_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    torch.save({"w": torch.ones(2)}, path, pickle_protocol=4)
    message = error_of(path)
    assert "protocol 4" in message and "--trust-pickle" in message
    loaded = read_file(path, trust_pickle=True)
    assert isinstance(loaded, dict) and loaded["w"].tolist() == [1.0, 1.0]


def test_trust_pickle_loads_a_foreign_object(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    torch.save({"rng": random.Random(3), "w": torch.ones(2)}, path)
    loaded = read_file(path, trust_pickle=True)
    assert isinstance(loaded, dict)
    assert loaded["rng"].random() == random.Random(3).random()


def test_trusted_pickle_without_its_code_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    path.write_bytes(b"\x80\x02cnowhere_at_all\nThing\n.")
    assert "nowhere_at_all" in error_of(path, trust_pickle=True)


def test_no_such_file(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "none.pth")


def test_directory(tmp_path: Path) -> None:
    assert "is a directory" in error_of(tmp_path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_of(tmp_path / "pipe")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "f.pth").touch()
    assert "empty" in error_of(tmp_path / "f.pth")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"learning rate 0.1\n" * 20, "text"),
        ("Größe\n".encode() * 20, "text"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "JPEG"),
        (b"\x01\x02\x03\xff" * 30, "unknown kind"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "f.pth").write_bytes(content)
    message = error_of(tmp_path / "f.pth")
    assert "not a checkpoint" in message
    assert kind in message


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_zip(tmp_path: Path, share: float) -> None:
    path = tmp_path / "f.pth"
    torch.save({"w": torch.ones(10_000)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "truncated" in error_of(path)


@pytest.mark.parametrize("size", [30, 200, 20_000])
def test_truncated_legacy_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f.pth"
    torch.save({"w": torch.ones(10_000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:size])
    assert "truncated" in error_of(path)


def test_other_zip_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("notes.txt", "text")
    assert "torch.save did not write it" in error_of(tmp_path / "f.zip")
    with zipfile.ZipFile(tmp_path / "f.zip", "w"):
        pass
    assert "torch.save did not write it" in error_of(tmp_path / "f.zip")


def test_kind_is_told_by_content(tmp_path: Path) -> None:
    """Every kind is read under every other's name."""
    tensor, array = torch.ones(2), np.ones(2, np.float32)
    written: dict[str, Callable[[Path], Any]] = {
        "zip": lambda path: torch.save({"w": tensor}, path),
        "legacy": lambda path: torch.save(
            {"w": tensor}, path, _use_new_zipfile_serialization=False
        ),
        "safetensors": lambda path: save_file({"w": tensor}, path),
        "pickle": lambda path: path.write_bytes(pickle.dumps({"w": array}, 2)),
        "old pickle": lambda path: path.write_bytes(pickle.dumps({"w": array}, 0)),
        "npy": lambda path: save_object(path, {"w": array}),
        "npz": lambda path: save_arrays(path, w=array),
    }
    for kind, write in written.items():
        for suffix in (".pth", ".pkl", ".npy", ".npz", ".safetensors", ""):
            path = tmp_path / f"{kind}{suffix}"
            write(path)
            (found,) = find_containers(read_file(path)).containers
            assert (found.name, found.tensors["w"].tolist()) == ("", [1, 1]), path.name


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(CheckpointError, match="cannot be read"):
        file_sha256(tmp_path / "none")
