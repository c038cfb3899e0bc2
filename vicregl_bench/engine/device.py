"""Where a run computes, and in what precision."""

import os
import platform
from pathlib import Path

import torch

from vicregl_bench.engine.reporter import Precision
from vicregl_bench.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name!r} is no device; use auto, cpu or cuda") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(f"--device {name}: {count} CUDA devices are here; use --device cpu")
    elif device.type != "cpu":
        raise ConfigError(f"--device {name}: only cpu and cuda are supported")
    return device


def default_precision(device: torch.device) -> Precision:
    """bf16 for frozen trunks on CUDA, fp32 elsewhere; anything else is a deviation."""
    return "bf16" if device.type == "cuda" else "fp32"


def device_name(device: torch.device) -> str:
    """A name for people: the GPU's, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"cpu: {line.split(':', 1)[1].strip()}"
    return f"cpu: {platform.processor() or platform.machine()}"


def default_workers(device: torch.device) -> int:
    """Data loading processes: the cores that the computation leaves free, 8 at the most.

    Cores are those that this process may use, shared with the others that torchrun started here.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = max(1, (usable or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(8, cores) if device.type == "cuda" else min(4, max(1, cores - 1))
