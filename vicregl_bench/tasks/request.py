"""What a user asks of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.engine.reporter import Precision
from vicregl_bench.tasks.protocol import Task

Select = Literal["val", "holdout"]
Engine = Literal["mmdet", "detectron2"]


@dataclass(frozen=True)
class RunRequest:
    """One run of one task on one backbone."""

    task: Task
    source: BackboneSource
    data_root: Path
    out: Path
    select: Select = "val"
    precision: Precision | None = None  # None: the device's default
    device: str = "auto"
    engine: Engine = "mmdet"  # of fine-tuned detection
    workers: int | None = None  # None: chosen by device
    pictures: int | tuple[str, ...] = 8  # val pictures whose predictions are kept, or their names
    force: bool = False
    command: str = ""
