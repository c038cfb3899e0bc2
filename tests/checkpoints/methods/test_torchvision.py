import timm
import torch
import torchvision
from torch import Tensor

from tests.checkpoints.layouts import make_state, prefixed, resnet_shapes
from vicregl_bench.checkpoints import find_containers
from vicregl_bench.checkpoints.methods.torchvision import READER


def test_state_dict_with_fc_is_recognised() -> None:
    state = make_state(resnet_shapes("resnet18", head=True))
    for loaded in (state, {"state_dict": prefixed(state, "module.")}):
        assert READER.recognises(find_containers(loaded))


def test_anti_aliased_resnets_cannot_be_told_and_the_card_says_so() -> None:
    with torch.device("meta"):
        plain = torchvision.models.resnet50().state_dict()
        blurred = [timm.create_model(name).state_dict() for name in ("resnetaa50", "resnetblur50")]
    for state in blurred:
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in plain.items()
        }
        assert READER.recognises(find_containers(dict(state)))
    assert "resnetaa50, resnetblur50" in READER.card.note


def test_backbone_without_fc_is_not(resnet18: dict[str, Tensor]) -> None:
    assert not READER.recognises(find_containers(resnet18))
