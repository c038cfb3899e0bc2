"""Records that were never run, for the page: any number, with known answers."""

import random
from collections.abc import Iterator
from pathlib import Path

from tests.made_record import make_record
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
    key = f"{number:064x}"[::-1]
    record = make_record(
        name=name or f"checkpoint{number}.pth",
        task={"name": task, "metric": metric, "settings": {"schedule": {"iters": 60}}},
        key=key,
        status=status,
        created=f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T00:00:{number % 60:02}+00:00",
        checkpoint={
            "method": method,
            "weights_sha256": weights or key,
            "card": {} if alpha is None else {"alpha": alpha},
        },
        data={"root": "VOCdevkit"},
        deviations=deviations,
        results=results if status != "interrupted" else [],
        best=best if score is not None and status == "complete" else None,
    )
    return Entry(record, Path("runs") / record.file_name)


def made_entries(count: int, seed: int = 0) -> Iterator[Entry]:
    """Checkpoints under the tasks in turn: methods, scores to 4 decimals, one in ten diverged."""
    draw = random.Random(seed)
    for number in range(count):
        lost = draw.random() < 0.1
        yield made_entry(
            number,
            task=[*TASKS][number % len(TASKS)],
            score=None if lost else round(draw.uniform(4, 96), 4),
            status="diverged" if lost else "complete",
            method=("vicregl", "vicreg", "dino", "moco")[number // len(TASKS) % 4],
            weights=f"{number // len(TASKS):064x}"[::-1],
            name=f"checkpoint{number // len(TASKS)}.pth",
            deviations=("data: 100 train pictures",) if number % 5 == 0 else (),
        )
