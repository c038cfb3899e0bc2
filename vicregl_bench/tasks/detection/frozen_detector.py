"""The mmengine model of linear frozen detection: one trunk pass, K heads, no autograd.

The proposal map and the region map come from one pass over the whole picture: of a ResNet, res4 and
res5 at stride 16 (res5 dilated); of a ConvNeXt, stage 3 and stage 4, the latter resized to the size
of the former; of a ViT, the last block for both. So no head needs a pass of its own.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmengine.structures import InstanceData
from torch import Tensor

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.detection_sweep import DetectionSweep
from vicregl_bench.heads.region_proposals import DetectionOptions, Frame, Truth
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.grid import head_specs
from vicregl_bench.tasks.swept import SweptSteps


def build_detection_sweep(
    settings: DetectionSettings, architecture: Architecture
) -> DetectionSweep:
    """The linear heads of a task on a frozen backbone: in the order of `head_specs`."""
    detector = settings.detector
    proposals, regions = architecture.proposals, architecture.regions
    stride = architecture.strides[proposals]
    return DetectionSweep(
        architecture.widths[proposals],
        architecture.widths[regions],
        settings.data.num_classes,
        head_specs(settings),
        options=DetectionOptions(
            anchor_scales=tuple(size / stride for size in (32, 64, 128, 256, 512)),
            proposal_stride=stride,
            region_stride=stride,
            anchor_samples=detector.anchors,
            train_pre_nms=detector.proposals_train[0],
            train_post_nms=detector.proposals_train[1],
            test_pre_nms=detector.proposals_test[0],
            test_post_nms=detector.proposals_test[1],
            region_samples=detector.regions,
            score_threshold=detector.score_threshold,
            nms_iou=detector.nms_threshold,
            max_detections=detector.detections,
        ),
        run_seed=settings.sweep.run_seed,
    )


class FrozenSweepDetector(SweptSteps, BaseDetector):  # type: ignore[misc]
    """mmdet detector whose prediction is one set of boxes a head.

    The trunk is no submodule: it is neither trained nor saved nor switched to training mode.

    Args:
        trunk: frozen; its maps are those of `architecture`, a ResNet's last at stride 16.
        sweep: the heads.
        data_preprocessor: mmdet's configuration of it.
        architecture: says which maps are read.
    """

    def __init__(
        self,
        trunk: FrozenTrunk,
        sweep: DetectionSweep,
        data_preprocessor: dict[str, Any],
        *,
        architecture: Architecture,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self._trunk, self.sweep = trunk, sweep
        self._maps = (architecture.proposals, architecture.regions)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Proposal map (B, D1, h, w) and region map (B, D2, h, w)."""
        maps = self._trunk(batch_inputs)
        proposals, regions = (maps[index] for index in self._maps)
        size = (proposals.shape[-2], proposals.shape[-1])
        if regions.shape[-2:] != size:
            regions = F.interpolate(regions, size=size, mode="bilinear", align_corners=False)
        return proposals, regions

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Losses of all heads (K,); the gradients are left in the parameters."""
        truths = [Truth.of(sample) for sample in batch_data_samples]
        maps = self.extract_feat(batch_inputs)
        return {"loss_per_head": self.sweep.accumulate_gradients(maps, truths)}

    def predict(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> Sequence[Any]:
        """The data samples with `pred_heads`: K times mmdet's `pred_instances`."""
        frames = [Frame.of(sample.metainfo) for sample in batch_data_samples]
        found = self.sweep.predict(self.extract_feat(batch_inputs), frames)
        for index, sample in enumerate(batch_data_samples):
            of_heads = [head[index] for head in found]
            sample.set_field(
                [
                    InstanceData(bboxes=one.boxes, scores=one.scores, labels=one.labels)
                    for one in of_heads
                ],
                "pred_heads",
                dtype=list,
            )
        return batch_data_samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> Any:
        return self.extract_feat(batch_inputs)
