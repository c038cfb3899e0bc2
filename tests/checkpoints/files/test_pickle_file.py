import pickle
import random
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints.files.hostile import dumps, error_of, storage
from vicregl_bench.checkpoints import find_containers, read_file


@pytest.mark.parametrize("protocol", range(6))
def test_detectron2_file_becomes_a_container(tmp_path: Path, protocol: int) -> None:
    model = {
        "stem.conv1.weight": np.ones((2, 3, 7, 7), np.float32),
        "stem.conv1.norm.bias": np.zeros(2, np.float32),
    }
    entries = {"model": model, "__author__": "MOCO", "matching_heuristics": True}
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(entries, protocol))
    loaded = read_file(tmp_path / "f.pkl")
    (found,) = find_containers(loaded).containers
    assert found.name == "model"
    assert {key: tuple(value.shape) for key, value in found.tensors.items()} == {
        "stem.conv1.weight": (2, 3, 7, 7),
        "stem.conv1.norm.bias": (2,),
    }


@pytest.mark.parametrize("protocol", range(6))
def test_every_foreign_global_is_named(tmp_path: Path, protocol: int) -> None:
    entries = [deque([1]), np.ones(1), Path("x"), random.Random(0)]
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(entries, protocol))
    message = error_of(tmp_path / "f.pkl")
    named = message.partition("globals: ")[2].partition(";")[0].split(", ")
    assert {"collections.deque", "pathlib.PosixPath", "random.Random"} <= set(named)
    assert named == sorted(named) and not any("numpy" in name for name in named)
    assert "--trust-pickle" in message


def test_many_foreign_globals_are_cut_short(tmp_path: Path) -> None:
    names = b"".join(b"cnowhere\nn%03d\n" % number for number in range(100))
    (tmp_path / "f.pkl").write_bytes(b"\x80\x02" + names + b".")
    message = error_of(tmp_path / "f.pkl")
    assert "nowhere.n039 and 60 more; pass" in message


def test_trusted_pickle_is_loaded_whole(tmp_path: Path) -> None:
    entries = {"rng": random.Random(3), "w": np.ones(2)}
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(entries))
    loaded = read_file(tmp_path / "f.pkl", trust_pickle=True)
    assert isinstance(loaded, dict)
    assert loaded["rng"].random() == random.Random(3).random()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02cnowhere_at_all\nThing\n.", "needs code that is not installed here"),
        (b"\x80\x02cos\nnothing_like_it\n.", "needs code that is not installed here"),
        (b"\x80\x02cbuiltins\nzip\nN\x85R.", "its pickle cannot be read"),
        (pickle.dumps({"a": 1})[:-3], "truncated"),
    ],
)
def test_trusted_pickle_fails_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "f.pkl").write_bytes(content)
    assert words in error_of(tmp_path / "f.pkl", trust_pickle=True)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_pickle(tmp_path: Path, protocol: int, share: float) -> None:
    data = pickle.dumps({"model": {"w": np.ones(1000)}}, protocol)
    (tmp_path / "f.pkl").write_bytes(data[: int(len(data) * share)])
    assert "truncated" in error_of(tmp_path / "f.pkl")


def test_persistent_ids_belong_to_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "f.pkl").write_bytes(dumps({"w": storage(4)}))
    assert "torch.FloatStorage" in error_of(tmp_path / "f.pkl")
    (tmp_path / "f.pkl").write_bytes(b"\x80\x02NQ.")
    assert "cannot be read" in error_of(tmp_path / "f.pkl")


def test_tensors_pickled_without_torch_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"w": torch.ones(2)}))
    assert "torch._utils._rebuild_tensor_v2, torch.storage._load_from_bytes" in error_of(
        tmp_path / "f.pkl"
    )


@pytest.mark.parametrize(
    "text", ["(c) 2020 somebody\nall rights\n", "config\nline two\nN.\n", "}{\n", "[1, 2]\n", "c"]
)
def test_text_is_no_pickle(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.pkl").write_text(text)
    assert "looks like text" in error_of(tmp_path / "f.pkl")
