"""A frozen training iteration with the whole grid, for each family of backbones.

Runs, in turns and in one process, on the same batch (data loading is left out on both sides),
  A  this suite: the five learning rates x three seeds of voc_linear on one frozen forward,
  B  plain mmsegmentation: EncoderDecoder, the same frozen backbone, one linear head (of ConvNeXts
     and ViTs under `resize_concat`), one learning rate,
  C  the floor: the frozen forward alone,
and prints for every backbone the pictures per second, the median ratio A / B, A over the fifteen
runs of B that the sweep would take, and C / A. `--memory` adds peaks, each side in its own process.

    python benchmarks/segmentation.py
    python benchmarks/segmentation.py --only resnet50:8 --rounds 7
    python benchmarks/segmentation.py --device cuda --precision bf16 --size 512 --batch-size 16
"""

import argparse
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from sweep_cost import make_batch, preprocessor, seconds

from vicregl_bench.cli.quiet import import_engine

CASES = ("resnet50:16", "resnet50:8", "convnext_small_no_layerscale", "vit_small_patch16")
"""Architecture, and a ResNet's output stride."""

HEADS = 15

Step = Callable[[dict[str, Any]], Any]


def split_case(case: str) -> tuple[str, int | None]:
    """Architecture and output stride of a case."""
    arch, _, stride = case.partition(":")
    return arch, int(stride) if stride else None


def damped(arch: str) -> Any:
    """Random weights; a ResNet's residual branches damped, so that features have a natural size."""
    from dataclasses import replace

    from vicregl_bench.backbones.source import read_backbone

    source = read_backbone(f"random:{arch}")
    state = {
        key: value * 0.2 if key.endswith("bn3.weight") else value
        for key, value in source.state_dict.items()
    }
    return replace(source, state_dict=state)


def ours(case: str, options: argparse.Namespace) -> Step:
    """A training step of the whole sweep."""
    from vicregl_bench.backbones.frozen import FrozenTrunk
    from vicregl_bench.tasks.protocol import load_task
    from vicregl_bench.tasks.segmentation.frozen_segmentor import FrozenSweepSegmentor
    from vicregl_bench.tasks.segmentation.sweeps import build_sweep
    from vicregl_bench.tasks.training import build_optimizer

    arch, stride = split_case(case)
    source = damped(arch)
    task = load_task("voc_linear", family=source.architecture.family, arch=arch)
    sweep = build_sweep(task.settings, source.architecture).to(options.device)
    assert len(sweep.heads) == HEADS
    trunk = FrozenTrunk(source.build(stride), precision=options.precision, device=options.device)
    model = FrozenSweepSegmentor(
        trunk, sweep, preprocessor(options.size), maps=source.architecture.segmentation
    ).to(options.device)
    wrapper = build_optimizer(task, sweep.param_groups())
    return lambda batch: model.train_step(batch, wrapper)


def plain_mmseg(case: str, options: argparse.Namespace) -> Step:
    """A training step of mmsegmentation with the backbone frozen and one linear head."""
    from mmengine.optim import AmpOptimWrapper, OptimWrapper
    from mmengine.registry import init_default_scope
    from mmseg.models import EncoderDecoder

    from vicregl_bench.backbones import openmmlab  # noqa: F401  registers BenchBackbone
    from vicregl_bench.tasks.protocol import load_task

    arch, stride = split_case(case)
    source = damped(arch)
    architecture = source.architecture
    used = list(architecture.segmentation)
    width = sum(architecture.widths[index] for index in used)
    several = len(used) > 1
    init_default_scope("mmseg")
    model = EncoderDecoder(
        data_preprocessor=preprocessor(options.size),
        backbone={"type": "BenchBackbone", "ckpt": f"random:{arch}", "output_stride": stride},
        decode_head={
            "type": "FCNHead",
            "in_channels": [architecture.widths[i] for i in used] if several else width,
            "in_index": used if several else used[0],
            "input_transform": "resize_concat" if several else None,
            "channels": width,
            "num_convs": 0,
            "concat_input": False,
            "dropout_ratio": 0.0,
            "num_classes": 21,
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss"},
        },
    ).to(options.device)
    model.backbone.body.load_state_dict(source.state_dict)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert len(parameters) == 2, "only the head's weight and bias may train"
    settings = load_task("voc_linear", family=architecture.family).settings.schedule.optimizer
    keywords = settings.model_dump(exclude={"type"}, exclude_none=True)
    optimizer = getattr(torch.optim, settings.type)(parameters, lr=1e-3, **keywords)
    half = options.precision == "bf16"
    wrapper = AmpOptimWrapper(dtype="bfloat16", optimizer=optimizer) if half else None
    wrapper = wrapper or OptimWrapper(optimizer)
    return lambda batch: model.train_step(batch, wrapper)


def floor(case: str, options: argparse.Namespace) -> Step:
    """The frozen forward alone, on preprocessed pictures."""
    from vicregl_bench.backbones.frozen import FrozenTrunk

    arch, stride = split_case(case)
    trunk = FrozenTrunk(
        damped(arch).build(stride), precision=options.precision, device=options.device
    )
    shape = (options.batch_size, 3, options.size, options.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(options.device)
    return lambda batch: trunk(images)


SIDES = {"ours": ours, "mmseg": plain_mmseg, "floor": floor}


def timed(step: Step, batch: dict[str, Any], device: str) -> float:
    """Wall-clock of one step, the device's work included."""

    def whole(batch: dict[str, Any]) -> None:
        step(batch)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return seconds(whole, batch)


def measure(case: str, options: argparse.Namespace) -> None:
    """Take the sides in turns and print the medians."""
    batch = make_batch(options.batch_size, options.size)
    steps = {name: make(case, options) for name, make in SIDES.items()}
    for step in steps.values():
        timed(step, batch, options.device)
    rounds = [
        {name: timed(step, batch, options.device) for name, step in steps.items()}
        for _ in range(options.rounds)
    ]
    median = {name: statistics.median(one[name] for one in rounds) for name in steps}
    ratios = [one["ours"] / one["mmseg"] for one in rounds]
    print(
        f"{case:30s} ours {options.batch_size / median['ours']:7.2f} pictures/s  "
        f"mmseg, 1 head {options.batch_size / median['mmseg']:7.2f}  "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})  "
        f"of 15 runs {statistics.median(ratios) / HEADS:.3f}  "
        f"floor {median['floor'] / median['ours']:.2f} of ours",
        flush=True,
    )


def print_memory(case: str, options: argparse.Namespace) -> None:
    """Peak memory of each side in a process of its own."""
    peaks = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--only", case, "--side", side]
        for name in ("size", "batch_size", "device", "precision"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[side] = float(done.stdout.split()[-1])
    print(
        f"{case:30s} peak MiB: " + ", ".join(f"{s} {p:.0f}" for s, p in peaks.items()), flush=True
    )


def print_profile(case: str, options: argparse.Namespace) -> None:
    """Where the time of a training iteration of ours goes, operator by operator."""
    from torch.profiler import ProfilerActivity, profile

    batch = make_batch(options.batch_size, options.size)
    step = SIDES["ours"](case, options)
    timed(step, batch, options.device)
    cuda = options.device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler:
        timed(step, batch, options.device)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    for event in events[:8]:
        share = getattr(event, key) / total
        print(f"{case:30s} {share:5.1%}  {event.key} ({event.count} calls)", flush=True)


def run_side(case: str, options: argparse.Namespace) -> None:
    """Three steps of one side; prints the peak memory in MiB."""
    from vicregl_bench.records.environment import peak_memory_mib

    step = SIDES[options.side](case, options)
    for _ in range(3):
        step(make_batch(options.batch_size, options.size))
    cuda = options.device.startswith("cuda")
    print(torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_memory_mib())


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), help="of the cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where our time goes")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    import_engine()
    if options.side:
        run_side(options.only[0], options)
        return
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{options.batch_size} x {options.size} px on {options.device}, trunk in "
        f"{options.precision}; {options.rounds} rounds"
    )
    for case in options.only:
        measure(case, options)
        if options.memory:
            print_memory(case, options)
        if options.profile:
            print_profile(case, options)


if __name__ == "__main__":
    main()
