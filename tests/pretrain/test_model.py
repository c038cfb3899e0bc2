from typing import Any

import pytest
import torch
from torch import nn

from pretrain.model import (
    Branch,
    JointEmbedding,
    build_backbone,
    build_mlp,
    find_backbone,
    map_side,
    representations,
)
from pretrain.trainee import build_network
from tests.pretrain.conftest import small_recipe
from vicregl_bench.errors import ConfigError

# float32 in another order of summation
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        key: tuple(value.shape)
        for key, value in module.state_dict().items()
        if not key.startswith("fc.")
    }


def on_meta(name: str) -> Any:
    with torch.device("meta"):
        return build_backbone(name)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("resnet34", "resnet34"),
        ("resnet50", "resnet50"),
        ("resnet101", "resnet101"),
        ("resnet50x2_narrow", "wide_resnet50_2"),
    ],
)
def test_resnets_have_torchvisions_keys_in_its_order(ours: str, theirs: str) -> None:
    import torchvision

    with torch.device("meta"):
        peer = getattr(torchvision.models, theirs)()
    built = on_meta(ours)
    assert list(shapes(built).items()) == list(shapes(peer).items())
    assert built.out_channels == peer.fc.in_features


def test_resnet200_has_200_layers() -> None:
    built = on_meta("resnet200")
    main = [k for k, m in built.named_modules() if isinstance(m, nn.Conv2d)]
    assert len([k for k in main if "downsample" not in k]) + 1 == 200  # and fc
    assert built.out_channels == 2048


def test_x2_doubles_every_width() -> None:
    single, double = on_meta("resnet50"), on_meta("resnet50x2")
    assert double.out_channels == 4096
    expected = {}
    for key, shape in shapes(single).items():
        wide = tuple(2 * n if axis < 2 else n for axis, n in enumerate(shape))
        expected[key] = (128, 3, 7, 7) if key == "conv1.weight" else wide
    assert shapes(double) == expected
    # 94 M with its classifier of 1000 classes: Kolesnikov et al. 2019; VICReg, table 6, rounds 93
    assert count(double) + 4097 * 1000 == pytest.approx(94e6, rel=0.05)
    assert count(single) == 25_557_032 - 2049 * 1000  # torchvision's count without fc


def test_x4_narrow_and_plain() -> None:
    assert on_meta("resnet50x4").out_channels == 8192
    narrow = on_meta("resnet50x4_narrow")
    assert narrow.out_channels == 2048
    assert shapes(narrow)["layer1.0.conv2.weight"] == (256, 256, 3, 3)
    assert shapes(narrow)["conv1.weight"] == (64, 3, 7, 7)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_forward_is_torchvisions(name: str) -> None:
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    peer = getattr(torchvision.models, name)().eval()
    ours = on_meta(name).eval()
    weights = {k: v for k, v in peer.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(weights, assign=True)
    x = torch.randn(2, 3, 64, 49)
    nodes = create_feature_extractor(peer, {"layer4": "maps", "flatten": "pooled"})
    with torch.no_grad():
        expected, (maps, pooled) = nodes(x), ours(x)
    assert maps.shape == (2, ours.out_channels, 2, 2)
    torch.testing.assert_close(maps, expected["maps"], **CLOSE)
    torch.testing.assert_close(pooled, expected["pooled"], **CLOSE)


def test_convnext_is_timms_without_layer_scale() -> None:
    from timm.models.convnext import ConvNeXt

    torch.manual_seed(0)
    # create_model drops a None; the default sizes are convnext_tiny's
    peer = ConvNeXt(num_classes=0, ls_init_value=None).eval()
    ours = on_meta("convnext_tiny").eval()
    assert shapes(ours) == shapes(peer)
    assert not [key for key in shapes(ours) if "gamma" in key]
    ours.load_state_dict(peer.state_dict(), assign=True)
    x = torch.randn(2, 3, 64, 70)
    with torch.no_grad():
        maps, pooled = ours(x)
        torch.testing.assert_close(maps, peer.forward_features(x), **CLOSE)
        torch.testing.assert_close(pooled, peer(x), **CLOSE)
    assert maps.shape == (2, 768, 2, 2)
    torch.testing.assert_close(pooled.mean(1), torch.zeros(2), rtol=0, atol=1e-5)  # LayerNorm


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("convnext_tiny", 28),
        ("convnext_small", 50),
        ("convnext_base", 88),
        ("convnext_xlarge", 348),
    ],
)
def test_convnext_sizes_are_those_of_its_paper(name: str, millions: int) -> None:
    built = on_meta(name)  # Liu et al. 2022, table 1; whole millions, with the classifier
    assert count(built) + built.out_channels * 1000 == pytest.approx(millions * 1e6, rel=0.025)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_map_side_is_that_of_a_forward_pass(name: str) -> None:
    backbone = on_meta(name).eval()
    for size in (32, 33, 63, 64, 65, 72, 95, 96, 97, 127, 129, 160, 191, 193, 223, 224):
        maps = backbone(torch.empty(1, 3, size, size, device="meta"))[0]
        assert tuple(maps.shape[2:]) == (map_side(name, size),) * 2, size


def test_map_side_of_the_papers_views() -> None:
    assert [map_side("resnet50", s) for s in (224, 96, 72)] == [7, 3, 3]
    assert [map_side("convnext_small", s) for s in (224, 96, 72, 31)] == [7, 3, 2, 0]


def test_names() -> None:
    assert find_backbone("resnet50x4_narrow").widths[-1] == 2048
    assert find_backbone("convnext_xlarge").name == "convnext_xlarge_no_layerscale"
    assert find_backbone("convnext_tiny_no_layerscale").widths[-1] == 768


@pytest.mark.parametrize(
    "name",
    [
        "",
        "resnet",
        "resnet51",
        "resnet50x3",
        "resnet50_narrow",
        "resnet50x2_narrower",
        "resnet18x2",
        "resnet34x2_narrow",
        "convnext_smallx2",
        "convnext_small_narrow",
        "ResNet50",
        "resnet50_v1",
        "vit_small_patch16",
    ],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown architecture|not pretrained here"):
        build_backbone(name)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_mlp(norm: Any, kind: type[nn.Module]) -> None:
    mlp = build_mlp(5, (8, 7, 6), norm)
    assert [type(m) for m in mlp] == [nn.Linear, kind, nn.ReLU] * 2 + [nn.Linear]
    linear = [m for m in mlp if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(5, 8), (8, 7), (7, 6)]
    assert [m.bias is not None for m in linear] == [True, True, False]
    x = torch.randn(4, 5)
    hidden = x
    for k in (0, 3):
        y = linear[k // 3](hidden)
        axis = 0 if norm == "batch" else 1
        y = (y - y.mean(axis, keepdim=True)) / (y.var(axis, False, keepdim=True) + 1e-5).sqrt()
        hidden = y.clamp_min(0)
    torch.testing.assert_close(mlp(x), hidden @ linear[2].weight.T, **CLOSE)
    assert [type(m) for m in build_mlp(5, (3,), norm)] == [nn.Linear]


def branch(expander: tuple[int, ...] = (8, 4), projector: tuple[int, ...] = (6, 3)) -> Branch:
    return Branch("resnet18", expander, projector, "batch")


def test_local_features_are_the_projected_cells_in_raster_order() -> None:
    torch.manual_seed(0)
    net = branch().eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = net(x)
        maps, pooled = net.backbone(x)
        assert net.projector is not None and net.expander is not None
        cells = [net.projector(maps[:, :, i, j]) for i in range(2) for j in range(3)]
        torch.testing.assert_close(features.local, torch.stack(cells, dim=1), **CLOSE)
        torch.testing.assert_close(features.embedding, net.expander(pooled), **CLOSE)
        torch.testing.assert_close(features.representation, maps.mean((2, 3)), **CLOSE)
        torch.testing.assert_close(representations(net.backbone, x), pooled, rtol=0, atol=0)
    assert len({tuple(cell[0].tolist()) for cell in cells}) == 6


def test_heads_left_out() -> None:
    x = torch.randn(2, 3, 32, 32)
    features = branch(expander=())(x)
    assert features.embedding is None and features.local is not None
    features = branch(projector=())(x)
    assert features.local is None and features.embedding is not None


def test_branches_take_turns() -> None:
    first, second = branch(), branch()
    views = [torch.randn(2, 3, 32, 32) for _ in range(3)]
    for kept in (None, second):
        joint = JointEmbedding(first, kept).eval()
        with torch.no_grad():
            made = joint(views)
            for view, features, own in zip(views, made, (first, kept or first, first), strict=True):
                expected = own(view)
                assert torch.equal(features.embedding, expected.embedding)
                assert torch.equal(features.local, expected.local)


def test_statistics_of_batch_norm_are_those_of_a_view() -> None:
    torch.manual_seed(0)
    joint = JointEmbedding(branch())
    views = [torch.randn(4, 3, 32, 32), 5 + torch.randn(4, 3, 32, 32)]
    with torch.no_grad():
        together = joint(views)
        apart = [joint([view])[0] for view in views]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a.embedding, b.embedding, **CLOSE)


@pytest.mark.parametrize(
    ("settings", "expander", "projector"),
    [
        ({}, True, True),
        ({"criterion__alpha": 1}, True, False),
        ({"criterion__alpha": 0}, False, True),
        ({"criterion__matching": []}, True, False),
    ],
)
def test_unused_heads_are_not_built(
    settings: dict[str, Any], expander: bool, projector: bool
) -> None:
    network = build_network(small_recipe(**settings))
    assert network.second is None
    assert (network.first.expander is not None) == expander
    assert (network.first.projector is not None) == projector


def test_separate_branches_have_weights_of_their_own() -> None:
    network = build_network(small_recipe(model__shared=False))
    assert network.second is not None
    own, other = network.first.state_dict(), network.second.state_dict()
    assert own.keys() == other.keys()
    for key in ("backbone.conv1.weight", "expander.0.weight", "projector.0.weight"):
        assert own[key].data_ptr() != other[key].data_ptr()
        assert not torch.equal(own[key], other[key])


def test_another_architecture_for_the_second_branch() -> None:
    with torch.device("meta"):
        network = build_network(small_recipe(model__second_backbone="resnet34"))
    assert network.second is not None
    assert shapes(network.second.backbone) == shapes(on_meta("resnet34"))
    assert shapes(network.first.backbone) == shapes(on_meta("resnet18"))
