"""The vectors that classifiers read: all of one forward, the same as those of separate calls."""

import pytest
import torch
from torch import nn

from tests.backbones.checks import assert_near
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.vit import build_vit

FAMILIES = [
    "resnet18x0.25",
    "resnet50x0.25",
    "convnext_atto",
    "swin_tiny_patch4_window7",
    "vit_tiny_patch16",
]


class Counted:
    """Counts the calls of the first layer."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        first = next(one for one in module.modules() if isinstance(one, nn.Conv2d))
        first.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, inputs: object) -> None:
        self.calls += 1


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_one_forward_gives_what_separate_calls_give(arch: str, precision: str) -> None:
    source = read_backbone(f"random:{arch}")
    trunk = FrozenTrunk(source.build(), precision=precision)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    pooled, maps = trunk.pooled(images), trunk(images)
    counted = Counted(trunk._module)
    vectors = trunk.vectors(images)
    assert counted.calls == 1
    assert {name: one.shape[1] for name, one in vectors.items()} == source.architecture.vectors
    assert {one.dtype for one in vectors.values()} == {maps[-1].dtype}
    tolerance = 1e-5 if precision == "fp32" else 1e-12
    assert_near(vectors["pooled"], pooled, tolerance)
    if source.architecture.family == "vit":
        assert_near(vectors["blocks"][:, -192:], pooled, tolerance)  # the card's is the class token
    else:
        means = [one.mean(dim=(2, 3)) for one in maps]
        assert_near(vectors["avg"], means[-1], tolerance)
        assert_near(vectors["stages"], torch.cat(means, dim=1), tolerance)


@pytest.mark.parametrize("name", ["vit_tiny_patch16", "vit_small_patch14_reg4_dinov2"])
@pytest.mark.parametrize("pooling", ["cls", "avg"])
def test_blocks_are_dinos(name: str, pooling: str) -> None:
    """Block by block, with timm's layers: class tokens after the final norm, and patch means."""
    torch.manual_seed(0)
    backbone = build_vit(name, pooling=pooling).eval()
    for parameter in backbone.parameters():
        parameter.data.normal_(0, 0.05)  # norms too: without scale they commute with concatenation
    images = torch.randn(2, 3, 56, 56) if "14" in name else torch.randn(2, 3, 48, 48)
    layers = dict(backbone.named_children())
    with torch.inference_mode():
        x = layers["patch_embed"](images)
        x = layers["norm_pre"](backbone._pos_embed(x))
        after = []
        for block in layers["blocks"].children():
            x = block(x)
            after.append(layers["norm"](x))
        vectors = backbone.vectors(images)
        prefix = 1 if "reg4" not in name else 5
        classes = torch.cat([tokens[:, 0] for tokens in after[-4:]], dim=1)
        assert_near(vectors["blocks"], classes)
        assert_near(vectors["avg"], after[-1][:, prefix:].mean(dim=1))
        assert torch.equal(
            vectors["pooled"],
            vectors["avg"] if pooling == "avg" else vectors["blocks"][:, -classes.shape[1] // 4 :],
        )
        assert_near(vectors["pooled"], backbone.pooled(images))
