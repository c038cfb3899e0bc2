import subprocess
import sys

import pytest
import torch
from torchvision import ops

from vicregl_bench.engine.mmcv_ext import install_mmcv_ext, nms
from vicregl_bench.errors import ConfigError

OURS = install_mmcv_ext()
only_ours = pytest.mark.skipif(not OURS, reason="mmcv has a compiled extension here")


def boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = 50 * torch.rand(count, 2, generator=generator)
    sides = 1 + 30 * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + sides], dim=1), torch.rand(count, generator=generator)


def greedy(bboxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int) -> list[int]:
    """Suppression by its definition, box by box."""
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(bboxes[index], bboxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def overlap(one: torch.Tensor, other: torch.Tensor, offset: int) -> float:
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inside = float((high - low + offset).clamp(min=0).prod())
    areas = [float((box[2:] - box[:2] + offset).prod()) for box in (one, other)]
    return inside / (sum(areas) - inside)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_is_greedy_suppression(offset: int) -> None:
    bboxes, scores = boxes(60)
    kept = nms(bboxes, scores, iou_threshold=0.4, offset=offset)
    assert kept.tolist() == greedy(bboxes, scores, 0.4, offset)
    assert 1 < len(kept) < 60


@only_ours
def test_mmcv_uses_it() -> None:
    import mmcv.ops

    bboxes, scores = boxes(60)
    found, kept = mmcv.ops.nms(bboxes, scores, 0.4)
    assert torch.equal(kept, ops.nms(bboxes, scores, 0.4))
    assert torch.equal(found[:, 4], scores[kept])


@only_ours
def test_the_others_say_what_is_missing() -> None:
    import mmcv.ops

    bboxes, scores = boxes(3)
    with pytest.raises(ConfigError, match="operator softnms is not compiled"):
        mmcv.ops.soft_nms(bboxes, scores)


@only_ours
def test_it_is_installed_by_a_call_alone() -> None:
    program = (
        "import sys, vicregl_bench, vicregl_bench.engine.mmcv_ext as ext; "
        "assert 'mmcv._ext' not in sys.modules; "
        "assert ext.install_mmcv_ext() and ext.install_mmcv_ext(); "
        "import importlib.util; assert importlib.util.find_spec('mmcv._ext')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
