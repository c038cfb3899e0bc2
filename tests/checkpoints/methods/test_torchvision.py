from torch import Tensor

from tests.checkpoints.layouts import make_state, prefixed, resnet_shapes
from vicregl_bench.checkpoints import find_containers
from vicregl_bench.checkpoints.methods.torchvision import READER


def test_state_dict_with_fc_is_recognised() -> None:
    state = make_state(resnet_shapes("resnet18", head=True))
    for loaded in (state, {"state_dict": prefixed(state, "module.")}):
        assert READER.recognises(find_containers(loaded))


def test_backbone_without_fc_is_not(resnet18: dict[str, Tensor]) -> None:
    assert not READER.recognises(find_containers(resnet18))
