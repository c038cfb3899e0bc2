"""The scores that records hold: percentages, the higher the better."""

TITLES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "map07": "VOC07 mAP",
    "mask_ap": "mask AP",
    "top1": "top-1",
    "top5": "top-5",
    "map": "mAP",
}
"""Name in records -> name for people."""


def metric_title(metric: str) -> str:
    """Name of a metric for people; of an unknown one, its own."""
    return TITLES.get(metric, metric)
