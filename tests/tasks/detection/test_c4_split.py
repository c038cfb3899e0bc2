import pytest
import torch

from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.detection.c4_split import REGION_SIDE, split_c4


@pytest.mark.parametrize("arch", ["resnet18x0.25", "convnext_atto"])
def test_one_part_after_the_other_is_the_backbone(arch: str) -> None:
    source = read_backbone(f"random:{arch}")
    images = torch.randn(1, 3, 64, 96)
    split = split_c4(source)
    maps = source.build().eval()(images)
    with torch.no_grad():
        (trunk,) = split.trunk.eval()(images)
        torch.testing.assert_close(trunk, maps[2])
        torch.testing.assert_close(split.regions.eval()(trunk), maps[3])
    assert (split.stride, split.width, split.region_width) == (16, *source.architecture.widths[2:])


def test_vit_is_split_after_two_thirds_of_its_blocks() -> None:
    source = read_backbone("random:vit_tiny_patch16")
    images = torch.randn(1, 3, 64, 96)
    split = split_c4(source)
    whole = source.build().eval()
    blocks = whole.get_submodule("blocks")
    assert isinstance(blocks, torch.nn.Sequential) and len(blocks) == 12
    with torch.no_grad():
        (trunk,) = split.trunk.eval()(images)
        torch.testing.assert_close(trunk, whole(images)[2])  # maps: blocks 4, 6, 8 and 12
        regions = torch.randn(2, 192, REGION_SIDE, REGION_SIDE)
        tokens = blocks[8:](regions.flatten(2).transpose(1, 2))
        expected = tokens.transpose(1, 2).unflatten(2, (REGION_SIDE, REGION_SIDE))
        torch.testing.assert_close(split.regions.eval()(regions), expected)


@pytest.mark.parametrize(
    ("arch", "left_out"),
    [("resnet18x0.25", ()), ("convnext_atto", ("head.norm",)), ("vit_tiny_patch16", ("norm",))],
)
def test_every_weight_is_in_one_part_and_trained(arch: str, left_out: tuple[str, ...]) -> None:
    source = read_backbone(f"random:{arch}")
    split = split_c4(source)
    parts = [*split.trunk.parameters(), *split.regions.parameters()]
    whole = source.build()
    without = sum(p.numel() for name in left_out for p in whole.get_submodule(name).parameters())
    count = sum(p.numel() for p in whole.parameters())
    assert sum(p.numel() for p in parts) == count - without
    assert all(p.requires_grad for p in parts)


@pytest.mark.parametrize("arch", ["resnet18x0.25", "convnext_atto", "vit_tiny_patch16"])
def test_sides_are_as_said(arch: str) -> None:
    split = split_c4(read_backbone(f"random:{arch}"))
    side = split.region_side
    regions = split.regions(torch.randn(2, split.width, REGION_SIDE, REGION_SIDE))
    assert regions.shape == (2, split.region_width, side, side)
    odd = 70 + -70 % split.divisor
    assert split.trunk(torch.randn(1, 3, odd, 64))[0].shape == (1, split.width, 5, 4)


def test_swin_has_no_split() -> None:
    with pytest.raises(ConfigError, match="cannot be split"):
        split_c4(read_backbone("random:swin_tiny_patch4_window7"))
