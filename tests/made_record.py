"""The record of a run that never was: the tests change what they are about."""

from typing import Any

from vicregl_bench.records import Record

MADE = Record.model_validate(
    {
        "key": "k" * 64,
        "status": "complete",
        "created": "2026-01-01T00:00:00+00:00",
        "task": {
            "name": "voc_linear",
            "version": 1,
            "profile": "ci",
            "title": "t",
            "tables": ["1"],
            "source": "s",
            "settings": {},
            "select": "val",
            "metric": "miou",
        },
        "checkpoint": {
            "name": "a.pth",
            "method": "m",
            "arch": "resnet18",
            "weights_sha256": "w",
            "file_sha256": None,
            "card": {},
            "coverage": None,
        },
        "data": {
            "root": "r",
            "variant": "voc12",
            "train": 1,
            "val": 1,
            "holdout": 0,
            "fingerprint": "f",
            "fingerprint_kind": "content",
        },
        "deviations": [],
        "progress": {"iterations": 60, "of": 60},
        "results": [
            {
                "lr": 0.1,
                "seed": 0,
                "score": 50.0,
                "scores": {"miou": 50.0, "pixel_accuracy": 90.0},
                "by_class": {"x": None},
            }
        ],
        "best": {
            "lr": 0.1,
            "score": 50.0,
            "std": 1.0,
            "seeds": 3,
            "interval": [45.0, 55.0],
            "scores": {"miou": 50.0, "pixel_accuracy": 90.0},
            "by_class": {"x": None},
        },
        "cost": {
            "wall_s": 1.0,
            "train_s": 1.0,
            "pictures_per_second": 1.0,
            "peak_memory_mib": 1.0,
        },
        "environment": {
            "device": "cpu",
            "precision": "fp32",
            "platform": "p",
            "cpu_count": 2,
            "versions": {},
            "git_revision": None,
        },
        "command": "vicregl-bench run",
    }
)


def changed(record: Record, **changes: Any) -> Record:
    """The record with these parts; a dictionary replaces only the fields that it has."""
    tree = record.model_dump()
    for name, value in changes.items():
        tree[name] = tree[name] | value if isinstance(value, dict) else value
    return Record.model_validate(tree)


def make_record(
    *, name: str = "a.pth", task: str | dict[str, Any] = "voc_linear", **changes: Any
) -> Record:
    """A complete record with 50 % mIoU, `changed`.

    `name` is of the checkpoint; `task` is a name, or fields as of any other part.
    """
    fields = {"name": task} if isinstance(task, str) else task
    return changed(changed(MADE, checkpoint={"name": name}), task=fields, **changes)
