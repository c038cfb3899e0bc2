"""The scores that records hold: percentages, the higher the better.

But for `distance_error`, in percent of a view's side: the lower the better, and never chosen by.
"""

TITLES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "mask_ap": "mask AP",
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "map": "mAP",
    "map_area": "mAP (area)",
    "match_accuracy": "matches right",
    "mirrored_accuracy": "mirrored",
    "match_chance": "chance",
    "distance_error": "distance error",
}
"""Name in records -> name for people."""


def metric_title(metric: str) -> str:
    """Name of a metric for people; of an unknown one, its own."""
    return TITLES.get(metric, metric)
