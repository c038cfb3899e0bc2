"""Cells of a matrix, made up."""

from pathlib import Path
from typing import Any

from tests.made_record import changed, make_record
from vicregl_bench.batch.job import Job
from vicregl_bench.batch.matrix import MatrixCell, Planned, State
from vicregl_bench.batch.weights import Weights
from vicregl_bench.batch.zoo import ZooEntry
from vicregl_bench.records import Record

SETTINGS: dict[str, Any] = {
    "data": {"dataset": "voc", "crop": [256, 256]},
    "schedule": {"iters": 60, "batch_size": 8},
    "sweep": {"lrs": [0.1, 0.01], "seeds": 3, "run_seed": 0},
}


def planned(**changes: Any) -> Planned:
    """60 iterations of 8 pictures, frozen, on the machine of `measured`."""
    given: dict[str, Any] = {
        "key": "k" * 64,
        "version": 1,
        "arch": "resnet18",
        "settings": SETTINGS,
        "train": 100,
        "val": 50,
        "device": "cpu: c",
        "precision": "fp32",
        "frozen": True,
        "runs": 1,
        "iterations": 60,
        "batch": 8,
        "cost": "GPU hours",
    }
    return Planned(**given | changes)


def cell(
    name: str = "mine",
    task: str = "voc_linear",
    state: State = "missing",
    out: Path = Path("runs"),
    plan: Planned | None = None,
    **more: Any,
) -> MatrixCell:
    """A cell of a matrix."""
    job = Job(Weights(ckpt=f"{name}.pth"), task, Path("data"), out)
    entry = ZooEntry(name=name, ckpt=f"{name}.pth")
    return MatrixCell(entry, task, state, planned=plan or planned(), job=job, **more)


def measured(
    *,
    wall_s: float = 100.0,
    train_s: float = 80.0,
    rate: float | None = 6.0,
    settings: dict[str, Any] = SETTINGS,
    train: int = 100,
    val: int = 50,
    **changes: Any,
) -> Record:
    """The record of a run like `planned`'s, `changed`."""
    like = make_record(
        task={"settings": settings},
        cost={"wall_s": wall_s, "train_s": train_s, "pictures_per_second": rate},
        data={"train": train, "val": val},
        environment={"device": "cpu: c", "precision": "fp32"},
    )
    return changed(like, **changes)
