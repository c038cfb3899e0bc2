import argparse
import json

import torch
from torch import Tensor

from tests.checkpoints.layouts import vicregl_full
from vicregl_bench.checkpoints import find_containers, summarise_file


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
