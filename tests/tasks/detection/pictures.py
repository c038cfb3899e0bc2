"""Made-up batches for detectors, as a data loader of mmdet's collates them."""

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.structures import InstanceData

SIDE, CLASSES = 96, 3
SCALE = 0.5  # of the pictures given over the originals
PREPROCESSOR = {
    "type": "DetDataPreprocessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
}
BOXES = ([[8.0, 10, 60, 70], [30, 20, 94, 52]], [[5.0, 5, 45, 30]])
LABELS = ([0, 2], [1])


def batch(seed: int = 0, heights: tuple[int, int] = (SIDE, 80)) -> dict[str, Any]:
    """Two pictures of noise with three objects, boxes and polygons of them."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for height, boxes, labels in zip(heights, BOXES, LABELS, strict=True):
        picture = torch.randint(0, 256, (3, height, SIDE), generator=generator, dtype=torch.uint8)
        sample = DetDataSample()
        sample.set_metainfo(
            {
                "img_shape": (height, SIDE),
                "ori_shape": (int(height / SCALE), int(SIDE / SCALE)),
                "scale_factor": (SCALE, SCALE),
            }
        )
        outlines = [[torch.tensor([x, y, u, y, u, v, x, v]).numpy()] for x, y, u, v in boxes]
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes),
            labels=torch.tensor(labels),
            masks=PolygonMasks(outlines, height, SIDE),
        )
        inputs.append(picture)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def losses(model: Any, data: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Losses of one batch, samplers seeded; lists (one a level) are summed."""
    torch.manual_seed(seed)
    found = model(**model.data_preprocessor(data, True), mode="loss")
    return {name: sum(value) if isinstance(value, list) else value for name, value in found.items()}


def predictions(model: Any, data: dict[str, Any]) -> list[Any]:
    """What the model finds in every picture of a batch."""
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(data, False), mode="predict")
    return [sample.pred_instances for sample in samples]
