import dataclasses
import json

import torch

from vicregl_bench.backbones.layer_statistics import layer_statistics, untrained
from vicregl_bench.backbones.source import read_backbone


def test_a_fresh_network_is_told_from_a_trained_one() -> None:
    source = read_backbone("random:resnet18x0.25", seed=7)
    rows = layer_statistics(source)
    large = [row for row in rows if torch.Size(row.shape).numel() >= 1024]
    assert len(untrained(rows)) > 0.8 * len(large)
    heavy = {
        key: value.sign() * value.abs().pow(2) if value.ndim > 1 else value
        for key, value in source.state_dict.items()
    }
    assert untrained(layer_statistics(dataclasses.replace(source, state_dict=heavy))) == ()


def test_values() -> None:
    source = read_backbone("random:resnet18x0.25")
    weight = torch.zeros(16, 3, 7, 7)
    weight[:4] = 2.0  # and the last four outputs are dead
    weight[4:12] = 1.0
    state = {**source.state_dict, "conv1.weight": weight}
    row = layer_statistics(dataclasses.replace(source, state_dict=state))[0]
    assert (row.key, row.shape, row.dead) == ("conv1.weight", (16, 3, 7, 7), 0.25)
    assert row.std == float(weight.std(unbiased=False))
    fresh = float(source.state_dict["conv1.weight"].std(unbiased=False))
    assert row.fresh_std == fresh
    assert 2.5 < row.fresh_kurtosis < 3.5
    assert json.loads(json.dumps(row.to_dict()))["shape"] == [16, 3, 7, 7]
