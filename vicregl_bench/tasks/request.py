"""What a user asks for, and how a run tells its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.tasks.protocol import Task

Precision = Literal["fp32", "bf16"]
Select = Literal["val", "holdout"]


class Reporter(Protocol):
    """Where a run reports: nothing of it goes to stdout."""

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage of `total` steps; call the result with the number of steps done."""

    def warn(self, text: str) -> None:
        """Say something that the user should know."""


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
    workers: int | None = None  # None: chosen by device
    pictures: int = 0  # val pictures whose predictions are drawn
    force: bool = False
    command: str = ""
