import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.optim import LARS, learning_rate


def test_lars_is_golden(shared: Path) -> None:
    with np.load(shared / "golden/lars.npz") as data:
        arrays = {k: torch.tensor(v) for k, v in data.items()}
    parameters = [torch.nn.Parameter(arrays[f"init_{k}"].clone()) for k in range(3)]
    optimizer = LARS(parameters, lr=0.0)
    for step, lr in enumerate(arrays["lrs"].tolist()):
        optimizer.param_groups[0]["lr"] = lr
        for k, parameter in enumerate(parameters):
            parameter.grad = arrays[f"grads_{k}"][step].clone()
        optimizer.step()
    for k, parameter in enumerate(parameters):
        torch.testing.assert_close(parameter.detach(), arrays[f"final_{k}"], rtol=1e-9, atol=0)


def test_lars_leaves_one_dimension_to_plain_momentum() -> None:
    ours = torch.nn.Parameter(torch.ones(3))
    peer = torch.nn.Parameter(torch.ones(3))
    optimizers = [LARS([ours], lr=0.1), torch.optim.SGD([peer], lr=0.1, momentum=0.9)]
    for _ in range(3):
        for parameter, optimizer in zip((ours, peer), optimizers, strict=True):
            parameter.grad = parameter.detach().clone()
            optimizer.step()
    torch.testing.assert_close(ours, peer)


def test_schedule_is_golden(shared: Path) -> None:
    cases = json.loads((shared / "golden/lr_schedule.json").read_text())
    assert len(cases) > 5
    for case in cases:
        lr = learning_rate(
            case["step"],
            base_lr=case["base_lr"],
            batch_size=case["batch"],
            end_lr_ratio=case["end_ratio"],
            total_steps=case["total"],
            warmup_steps=case["warmup"],
        )
        assert lr == pytest.approx(case["lr"], rel=1e-9, abs=1e-15)


def test_impossible_values() -> None:
    with pytest.raises(ValueError, match="momentum"):
        LARS([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=-1)
    with pytest.raises(ValueError, match="do not fit"):
        learning_rate(0, base_lr=1, batch_size=1, end_lr_ratio=0, total_steps=10, warmup_steps=10)
