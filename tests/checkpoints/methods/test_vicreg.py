from typing import Any

import pytest
from torch import Tensor

from tests.checkpoints.layouts import barlow_full, vicreg_full, vicregl_full
from vicregl_bench.checkpoints import find_containers
from vicregl_bench.checkpoints.methods.vicreg import READER


def recognised(loaded: dict[str, Any]) -> bool:
    return READER.recognises(find_containers(loaded))


def test_full_checkpoint_is_recognised(resnet18: dict[str, Tensor]) -> None:
    assert recognised(vicreg_full(resnet18))


@pytest.mark.parametrize("layout", [vicregl_full, barlow_full])
def test_its_neighbours_are_not(resnet18: dict[str, Tensor], layout: Any) -> None:
    assert not recognised(layout(resnet18))
    assert not recognised(resnet18)
