import torch
from torch import Tensor

from vicregl_bench.checkpoints import find_containers, recognise


def test_bare_takes_what_no_method_recognises(resnet18: dict[str, Tensor]) -> None:
    for loaded in (resnet18, {"state_dict": resnet18}, {"w": torch.ones(1)}, {}):
        assert recognise(find_containers(loaded)).card.method == "bare"
