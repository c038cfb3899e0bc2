"""Records that were never run, for the page: any number, with known answers."""

import random
from collections.abc import Iterator
from pathlib import Path

from vicregl_bench.records import Record
from vicregl_bench.records.collection import Entry

TASKS = {"voc_linear": "miou", "folder_linear": "top1", "voc_det_linear": "ap"}
CLASSES = ("aeroplane", "bicycle", "bird", "boat")
RATES = (0.1, 0.05, 0.01)


def made_entry(
    number: int,
    *,
    name: str | None = None,
    task: str = "voc_linear",
    score: float | None = 50.0,
    alpha: float | None = None,
    deviations: tuple[str, ...] = (),
    status: str = "complete",
    by_class: dict[str, float | None] | None = None,
    method: str = "vicregl",
    weights: str | None = None,
) -> Entry:
    """One entry; `number` makes its key, weights and day."""
    metric = TASKS[task]
    classes = by_class or {name: (score or 0) + at for at, name in enumerate(CLASSES)}
    results = [
        {
            "lr": lr,
            "seed": seed,
            "score": None if score is None else score - at - (1 if seed else -1) / 2,
            "scores": {metric: score},
        }
        for at, lr in enumerate(RATES)
        for seed in (0, 1)
    ]
    best = {
        "lr": RATES[0],
        "score": score,
        "std": 0.5,
        "seeds": 2,
        "interval": [(score or 0) - 2, (score or 0) + 2],
        "scores": {metric: score},
        "by_class": classes,
    }
    tree = {
        "key": f"{number:064x}"[::-1],
        "status": status,
        "created": f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T00:00:{number % 60:02}+00:00",
        "task": {
            "name": task,
            "version": 1,
            "profile": "ci",
            "title": f"Title of {task}",
            "tables": ["1"],
            "source": "s",
            "settings": {"schedule": {"iters": 60}},
            "select": "val",
            "metric": metric,
        },
        "checkpoint": {
            "name": name or f"checkpoint{number}.pth",
            "method": method,
            "arch": "resnet18",
            "weights_sha256": weights or f"{number:064x}"[::-1],
            "file_sha256": None,
            "card": {} if alpha is None else {"alpha": alpha},
            "coverage": None,
        },
        "data": {
            "root": "VOCdevkit",
            "variant": "voc12",
            "train": 100,
            "val": 60,
            "holdout": 0,
            "fingerprint": "f" * 64,
            "fingerprint_kind": "content",
        },
        "deviations": deviations,
        "progress": {"iterations": 60, "of": 60},
        "results": results if status != "interrupted" else [],
        "best": best if score is not None and status == "complete" else None,
        "cost": {
            "wall_s": 1.0,
            "train_s": 1.0,
            "pictures_per_second": 1.0,
            "peak_memory_mib": 100.0,
        },
        "environment": {
            "device": "cpu",
            "precision": "fp32",
            "platform": "Linux",
            "cpu_count": 2,
            "versions": {"torch": "2.15.0"},
            "git_revision": None,
        },
        "command": "vicregl-bench run",
    }
    record = Record.model_validate(tree)
    return Entry(record, Path("runs") / record.file_name)


def made_entries(count: int, seed: int = 0) -> Iterator[Entry]:
    """Checkpoints under the tasks in turn: methods, scores to 4 decimals, one in ten diverged."""
    draw = random.Random(seed)
    for number in range(count):
        lost = draw.random() < 0.1
        yield made_entry(
            number,
            task=[*TASKS][number % len(TASKS)],
            score=None if lost else round(draw.uniform(0, 100), 4),
            status="diverged" if lost else "complete",
            method=("vicregl", "vicreg", "dino", "moco")[number // len(TASKS) % 4],
            weights=f"{number // len(TASKS):064x}"[::-1],
            name=f"checkpoint{number // len(TASKS)}.pth",
            deviations=("data: 100 train pictures",) if number % 5 == 0 else (),
        )
