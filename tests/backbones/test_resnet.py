import pytest
import torch
import torchvision
from mmseg.models.backbones import ResNet

from vicregl_bench.backbones.resnet import (
    ARCHS,
    SPECS,
    build_res5,
    build_resnet,
    random_resnet_state,
    resnet_options,
    resnet_shapes,
)
from vicregl_bench.errors import ConfigError

ARCH_NAMES = sorted(ARCHS)


def built(arch: str, output_stride: int) -> torch.nn.Module:
    backbone = build_resnet(arch, output_stride)
    backbone.load_state_dict(random_resnet_state(arch, 0), strict=True)
    backbone.eval()
    return backbone


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_equals_torchvision_at_stride_32(arch: str) -> None:
    peer = getattr(torchvision.models, arch)()
    peer.load_state_dict(random_resnet_state(arch, 0), strict=False)
    peer.eval()
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        x = peer.maxpool(peer.relu(peer.bn1(peer.conv1(images))))
        maps = built(arch, 32)(images)
        for ours, stage in zip(
            maps, [peer.layer1, peer.layer2, peer.layer3, peer.layer4], strict=True
        ):
            x = stage(x)
            torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_equals_torchvision(output_stride: int) -> None:
    peer = torchvision.models.resnet50(
        replace_stride_with_dilation=[False, output_stride == 8, True]
    )
    peer.load_state_dict(random_resnet_state("resnet50", 0), strict=False)
    peer.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = peer.maxpool(peer.relu(peer.bn1(peer.conv1(images))))
        x = peer.layer4(peer.layer3(peer.layer2(peer.layer1(x))))
        ours = built("resnet50", output_stride)(images)[-1]
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet50_v1"])
@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    # the released configs: output stride 8 has strides 1,2,1,1 and dilations 1,1,2,4
    [
        (8, (1, 2, 1, 1), (1, 1, 2, 4)),
        (16, (1, 2, 2, 1), (1, 1, 1, 2)),
        (32, (1, 2, 2, 2), (1, 1, 1, 1)),
    ],
)
def test_equals_mmseg(
    arch: str, output_stride: int, strides: tuple[int, ...], dilations: tuple[int, ...]
) -> None:
    style = "caffe" if arch.endswith("_v1") else "pytorch"
    peer = ResNet(
        depth=SPECS[arch].depth,
        strides=strides,
        dilations=dilations,
        style=style,
        contract_dilation=True,
    )
    peer.load_state_dict(random_resnet_state(arch, 0))
    peer.eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(built(arch, output_stride)(images), peer(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_strides_and_widths(output_stride: int) -> None:
    maps = built("resnet18", output_stride)(torch.randn(1, 3, 64, 64))
    assert [64 // m.shape[-1] for m in maps] == [4, 8, min(16, output_stride), output_stride]
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512]


def test_stride_placement_matters() -> None:
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        v1, v15 = (built(a, 32)(images)[-1] for a in ("resnet50_v1", "resnet50"))
    assert v1.shape == v15.shape
    assert (v1 - v15).abs().mean() > 0.05 * v15.abs().mean()


@pytest.mark.parametrize("arch", ARCH_NAMES)
def test_targets_are_what_the_backbone_holds(arch: str) -> None:
    with torch.device("meta"):
        backbone = build_resnet(arch)
    shapes = {k: tuple(v.shape) for k, v in backbone.state_dict().items()}
    assert resnet_shapes(arch) == shapes
    last = [
        v.shape[0] for k, v in backbone.state_dict().items() if v.ndim and k.startswith("layer4.")
    ]
    assert backbone.arch.widths[3] == max(last)


@pytest.mark.parametrize(
    ("arch", "peer"),
    [("resnet152", "resnet152"), ("resnet50x2_narrow", "wide_resnet50_2")],
)
def test_deep_and_wide_equal_torchvision(arch: str, peer: str) -> None:
    theirs = getattr(torchvision.models, peer)()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours = build_resnet(arch)
    ours.load_state_dict(state, strict=True)
    images = torch.randn(1, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        wanted = theirs.eval()(images)
        got = ours.eval().pooled(images)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_x2_is_twice_as_wide_everywhere() -> None:
    with torch.device("meta"):
        wide, plain = build_resnet("resnet50x2"), build_resnet("resnet50")
    for key, value in plain.state_dict().items():
        sides = [2 * side if side != 3 else side for side in value.shape[:2]]
        assert list(wide.state_dict()[key].shape[:2]) == sides, key


def test_c4_split_is_the_whole_backbone() -> None:
    whole = built("resnet50x0.25", 32)
    state = whole.state_dict()
    trunk, res5 = build_resnet("resnet50x0.25", stages=3), build_res5("resnet50x0.25")
    trunk.load_state_dict({k: v for k, v in state.items() if not k.startswith("layer4.")})
    res5.load_state_dict(whole.get_submodule("layer4").state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = trunk.eval()(images)
        assert [m.shape[1] for m in maps] == list(trunk.arch.widths[:3])
        torch.testing.assert_close(res5.eval()(maps[-1]), whole(images)[-1])
    assert build_res5("resnet50x0.25", dilated=True)(maps[-1]).shape[-1] == 4


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (random_resnet_state("resnet18", seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one["layer4.1.conv2.weight"], again["layer4.1.conv2.weight"])
    assert not torch.equal(one["layer4.1.conv2.weight"], other["layer4.1.conv2.weight"])


def test_impossible_options() -> None:
    with pytest.raises(ConfigError, match="resnet50_v1"):
        build_resnet("resnet51")
    with pytest.raises(ConfigError, match="8, 16, 32"):
        resnet_options("resnet50", 4)
