"""A whole training step of VICRegL beside one of VICReg: same backbone, views and batch.

Both run in turns in one process on the same pictures; printed are the medians, and that of every
pair's ratio VICRegL / VICReg. Memory is the highest resident size of a process of its own that runs
one side (Linux), or the highest allocation on CUDA. The paper's own cost (VICRegL, table 11): 13 h
against 11 h a hundred epochs, 15.7 against 11.3 GB a GPU.

    python benchmarks/pretrain_step.py
    python benchmarks/pretrain_step.py --recipe resnet50 --batch 256 --size 224 --device cuda \
        --precision bf16
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.optim import OptimWrapper

from pretrain.augment import ViewMaker, ViewSpec
from pretrain.data import stack
from pretrain.optim import build_optimizer
from pretrain.recipe import load_recipe
from pretrain.trainee import Trainee

SIDES = {"vicregl": 0.75, "vicreg": 1.0}  # alpha
MIB = 2**20


def make_side(name: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """A closure that makes one training step on a batch that is there already."""
    recipe = load_recipe(
        arguments.recipe,
        {
            "criterion.alpha": SIDES[name],
            "views.large_size": arguments.size,
            "views.small_count": 0,
            "run.precision": arguments.precision,
            **({"criterion.num_matches": arguments.matches} if arguments.matches else {}),
        },
    )
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    trainee = Trainee(recipe, device.type).to(device, memory_format=torch.channels_last)
    trainee.train()
    wrapper = OptimWrapper(build_optimizer(recipe.optimizer, trainee))
    for group in wrapper.optimizer.param_groups:
        group["lr"] = 1e-4
    make_views = ViewMaker(
        ViewSpec(arguments.size, recipe.views.large_scale, 2), None, recipe.views.pipeline
    )
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(
        0, 256, (arguments.batch, 3, 256, 256), generator=generator, dtype=torch.uint8
    )
    views = [make_views(picture, seed) for seed, picture in enumerate(pictures)]
    batch = stack(
        [{"large": v.large, "small": v.small, "crops": v.crops, "unreadable": []} for v in views]
    )

    def step() -> None:
        trainee.train_step(batch, wrapper)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def measure_memory(name: str) -> float:
    """Peak memory (MiB) of a process that makes three steps of one side."""
    words = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--memory-of", name]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def report_memory(arguments: argparse.Namespace) -> None:
    """Print the peak memory of this process over three steps, model included."""

    def status(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    if arguments.device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
        before = status("VmRSS")
    step = make_side(arguments.memory_of, arguments)
    for _ in range(3):
        step()
    if arguments.device.startswith("cuda"):
        print(torch.cuda.max_memory_allocated() / MIB)
    else:
        print(status("VmHWM") - before)


def main() -> None:
    """Time both sides in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="resnet50")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="side of the views, pixels")
    parser.add_argument("--matches", type=int, nargs=2, help="gamma, where the map is small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        report_memory(arguments)
        return
    sides = {name: make_side(name, arguments) for name in SIDES}
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in range(arguments.rounds + 1):
        for name in sorted(SIDES, reverse=bool(turn % 2)):
            begin = time.perf_counter()
            sides[name]()
            if turn:  # the first is a warm-up
                times[name].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(times["vicregl"], times["vicreg"], strict=True)]
    del sides
    memory = {name: measure_memory(name) for name in SIDES}
    print(
        f"{arguments.recipe}, batch {arguments.batch}, views of {arguments.size} px, "
        f"{arguments.precision}, {arguments.device}, torch {torch.__version__}"
    )
    for name in SIDES:
        print(f"{name:<8} {statistics.median(times[name]):8.3f} s   {memory[name]:9.0f} MiB")
    print(
        f"ratio    {statistics.median(ratios):8.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
        f"  {memory['vicregl'] / memory['vicreg']:9.3f}"
    )


if __name__ == "__main__":
    main()
