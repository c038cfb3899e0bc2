"""What a two-stage detector trains on and proposes: anchors, samples and proposals of one picture.

Anchors, assignment, sampling and the coding of boxes are mmdetection's parts with the thresholds of
Faster R-CNN C4 (its `faster-rcnn_r50-caffe-c4`; `ANY_OVERLAP` is detectron2's).
Importing this imports mmdet and `mmcv.ops`: where mmcv has no compiled extension, what stands in
for it must be installed before.

What boxes go through one by one, such as decoding and the overlaps with objects, is done for the
boxes of several heads in one call, which gives the same: a thousand boxes make operators so short
that starting them, and two threads' waiting for each other, costs more than their arithmetic.
Suppression is quadratic in the boxes, so each head has its own.

Deviation from detectron2: anchors whose place lies in a picture's padding are not trained on
(mmdetection's habit).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, BboxOverlaps2D, MaxIoUAssigner
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision import ops

from vicregl_bench.heads.streams import seeded

ANCHOR_CODER = DeltaXYWHBBoxCoder(target_stds=(1.0, 1.0, 1.0, 1.0))
REGION_CODER = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
PROPOSAL_NMS_IOU = 0.7
ANY_OVERLAP = 1e-6
"""IoU from which the best anchor of an object is positive: detectron2 has no bound (mmdet: 0.3)."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DetectionOptions:
    """Numbers of a detector's heads; the defaults are those of `voc_det_linear` v1.

    Attributes:
        anchor_scales: side of a square anchor in strides (32 to 512 pixels).
        anchor_ratios: height over width.
        proposal_stride: of the map that proposals are made from.
        region_stride: of the map that regions are cut from.
        anchor_samples: anchors of a picture that count in training.
        anchor_positives: largest share of positives among them.
        train_pre_nms: proposals of a picture and head before NMS in training (ours; detectron2's
            C4 has 12000).
        train_post_nms: and after it (ours; 2000 there).
        test_pre_nms: proposals before NMS in test.
        test_post_nms: and after it.
        region_samples: regions of a picture and head that count in training.
        region_positives: largest share of positives among them.
        roi_size: bins of RoIAlign a side.
        sampling_ratio: of RoIAlign, 0 for adaptive.
        ignore_overlap: an anchor or proposal more than this share of whose area lies in an ignored
            object is neither positive nor negative; negative to count such objects as background.
        score_threshold: of detections, before NMS.
        nms_iou: of detections of one class.
        max_detections: of a picture.
    """

    anchor_scales: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposal_stride: int = 16
    region_stride: int = 16
    anchor_samples: int = 256
    anchor_positives: float = 0.5
    train_pre_nms: int = 2000
    train_post_nms: int = 1000
    test_pre_nms: int = 6000
    test_post_nms: int = 1000
    region_samples: int = 512
    region_positives: float = 0.25
    roi_size: int = 7
    sampling_ratio: int = 0
    ignore_overlap: float = 0.5
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100

    @property
    def anchors(self) -> int:
        """Anchors at a place of the map."""
        return len(self.anchor_scales) * len(self.anchor_ratios)


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in the network's input.

    Attributes:
        size: (height, width) in the input, without padding.
        scale: (x, y) factors that took the original picture to it.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Frame":
        """Take `img_shape`, and `scale_factor` where there is one, of mmdet's metainfo."""
        height, width = meta["img_shape"][:2]
        across, down = meta.get("scale_factor", (1.0, 1.0))
        return cls((int(height), int(width)), (float(across), float(down)))


@dataclass(frozen=True)
class Truth:
    """What is in a picture, in pixels of the network's input.

    Attributes:
        frame: where the picture lies.
        boxes: (n, 4) x1, y1, x2, y2.
        labels: (n,) in [0, C).
        ignored: (m, 4) objects that do not count (COCO's crowds).

    Raises:
        ValueError: a box without extent, or as many labels as there are not boxes.
    """

    frame: Frame
    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.labels):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.labels)} labels")
        if not (self.boxes[:, 2:] > self.boxes[:, :2]).all():
            raise ValueError("an object's box has no extent; filter such annotations out")

    @classmethod
    def of(cls, sample: Any) -> "Truth":
        """Take an mmdet `DetDataSample`: `gt_instances`, and `ignored_instances` if there."""
        boxes = get_box_tensor(sample.gt_instances.bboxes)
        ignored = boxes[:0]
        if "ignored_instances" in sample:
            ignored = get_box_tensor(sample.ignored_instances.bboxes)
        return cls(Frame.of(sample.metainfo), boxes, sample.gt_instances.labels, ignored)

    def to(self, like: Tensor) -> "Truth":
        """The same on the device and in the dtype of another tensor."""
        return Truth(
            self.frame, self.boxes.to(like), self.labels.to(like.device), self.ignored.to(like)
        )


@dataclass(frozen=True)
class AnchorSamples:
    """Anchors of a picture that count.

    Attributes:
        indices: (n,) of anchors, positives first.
        deltas: (p, 4) targets of the positives.
    """

    indices: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class RegionSamples:
    """Regions of a picture that count.

    Attributes:
        boxes: (n, 4), positives first.
        labels: (n,), C for background.
        deltas: (p, 4) targets of the positives.
    """

    boxes: Tensor
    labels: Tensor
    deltas: Tensor


class ProposalParts:
    """Anchors, samples and proposals under some options.

    Args:
        options: the numbers.
        num_classes: C.
    """

    def __init__(self, options: DetectionOptions, num_classes: int) -> None:
        self.options, self.num_classes = options, num_classes
        self._generator = AnchorGenerator(
            strides=[options.proposal_stride],
            scales=list(options.anchor_scales),
            ratios=list(options.anchor_ratios),
        )
        self._anchor_assigner = MaxIoUAssigner(
            0.7,
            0.3,
            ANY_OVERLAP,
            match_low_quality=True,
            ignore_iof_thr=options.ignore_overlap,
            iou_calculator={"type": BboxOverlaps2D},
        )
        self._region_assigner = MaxIoUAssigner(
            0.5,
            0.5,
            0.5,
            match_low_quality=False,
            ignore_iof_thr=options.ignore_overlap,
            iou_calculator={"type": BboxOverlaps2D},
        )
        self._anchor_sampler = RandomSampler(
            options.anchor_samples, options.anchor_positives, add_gt_as_proposals=False
        )
        self._region_sampler = RandomSampler(
            options.region_samples, options.region_positives, add_gt_as_proposals=True
        )

    def anchors(self, features: Tensor) -> Tensor:
        """(h * w * A, 4) anchors of a map (..., h, w), A for each of its pixels in turn."""
        size = (features.shape[-2], features.shape[-1])
        grid: Tensor = self._generator.grid_priors([size], features.dtype, features.device)[0]
        return grid

    def anchor_targets(
        self, anchors: Tensor, map_size: tuple[int, int], truth: Truth
    ) -> "AnchorTargets":
        """Assign objects to the anchors of a picture, once for all heads."""
        valid = self._generator.valid_flags([map_size], truth.frame.size, anchors.device)[0]
        places = valid.nonzero().flatten()
        objects, ignored = _instances(truth)
        priors = InstanceData(priors=anchors[places])
        assigned = self._anchor_assigner.assign(priors, objects, ignored)
        return AnchorTargets(self._anchor_sampler, places, priors, objects, assigned)

    @torch.no_grad()
    def propose_all(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, frame: Frame, *, train: bool
    ) -> list[Tensor]:
        """Proposals (n, 4) of several heads for a picture, by falling score, inside the picture.

        Args:
            scores: (K, N) logits of objectness. (mmdetection ranks by their sigmoid, which is the
                same but for large ones, that it rounds to equal.)
            deltas: (K, N, 4).
            anchors: (N, 4).
            frame: of the picture.
            train: which numbers before and after NMS hold.
        """
        options = self.options
        before = options.train_pre_nms if train else options.test_pre_nms
        after = options.train_post_nms if train else options.test_post_nms
        ranked, order = scores.sort(dim=1, descending=True, stable=True)
        ranked, order = ranked[:, :before], order[:, :before]
        highest = deltas.gather(1, order[:, :, None].expand(-1, -1, 4))
        boxes = ANCHOR_CODER.decode(
            anchors[order].flatten(0, 1), highest.flatten(0, 1), max_shape=frame.size
        ).view_as(highest)
        real = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
        proposals = []
        for own, score, extended in zip(boxes, ranked, real, strict=True):
            own, score = own[extended], score[extended]
            proposals.append(own[first_kept(own, score, PROPOSAL_NMS_IOU, after)])
        return proposals

    def sample_all_regions(
        self, proposals: Sequence[Tensor], truth: Truth, entropies: Sequence[tuple[int, ...]]
    ) -> list[RegionSamples]:
        """Regions of a picture to train on, of each head's proposals and the objects themselves.

        Args:
            proposals: (n, 4) of each head.
            truth: the objects.
            entropies: of each head's draw, which follows from it and the head's proposals alone.
        """
        objects, ignored = _instances(truth)
        counts = [len(one) for one in proposals]
        # a region's object is the nearest to it, whatever the others (no low-quality matches)
        together = self._region_assigner.assign(
            InstanceData(priors=torch.cat(list(proposals))), objects, ignored
        )
        parts = (
            part.split(counts)
            for part in (together.gt_inds, together.max_overlaps, together.labels)
        )
        samples = []
        for own, entropy, part in zip(proposals, entropies, zip(*parts, strict=True), strict=True):
            assigned = AssignResult(together.num_gts, *part)
            with seeded(_CPU, *entropy):  # mmdet draws on the CPU whatever the device
                drawn = self._region_sampler.sample(assigned, InstanceData(priors=own), objects)
            labels = truth.labels.new_full((len(drawn.priors),), self.num_classes)
            labels[: len(drawn.pos_inds)] = drawn.pos_gt_labels
            deltas = REGION_CODER.encode(drawn.pos_priors, drawn.pos_gt_bboxes)
            samples.append(RegionSamples(drawn.priors, labels, deltas.to(own.dtype)))
        return samples


@dataclass(frozen=True)
class AnchorTargets:
    """The objects assigned to a picture's anchors.

    Attributes:
        sampler: draws those that count.
        places: (m,) indices of the anchors that are not in the padding.
        priors: these anchors, as mmdet's parts take them.
        objects: the truth, likewise.
        assigned: mmdet's result.
    """

    sampler: Any
    places: Tensor
    priors: Any
    objects: Any
    assigned: Any

    def sample(self, *entropy: int) -> AnchorSamples:
        """Anchors to train on; they follow from the picture and the entropy alone."""
        with seeded(_CPU, *entropy):  # mmdet draws on the CPU whatever the device
            drawn = self.sampler.sample(self.assigned, self.priors, self.objects)
        indices = self.places[torch.cat([drawn.pos_inds, drawn.neg_inds])]
        deltas = ANCHOR_CODER.encode(drawn.pos_priors, drawn.pos_gt_bboxes)
        return AnchorSamples(indices, deltas.to(drawn.pos_priors.dtype))


def first_kept(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Indices of the first boxes that non-maximum suppression keeps.

    Whether a box is kept depends on those that score higher alone. So a prefix of the boxes is
    enough where as many as wanted are kept of it, and what follows need not be compared: with
    anchors by the thousand that is most of the work.

    Args:
        boxes: (N, 4), by falling score.
        scores: (N,).
        iou_threshold: overlap above which the lower score goes.
        most: how many are wanted.
    """
    length = 2 * most
    kept: Tensor = ops.nms(boxes[:length], scores[:length], iou_threshold)
    while len(kept) < most and length < len(boxes):
        # as many more as it takes at the share kept so far, and a tenth
        end = length + math.ceil(1.1 * (most - len(kept)) * length / max(len(kept), 1))
        end = min(end, len(boxes))
        # with those kept: what was suppressed suppresses nothing
        looked_at = torch.cat([kept, torch.arange(length, end, device=boxes.device)])
        kept = looked_at[ops.nms(boxes[looked_at], scores[looked_at], iou_threshold)]
        length = end
    return kept[:most]


def _instances(truth: Truth) -> tuple[Any, Any]:
    """The objects that count and those that do not, as mmdet's assigners take them."""
    return (
        InstanceData(bboxes=truth.boxes, labels=truth.labels),
        InstanceData(bboxes=truth.ignored),
    )
