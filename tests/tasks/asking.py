"""Small runs of any task on random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.request import RunRequest

TINY = "resnet18x0.25"


def ask(
    task: str, overrides: Mapping[str, Any], root: Path, out: Path, arch: str = TINY, **changes: Any
) -> RunRequest:
    """A request of the ci profile, on the CPU and in one process; `changes` are its fields."""
    source = read_backbone(f"random:{arch}")
    architecture = source.architecture
    chosen = load_task(
        task, "ci", dict(overrides), family=architecture.family, arch=architecture.name
    )
    return RunRequest(
        task=chosen, source=source, data_root=root, out=out, workers=0, device="cpu", **changes
    )
