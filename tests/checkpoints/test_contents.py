import argparse
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import vicregl_full
from vicregl_bench.checkpoints import contents, find_containers, summarise_file
from vicregl_bench.errors import CheckpointError


def test_containers_are_the_dicts_with_tensors() -> None:
    one = torch.ones(1)
    loaded = {"a": {"b": {"w": one}, "w": one}, "list": [one], "state": {0: {"w": one}}, "e": 3}
    assert [found.name for found in find_containers(loaded).containers] == ["a", "a.b"]


def test_depth_is_bounded() -> None:
    loaded = {"1": {"2": {"3": {"4": {"w": torch.ones(1), "5": {"w": torch.ones(1)}}}}}}
    assert [found.name for found in find_containers(loaded).containers] == ["1.2.3.4"]


def test_pickled_module_counts_as_its_state_dict() -> None:
    (found,) = find_containers({"model": torch.nn.Linear(2, 3)}).containers
    assert (found.name, list(found.tensors)) == ("model", ["weight", "bias"])


def test_summary_of_a_full_checkpoint(resnet18: dict[str, Tensor]) -> None:
    loaded = vicregl_full(resnet18) | {"args": argparse.Namespace(), "name": "x" * 100}
    summary = json.loads(json.dumps(summarise_file(loaded).to_dict()))
    (model,) = summary["containers"]
    assert model["name"] == "model"
    assert model["tensors"] == len(resnet18) + 8 + 8 + 2
    assert model["groups"] == {
        "module.backbone": len(resnet18),
        "module.maps_projector": 8,
        "module.projector": 8,
        "module.classifier": 2,
    }
    assert model["dtypes"] == {"float32": model["tensors"] - 22, "int64": 22}
    assert summary["other"] == {
        "epoch": "300",
        "optimizer": f"dict of 2, {len(resnet18)} tensors inside",
        "args": "Namespace",
        "name": repr("x" * 57 + "..."),
    }


def test_parameters_leave_out_running_statistics_and_counters() -> None:
    state = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert summarise_file(state).containers[0].parameters == 4 * 3 + 3 + 3 + 3


def test_what_is_no_dict_is_described() -> None:
    assert summarise_file([1, torch.ones(1)]).other == {"": "list of 2, 1 tensors inside"}


def test_what_holds_itself_is_described() -> None:
    loop: list[object] = [torch.ones(1)]
    loop.append({"again": loop})
    assert summarise_file({"loop": loop}).other["loop"].startswith("list of 2, ")


@pytest.mark.parametrize(
    "code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?", ">f4", ">i8"]
)
def test_arrays_of_numbers_are_tensors(code: str) -> None:
    array = np.array([[1, 0, 1], [1, 1, 0]], dtype=code)
    (found,) = find_containers({"model": {"w": array, "name": "x"}}).containers
    assert found.tensors["w"].tolist() == array.tolist()
    assert found.tensors["w"].dtype == torch.from_numpy(np.zeros(1, code.strip(">"))).dtype


def test_arrays_in_any_layout_are_tensors() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    fixed = matrix.copy()
    fixed.flags.writeable = False
    arrays = {
        "same": matrix,
        "fortran": np.asfortranarray(matrix),
        "flipped": matrix[::-1, ::-1],
        "column": matrix[:, 1],
        "fixed": fixed,
        "point": np.array(2.5),
        "empty": np.zeros((0, 2)),
        "odd": np.frombuffer(b"x" + matrix.tobytes() + bytes(7), "u1")[1:49].view("f8"),
    }
    (found,) = find_containers(arrays).containers
    assert {key: value.tolist() for key, value in found.tensors.items()} == {
        key: value.tolist() for key, value in arrays.items()
    }
    found.tensors["same"][0, 0] = 9
    found.tensors["fixed"][0, 0] = 9
    assert (matrix[0, 0], fixed[0, 0]) == (9, 0)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.array([1j]), np.zeros(1, "M8[s]")]
)
def test_other_arrays_are_no_tensors(array: Any) -> None:
    loaded = {"a": array, "wide": np.zeros(1, np.longdouble)}
    assert find_containers(loaded).containers == ()
    assert summarise_file(loaded).other["a"] == f"array of {array.dtype}"


def test_haiku_tree_is_one_container() -> None:
    """Modules by path, each with its arrays: DetCon's and BYOL's parameters and states."""
    one = np.ones(1, np.float32)
    tree = {
        "res_net50/~/initial_conv": {"w": one},
        "res_net50/~/initial_batchnorm": {"scale": one, "offset": one},
        "projector/linear": {"w": one, "b": one},
        "classifier": {"w": one, "b": one},
    }
    (found,) = find_containers({"params": tree}).containers
    assert found.name == "params"
    assert list(found.tensors) == [
        "res_net50/~/initial_conv/w",
        "res_net50/~/initial_batchnorm/scale",
        "res_net50/~/initial_batchnorm/offset",
        "projector/linear/w",
        "projector/linear/b",
        "classifier/w",
        "classifier/b",
    ]
    summary = summarise_file(tree)
    assert [found.tensors for found in summary.containers] == [7]
    assert summary.containers[0].groups == {"res_net50": 3, "projector": 2, "classifier": 2}
    assert summary.other == {}


def test_other_dicts_of_dicts_are_no_haiku_tree() -> None:
    one = torch.ones(1)
    for loaded in (
        {"a": {"w": one}, "b": {"w": one}},
        {"a/x": {"w": one}, "b/x": {"w": {"deeper": one}}},
        {"a/x": {"w": one}, "b/x": {}},
        {"a/x": {"w": one}, "b/x": one},
        {"a/x": {"w": one}, "b": {"w": one}},
    ):
        assert not any(
            "/w" in key for found in find_containers(loaded).containers for key in found.tensors
        )


def test_dict_inside_itself_is_entered_once() -> None:
    loop: dict[str, Any] = {"w": torch.ones(1)}
    loop["again"] = {"loop": loop, "w": torch.ones(1)}
    assert [found.name for found in find_containers(loop).containers] == ["", "again"]


def test_shared_dicts_are_entered_under_each_name() -> None:
    state = {"w": torch.ones(1)}
    names = [found.name for found in find_containers({"a": state, "b": state}).containers]
    assert names == ["a", "b"]


def test_dicts_that_share_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand names for one dict of a thousand names for one dict: a file of 50 kB."""
    loaded: dict[str, Any] = {"w": torch.ones(1)}
    for _ in range(4):
        loaded = dict.fromkeys(map(str, range(1000)), loaded)
    monkeypatch.setattr(contents, "MAX_STEPS", 100_000)
    with pytest.raises(CheckpointError, match="hold one another again and again"):
        find_containers(loaded)


def test_lists_that_share_are_counted_once() -> None:
    laughs: Any = [torch.ones(1), torch.ones(1)]
    for _ in range(100):
        laughs = [laughs] * 10
    assert summarise_file({"laughs": laughs}).other["laughs"] == "list of 10, 2 tensors inside"


def test_counting_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_STEPS", 100)
    loaded = {"a": [torch.ones(1)] * 1000, "b": [torch.ones(1)] * 1000}
    assert summarise_file(loaded).other == {
        "a": "list of 1000, at least 100 tensors inside",
        "b": "list of 1000",
    }


def test_absurd_keys_and_numbers_are_cut_short() -> None:
    nested: Any = ("x",)
    for _ in range(20):
        nested = (nested, nested)
    loaded = {nested: 1, 10**6000: 2, "n": 10**6000, "x" * 2000: {"w": torch.ones(1)}}
    other = summarise_file(loaded).other
    assert max(map(len, other)) <= 2000 and len(min(other, key=len)) == 1
    assert other["n"] == f"int of {(10**6000).bit_length()} bits"
    assert find_containers(loaded).containers == ()
