import pytest
import torch
from torch import nn

from vicregl_bench.backbones.frozen import FrozenTrunk, fold_batch_norm, state_hash
from vicregl_bench.backbones.resnet import build_resnet, random_resnet_state


def lived_in(arch: str) -> nn.Module:
    """A backbone whose BatchNorm statistics and affine parameters are not trivial."""
    backbone = build_resnet(arch, 16)
    backbone.load_state_dict(random_resnet_state(arch, 0))
    generator = torch.Generator().manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2, generator=generator)
    backbone.eval()
    return backbone


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet50_v1"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-12), ("fp32", 1e-5)])
def test_folded_equals_plain(arch: str, precision: str, tolerance: float) -> None:
    backbone = lived_in(arch).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = backbone(images)
    maps = FrozenTrunk(backbone, precision=precision)(images)
    for ours, plain in zip(maps, expected, strict=True):
        scale = float(plain.abs().max())
        torch.testing.assert_close(ours.double(), plain, rtol=0, atol=tolerance * scale)


def test_nothing_of_batch_norm_is_left() -> None:
    folded = fold_batch_norm(lived_in("resnet50"))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


def test_bf16_is_near_fp32_and_comes_out_as_float32() -> None:
    backbone, images = lived_in("resnet18"), torch.randn(1, 3, 64, 64)
    exact = FrozenTrunk(backbone)(images)[-1]
    rough = FrozenTrunk(backbone, precision="bf16")(images)[-1]
    assert rough.dtype == torch.float32
    error = (rough - exact).norm() / exact.norm()
    assert 0 < error < 0.05


def test_running_it_changes_nothing_and_tampering_is_seen() -> None:
    trunk = FrozenTrunk(lived_in("resnet18"))
    trunk._module.train()  # what mmengine does to every model each iteration
    trunk(torch.randn(2, 3, 64, 64))
    assert trunk.unchanged()
    next(iter(trunk._module.parameters())).data[0, 0, 0, 0] += 1e-3
    assert not trunk.unchanged()


def test_an_unfolded_trunk_keeps_its_batch_norm_statistics() -> None:
    trunk = FrozenTrunk(lived_in("resnet18"), fold=False)
    trunk._module.train()
    trunk(torch.randn(2, 3, 64, 64))
    assert trunk.unchanged()


def test_hash_sees_buffers_and_names() -> None:
    a, b = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    assert state_hash(a) == state_hash(b)
    b.running_mean += 1e-6
    assert state_hash(a) != state_hash(b)
