"""Records of earlier schema versions, read as what they would be now."""

from collections.abc import Callable, Mapping
from typing import Any

Tree = dict[str, Any]


def _from_1(tree: Mapping[str, Any]) -> Tree:
    """Version 1 had segmentation alone: mIoU, pixel accuracy and IoU by class had fields."""
    results = [
        {
            "lr": result["lr"],
            "seed": result["seed"],
            "score": result["miou"],
            "scores": {"miou": result["miou"], "pixel_accuracy": result["pixel_accuracy"]},
            "by_class": result["class_iou"],
            "holdout": result.get("holdout_miou"),
            "diverged_at": result.get("diverged_at"),
        }
        for result in tree.get("results", [])
    ]
    best = tree.get("best")
    if best is not None:
        accuracies = [
            result["scores"]["pixel_accuracy"]
            for result in results
            if result["lr"] == best["lr"] and result["score"] is not None
        ]
        best = {
            "lr": best["lr"],
            "score": best["miou_mean"],
            "std": best["miou_std"],
            "seeds": best["seeds"],
            "interval": best["interval"],
            "scores": {
                "miou": best["miou_mean"],
                "pixel_accuracy": round(sum(accuracies) / len(accuracies), 4),
            },
            "by_class": best["class_iou"],
        }
    task = {**tree["task"], "metric": "miou"}
    return {**tree, "schema_version": 2, "task": task, "results": results, "best": best}


MIGRATIONS: Mapping[int, Callable[[Mapping[str, Any]], Tree]] = {1: _from_1}
"""Schema version -> the way to the next one."""


def migrate(tree: Tree) -> Tree:
    """A record's tree at the newest version that can be reached from its own.

    Raises:
        KeyError, TypeError, ZeroDivisionError: it is no record of the version that it says.
    """
    while tree.get("schema_version") in MIGRATIONS:
        tree = MIGRATIONS[tree["schema_version"]](tree)
    return tree
