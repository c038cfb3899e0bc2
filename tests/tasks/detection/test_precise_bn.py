import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tasks.detection.pictures import CLASSES, PREPROCESSOR, batch, losses
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.detection import precise_bn as module
from vicregl_bench.tasks.detection.models import FasterRCNNOptions, build_frcnn_c4
from vicregl_bench.tasks.detection.precise_bn import precise_bn


class Small(nn.Module):
    """Two BatchNorms, the second on what the first makes; called as mmengine's models are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 5, 1)
        self.second, self.unused = nn.BatchNorm2d(5), nn.BatchNorm2d(7)

    def data_preprocessor(self, data: Tensor, training: bool) -> dict[str, Tensor]:
        assert training
        return {"inputs": data}

    def forward(self, inputs: Tensor, mode: str) -> Tensor:
        assert mode == "loss"
        x: Tensor = self.second(self.conv(self.first(inputs)).relu())
        return x


def batches(sizes: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        50 + 3 * k + (k + 1) * torch.randn(size, 3, 6, 5, generator=generator)
        for k, size in enumerate(sizes)
    ]


def kept_of_one(model: nn.Module, data: Tensor, name: str = "first") -> tuple[Tensor, Tensor]:
    """Statistics that torch's BatchNorm keeps of one batch alone."""
    model = copy.deepcopy(model)
    layer: Any = getattr(model, name)
    layer.momentum = 1.0
    model(data, mode="loss")
    return layer.running_mean, layer.running_var


@pytest.mark.parametrize("sizes", [[4, 4, 4], [1, 6, 2]])
def test_it_equals_one_big_batch(sizes: list[int]) -> None:
    model, data = Small(), batches(sizes)
    mean, variance = kept_of_one(model, torch.cat(data))
    assert precise_bn(model, data, 3) == 2  # the third is not run
    # rounding of float32 sums over 360 values around 50
    torch.testing.assert_close(model.first.running_mean, mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(model.first.running_var, variance, rtol=1e-5, atol=0)


def test_deeper_layers_see_batches_normalised_by_themselves() -> None:
    """Of the same batch three times, that of one; only the unbiased divisor differs."""
    model, data = Small(), batches([4])
    mean, variance = kept_of_one(model, data[0], "second")
    precise_bn(model, data * 3, 3)
    torch.testing.assert_close(model.second.running_mean, mean)
    n = 4 * 6 * 5
    biased = variance * (n - 1) / n
    torch.testing.assert_close(model.second.running_var, biased * 3 * n / (3 * n - 1))


def test_a_layer_that_runs_twice_counts_twice() -> None:
    class Twice(Small):
        def forward(self, inputs: Tensor, mode: str) -> Tensor:
            x: Tensor = self.first(inputs[:1]) + self.first(inputs[1:])
            return x

    model, data = Twice(), batches([2])
    mean, variance = kept_of_one(Small(), data[0])
    precise_bn(model, data, 1)
    torch.testing.assert_close(model.first.running_mean, mean)
    torch.testing.assert_close(model.first.running_var, variance, rtol=1e-5, atol=0)


def test_nothing_else_changes() -> None:
    model = Small()
    model.register_buffer("iteration", torch.tensor(7))
    model.eval()
    model.first.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    precise_bn(model, batches([2, 2]), 2)
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    statistics = ("running_mean", "running_var")
    assert changed == {f"{layer}.{name}" for layer in ("first", "second") for name in statistics}
    assert [m.training for m in model.children()] == [True, False, False, False]
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_frozen_layers_stay() -> None:
    class Frozen(Small):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self.first.eval()
            return self

    model = Frozen()
    assert precise_bn(model, batches([2]), 1) == 1
    assert not model.first.running_mean.any()  # type: ignore[union-attr]


def test_a_loader_too_short_and_no_batches() -> None:
    model = Small()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="ended after 2"):
        precise_bn(model, batches([2, 2]), 3)
    with pytest.raises(ConfigError, match="at least 1"):
        precise_bn(model, batches([2, 2]), 0)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_several_processes_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads in the place of processes; each has batches of its own."""
    data = batches([4, 2])
    barrier, given = threading.Barrier(2), [torch.zeros(0)] * 2
    ranks = threading.local()

    def all_reduce(tensor: Tensor) -> None:
        given[ranks.number] = tensor.clone()
        barrier.wait()
        tensor.copy_(given[0] + given[1])
        barrier.wait()

    monkeypatch.setattr(module, "all_reduce", all_reduce)
    models = [Small(), Small()]

    def work(number: int) -> None:
        ranks.number = number
        precise_bn(models[number], data[number : number + 1], 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mean, variance = kept_of_one(Small(), torch.cat(data))
    for model in models:
        torch.testing.assert_close(model.first.running_mean, mean)
        torch.testing.assert_close(model.first.running_var, variance, rtol=1e-5, atol=0)


def test_all_of_a_detectors_layers_are_set() -> None:
    model = build_frcnn_c4(
        read_backbone("random:resnet18x0.25"),
        FasterRCNNOptions(proposals_train=(200, 50), anchors=64, regions=32),
        num_classes=CLASSES,
        data_preprocessor=PREPROCESSOR,
        run_seed=0,
        head_seed=0,
    )
    expected = copy.deepcopy(model)
    for layer in expected.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    losses(expected, batch(), seed=5)
    torch.manual_seed(5)
    assert precise_bn(model, [batch()], 1) == 21  # a ResNet-18 has 20
    for (name, value), other in zip(
        model.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        if "running" in name:
            torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=name)
