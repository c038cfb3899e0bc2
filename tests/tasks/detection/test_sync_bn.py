import pytest
import torch
from torch import nn

from vicregl_bench.tasks.detection import sync_bn
from vicregl_bench.tasks.detection.sync_bn import synchronise_batch_norm


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))


def kinds(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules() if hasattr(module, "running_mean")}


def test_one_process_keeps_its_layers() -> None:
    model = network()
    assert synchronise_batch_norm(model, torch.device("cuda")) is None
    assert kinds(model) == {nn.BatchNorm2d}


def test_several_synchronise_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_bn, "get_world_size", lambda: 2)
    model = network()
    before = dict(model.named_parameters())
    assert synchronise_batch_norm(model, torch.device("cuda")) is None
    assert kinds(model) == {nn.SyncBatchNorm}
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_several_on_the_cpu_do_not_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_bn, "get_world_size", lambda: 2)
    model = network()
    note = synchronise_batch_norm(model, torch.device("cpu"))
    assert note is not None and "not synchronised" in note
    assert kinds(model) == {nn.BatchNorm2d}
    assert synchronise_batch_norm(nn.Linear(2, 2), torch.device("cpu")) is None
