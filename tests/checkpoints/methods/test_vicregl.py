import pytest
from torch import Tensor

from tests.checkpoints.layouts import barlow_full, vicreg_full, vicregl_full
from vicregl_bench.checkpoints import find_containers
from vicregl_bench.checkpoints.methods.vicregl import READER


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_full_checkpoint_is_recognised_at_every_alpha(
    resnet18: dict[str, Tensor], alpha: float
) -> None:
    assert READER.recognises(find_containers(vicregl_full(resnet18, alpha)))


def test_its_neighbours_are_not(resnet18: dict[str, Tensor]) -> None:
    for loaded in (vicreg_full(resnet18), barlow_full(resnet18), resnet18):
        assert not READER.recognises(find_containers(loaded))
