from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from tests.checkpoints.files.hostile import error_of, safetensors
from vicregl_bench.checkpoints import find_containers, read_file, summarise_file


def test_tensors_and_metadata_are_read(tmp_path: Path) -> None:
    state = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.half": torch.ones(2, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
        "none": torch.zeros(0, 4),
    }
    save_file(state, tmp_path / "model.pth", {"format": "pt"})  # told by content, not by name
    loaded = read_file(tmp_path / "model.pth")
    assert isinstance(loaded, dict)
    assert loaded.pop("__metadata__") == {"format": "pt"}
    assert list(loaded) == list(state) or set(loaded) == set(state)
    for key, wanted in state.items():
        assert loaded[key].dtype == wanted.dtype and torch.equal(loaded[key], wanted)


def test_file_is_one_container(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    save_file(dict(resnet18), tmp_path / "f.safetensors", {"format": "pt"})
    loaded = read_file(tmp_path / "f.safetensors")
    (found,) = find_containers(loaded).containers
    assert found.name == "" and set(found.tensors) == set(resnet18)
    assert summarise_file(loaded).other == {"__metadata__": "dict of 1"}


def test_no_metadata_no_entry(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "f.safetensors")
    loaded = read_file(tmp_path / "f.safetensors")
    assert isinstance(loaded, dict) and list(loaded) == ["w"]


def test_torch_file_by_that_name(tmp_path: Path) -> None:
    for is_zip in (True, False):
        path = tmp_path / "f.safetensors"
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=is_zip)
        loaded = read_file(path)
        assert isinstance(loaded, dict) and loaded["w"].tolist() == [1, 1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    data = save({"a": torch.ones(100), "b": torch.ones(100)})
    (tmp_path / "f").write_bytes(data[: int(len(data) * share)])
    assert "truncated" in error_of(tmp_path / "f")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{nope}", "invalid JSON"),
        (b'{"a":' * 1000, "recursion limit"),
        (b'{"a":{"dtype":"Q","shape":[1],"data_offsets":[0,4]}}', "unknown variant"),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "invalid value"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', "invalid offset"),
        (b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}', "overflow"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', "invalid shape"),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "f").write_bytes(safetensors(header, bytes(4)))
    message = error_of(tmp_path / "f")
    assert words in message and "safetensors" in message
