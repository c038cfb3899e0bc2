import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from torchvision import ops

from vicregl_bench.heads.region_proposals import (
    DetectionOptions,
    Frame,
    ProposalParts,
    Truth,
    first_kept,
)

OPTIONS = DetectionOptions(anchor_scales=(2.0, 4.0), anchor_samples=32, region_samples=24)


def truth(boxes: list[list[float]], ignored: list[list[float]] | None = None) -> Truth:
    return Truth(
        Frame((96, 128)),
        torch.tensor(boxes).view(-1, 4),
        torch.arange(len(boxes)) % 3,
        torch.tensor(ignored or []).view(-1, 4),
    )


@pytest.mark.parametrize("most", [1, 7, 50, 1000])
def test_the_first_boxes_kept_are_those_of_the_whole_suppression(most: int) -> None:
    corners = torch.rand(400, 2) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(400, 2) * 30], dim=1)
    scores = torch.rand(400).sort(descending=True).values
    whole = ops.nms(boxes, scores, 0.7)
    assert 100 < len(whole) < 400
    assert torch.equal(first_kept(boxes, scores, 0.7, most), whole[:most])


def test_anchors_are_those_of_faster_rcnn_c4() -> None:
    parts = ProposalParts(DetectionOptions(), 20)
    anchors = parts.anchors(torch.zeros(1, 2, 3, 4))
    assert anchors.shape == (3 * 4 * 15, 4)
    sides = ((anchors[:15, 2:] - anchors[:15, :2]).prod(dim=1)).sqrt()
    assert sorted({round(float(side)) for side in sides}) == [32, 64, 128, 256, 512]
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert middles[::15].tolist() == [[16.0 * x, 16.0 * y] for y in range(3) for x in range(4)]


def test_samples_follow_from_the_entropy_alone() -> None:
    parts = ProposalParts(OPTIONS, 3)
    anchors = parts.anchors(torch.zeros(6, 8))
    targets = parts.anchor_targets(anchors, (6, 8), truth([[10, 10, 60, 60]]))
    first = targets.sample(0, 1, 2)
    state = torch.get_rng_state()
    torch.rand(5)
    again = parts.anchor_targets(anchors, (6, 8), truth([[10, 10, 60, 60]])).sample(0, 1, 2)
    assert torch.equal(first.indices, again.indices)
    assert not torch.equal(first.indices, targets.sample(0, 1, 3).indices)
    torch.set_rng_state(state)
    assert len(first.indices) == 32 and 1 <= len(first.deltas) <= 16


def test_regions_are_proposals_and_the_objects_themselves() -> None:
    parts = ProposalParts(OPTIONS, 3)
    there = truth([[10, 10, 60, 60], [70, 20, 120, 90]])
    proposals = torch.tensor([[12.0, 8, 61, 63], [0, 0, 20, 20], [80, 30, 128, 96]])
    (samples,) = parts.sample_all_regions([proposals], there, [(0,)])
    assert samples.labels.tolist() == [0, 1, 0, 1, 3]
    assert torch.equal(samples.boxes[:2], there.boxes)
    assert not samples.deltas[:2].any()  # they are where they should be
    # (dx, dy, dw, dh) of the third: middles 36.5, 35.5 and 35, 35; sides 49, 55 and 50, 50
    expected = torch.tensor([-1.5 / 49, -0.5 / 55]) / 0.1
    torch.testing.assert_close(samples.deltas[2, :2], expected)
    torch.testing.assert_close(
        samples.deltas[2, 2:], torch.log(torch.tensor([50 / 49, 50 / 55])) / 0.2
    )


def test_what_lies_in_ignored_objects_does_not_count() -> None:
    parts = ProposalParts(OPTIONS, 3)
    proposals = torch.tensor([[80.0, 30, 120, 90], [0, 0, 20, 20]])
    there = truth([[10, 10, 60, 60]], [[75, 25, 128, 96]])
    (samples,) = parts.sample_all_regions([proposals], there, [(0,)])
    assert samples.boxes.tolist() == [[10, 10, 60, 60], [0, 0, 20, 20]]
    (counted,) = parts.sample_all_regions([proposals], truth([[10, 10, 60, 60]]), [(0,)])
    assert len(counted.boxes) == 3
    anchors = parts.anchors(torch.zeros(6, 8))
    drawn = parts.anchor_targets(anchors, (6, 8), there).sample(0)
    corners = anchors[drawn.indices]
    overlap = (corners[:, 2:].minimum(there.ignored[:, 2:])).sub(
        corners[:, :2].maximum(there.ignored[:, :2])
    )
    share = overlap.clamp(min=0).prod(dim=1) / (corners[:, 2:] - corners[:, :2]).prod(dim=1)
    assert float(share.max()) <= 0.5


def test_anchors_in_the_padding_do_not_count() -> None:
    parts = ProposalParts(OPTIONS, 3)
    anchors = parts.anchors(torch.zeros(6, 8))
    small = Truth(Frame((50, 40)), torch.tensor([[5.0, 5, 38, 45]]), torch.zeros(1).long(),
                  torch.zeros(0, 4))  # fmt: skip
    drawn = parts.anchor_targets(anchors, (6, 8), small).sample(0)
    middles = (anchors[drawn.indices, :2] + anchors[drawn.indices, 2:]) / 2
    assert float(middles[:, 0].max()) < 48 and float(middles[:, 1].max()) < 64


def test_a_picture_without_objects_is_all_background() -> None:
    parts = ProposalParts(OPTIONS, 3)
    nothing = truth([])
    (samples,) = parts.sample_all_regions([torch.tensor([[0.0, 0, 20, 20]])], nothing, [(0,)])
    assert samples.labels.tolist() == [3] and samples.deltas.shape == (0, 4)
    (empty,) = parts.sample_all_regions([torch.zeros(0, 4)], nothing, [(0,)])
    assert empty.boxes.shape == (0, 4) and empty.deltas.shape == (0, 4)
    anchors = parts.anchors(torch.zeros(6, 8))
    assert parts.anchor_targets(anchors, (6, 8), nothing).sample(0).deltas.shape == (0, 4)


def test_proposals_lie_in_the_picture_and_differ_in_number() -> None:
    options = DetectionOptions(train_pre_nms=20, train_post_nms=5, test_pre_nms=500)
    parts = ProposalParts(options, 3)
    anchors = parts.anchors(torch.zeros(6, 8))
    scores, deltas = torch.randn(len(anchors)), 0.1 * torch.randn(len(anchors), 4)
    (train,) = parts.propose_all(scores[None], deltas[None], anchors, Frame((90, 120)), train=True)
    (test,) = parts.propose_all(scores[None], deltas[None], anchors, Frame((90, 120)), train=False)
    assert len(train) == 5 < len(test)
    assert torch.equal(train, test[:5])
    assert test.min() >= 0 and test[:, 2].max() <= 120 and test[:, 3].max() <= 90


def test_mmdets_samples_are_read() -> None:
    sample = DetDataSample(metainfo={"img_shape": (90, 120), "scale_factor": (0.5, 0.25)})
    box = torch.tensor([[1.0, 2, 30, 40]])
    sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(box), labels=torch.tensor([2]))
    assert Truth.of(sample).ignored.shape == (0, 4)
    sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(box + 1))
    read = Truth.of(sample)
    assert read.frame == Frame((90, 120), (0.5, 0.25))
    assert torch.equal(read.boxes, box) and torch.equal(read.ignored, box + 1)
    assert read.labels.tolist() == [2]
    assert Frame.of({"img_shape": (9, 12, 3)}) == Frame((9, 12))


def test_impossible_truths_are_refused() -> None:
    with pytest.raises(ValueError, match="no extent"):
        truth([[10, 10, 10, 60]])
    with pytest.raises(ValueError, match="1 boxes, 2 labels"):
        Truth(Frame((9, 9)), torch.tensor([[0.0, 0, 1, 1]]), torch.zeros(2), torch.zeros(0, 4))
