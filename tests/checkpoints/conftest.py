"""Narrow ResNets as targets and as weights."""

import pytest
from torch import Tensor

from tests.checkpoints.layouts import Shapes, make_state, resnet_shapes


@pytest.fixture(scope="session")
def targets() -> dict[str, Shapes]:
    """Five backbones; `resnet50_v1` has the shapes of `resnet50`."""
    found = {arch: resnet_shapes(arch) for arch in ("resnet18", "resnet34", "resnet50")}
    return found | {"resnet50_v1": found["resnet50"], "resnet101": resnet_shapes("resnet101")}


@pytest.fixture()
def resnet18(targets: dict[str, Shapes]) -> dict[str, Tensor]:
    return make_state(targets["resnet18"])


@pytest.fixture()
def resnet50(targets: dict[str, Shapes]) -> dict[str, Tensor]:
    return make_state(targets["resnet50"])
