"""What machine, versions and revision a record was made with."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from vicregl_bench.records.schema import Environment

_PACKAGES = (
    "vicregl-bench",
    "torch",
    "torchvision",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "onedl-mmdetection",
    "pycocotools",
    "timm",
)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout this package runs from, "+" if changed; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if changes else "")


def _cpu_count() -> int:
    """CPUs that this process may use; all of them where the system does not tell (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_environment(device: str, precision: str) -> Environment:
    """The environment of this process; `device` is a readable device name."""
    versions = {package: _version(package) for package in _PACKAGES}
    return Environment(
        device=device,
        precision=precision,
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cpu_count=_cpu_count(),
        versions={package: version for package, version in versions.items() if version},
        git_revision=_git_revision(),
    )


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far, in MiB.

    Linux keeps it by address space in /proc; getrusage's figure begins at that of the process which
    started this one.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak_kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(peak_kib) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 2**20
