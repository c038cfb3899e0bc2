"""The VICRegL criterion beside lightly's: forward and backward, time and memory.

Both sides run in turns in one process on the same tensors; printed are the medians, and that of
every pair's ratio lightly / ours. Memory is how far the resident size of a process of its own that
runs one side rises above what it is with inputs and gradients in place (Linux). Where lightly would
need more than 4 GiB for one set of covariances, it is left out (nan). Needs lightly:
`pip install --no-deps lightly`.

    python benchmarks/criterion.py
    python benchmarks/criterion.py --width 8192 --rounds 3
    python benchmarks/criterion.py --table
"""

import argparse
import statistics
import subprocess
import sys
import time
from math import nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.losses import VICRegLLoss
from pretrain.views import cell_centres

Side = Any  # a callable without arguments that knows its `tensors`
MIB = 1024.0


def make_inputs(arguments: argparse.Namespace) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Two views: maps (B, n*n, C), embeddings (B, D), locations (B, n, n, 2)."""
    generator = torch.Generator().manual_seed(0)
    batch, n = arguments.batch, arguments.grid

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    maps = [draw(batch, n * n, arguments.channels) for _ in range(2)]
    embeddings = [draw(batch, arguments.width) for _ in range(2)]
    corners = torch.randint(0, 100, (2, batch, 4), generator=generator)
    locations = [
        torch.stack([cell_centres(i, j, 100 + h, 100 + w, n) for i, j, h, w in view.tolist()])
        for view in corners
    ]
    return maps, embeddings, [place.float() for place in locations]


def make_side(name: str, arguments: argparse.Namespace) -> Side:
    """A closure that runs one side forward and backward."""
    maps, embeddings, locations = make_inputs(arguments)
    tensors = [*maps, *embeddings]
    if name == "ours":
        criterion = VICRegLLoss(preset="released")

        def total() -> Tensor:
            return criterion(maps, embeddings, locations).total
    else:
        from lightly.loss import VICRegLLoss as LightlyLoss

        peer, n = LightlyLoss(), arguments.grid

        def total() -> Tensor:
            grids = [m.view(len(m), n, n, -1) for m in maps]
            features = list(zip(embeddings, grids, strict=True))
            value: Tensor = peer(global_view_features=features, global_view_grids=locations)
            return value

    def step() -> None:
        for tensor in tensors:
            if tensor.grad is not None:
                tensor.grad.zero_()
        total().backward()

    step.tensors = tensors
    return step


def seconds(step: Side) -> float:
    """Wall-clock of one step."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def peer_fits(arguments: argparse.Namespace) -> bool:
    """Whether lightly's covariances of every cell, (n*n, C, C), stay below 4 GiB a copy."""
    return int(arguments.grid**2 * arguments.channels**2 * 4) < 2**32


def compare(arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Median seconds of ours and of lightly, and the median ratio lightly / ours."""
    ours = make_side("ours", arguments)
    if not peer_fits(arguments):
        ours()
        return statistics.median(seconds(ours) for _ in range(arguments.rounds)), nan, nan
    peer = make_side("lightly", arguments)
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(arguments.rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def memory(name: str, arguments: argparse.Namespace) -> float:
    """Peak MiB above the inputs that two steps of a side take, in a process of its own."""
    sizes = ["--batch", "--grid", "--channels", "--width"]
    values = [arguments.batch, arguments.grid, arguments.channels, arguments.width]
    command = [sys.executable, __file__, "--child", name]
    for flag, value in zip(sizes, values, strict=True):
        command += [flag, str(value)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def child(arguments: argparse.Namespace) -> None:
    """Run one side and print how far the peak rose above the inputs and their gradients."""

    def status(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(field)) / MIB

    small = argparse.Namespace(**vars(arguments) | {"batch": 4, "channels": 32, "width": 32})
    make_side(arguments.child, small)()  # libraries and thread pools are loaded before counting
    step = make_side(arguments.child, arguments)
    for tensor in step.tensors:
        tensor.grad = torch.zeros_like(tensor)  # gradients belong to the inputs
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    step()
    print(status("VmHWM") - before)


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--grid", type=int, default=7)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--table", action="store_true", help="B = 16..256, C and D = 512..8192")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    cases = [(arguments.batch, arguments.channels, arguments.width)]
    if arguments.table:
        cases = [(b, 512, d) for b in (16, 64, 256) for d in (512, 2048, 8192)]
        cases += [(64, c, 2048) for c in (2048, 8192)]
    print("    B     C     D    ours s  lightly s   ratio   ours MiB  lightly MiB  ratio")
    for batch, channels, width in cases:
        case = argparse.Namespace(
            **vars(arguments) | {"batch": batch, "channels": channels, "width": width}
        )
        mine, theirs, ratio = compare(case)
        ours_mib = memory("ours", case)
        peer_mib = memory("lightly", case) if peer_fits(case) else nan
        print(
            f"{batch:>5} {channels:>5} {width:>5} {mine:>9.3f} {theirs:>10.3f} {ratio:>7.1f} "
            f"{ours_mib:>10.0f} {peer_mib:>12.0f} {ours_mib / peer_mib:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
