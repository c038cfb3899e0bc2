"""Linear frozen detection with its whole grid beside plain mmdetection's C4 fine-tuning.

Runs, in turns and in one process, on the same batch (data loading is left out on both sides),
  ours    this suite: the five learning rates x three seeds of voc_det_linear on a frozen ResNet-50,
  one     the same with one head,
  mmdet   plain mmdetection: FasterRCNN C4 on the same weights, all of them trained, its own
          `train_step`; the numbers of voc_det_frcnn_c4,
  floor   the frozen forward alone,
and prints the medians of a training iteration and of a test picture, the ratio ours / mmdet, what
one head more costs, (ours - one) / 14, and how much of that are its own proposals. Pictures are
made up: two or three objects each, on clouds. Weights are random and damped, heads as at their
initialisation, but for a bias that makes most regions background, as they are after few iterations.

    python benchmarks/detection.py
    python benchmarks/detection.py --rounds 3 --memory --profile --check
    python benchmarks/detection.py --device cuda --precision bf16 --size 800 1333 --batch-size 16
"""

import argparse
import functools
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from segmentation import damped, timed

from vicregl_bench.cli.quiet import import_engine

ARCH, CLASSES, HEADS = "resnet50", 20, 15

MOST = 0.6
"""Of plain mmdetection's wall-clock, what a training iteration may take (`--check`)."""

WARM_UP = 1e-3
"""Share of the rates: as in the first iteration, so that no head diverges, whatever the batch."""

BACKGROUND = 4.0
"""Bias of the class of background: 73% of all regions, instead of 1 in 21."""

PROPOSALS, NMS = "proposals", "NMS of proposals"

Batch = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of those compared: a training iteration, and the test of pictures."""

    train: Callable[[Batch], Any]
    test: Callable[[Batch], Any]


def make_batch(pictures: int, size: tuple[int, int]) -> Batch:
    """A batch as mmdet's loader gives it: uint8 clouds, on which objects are plain rectangles."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(0)
    height, width = size
    inputs, samples = [], []
    for index in range(pictures):
        coarse = 255 * torch.rand(1, 3, height // 16, width // 16, generator=generator)
        picture = F.interpolate(coarse, size=size, mode="bilinear")[0].to(torch.uint8)
        objects = 2 + index % 2
        scale = torch.tensor([width, height])
        sides = (0.15 + 0.45 * torch.rand(objects, 2, generator=generator)) * scale
        corners = torch.rand(objects, 2, generator=generator) * (scale - sides)
        boxes = torch.cat([corners, corners + sides], dim=1)
        labels = torch.randint(0, CLASSES, (objects,), generator=generator)
        for (left, top, right, bottom), label in zip(boxes.int().tolist(), labels, strict=True):
            colour = torch.tensor([10 + 12 * int(label), 250 - 12 * int(label), 128])
            picture[:, top:bottom, left:right] = colour[:, None, None].to(torch.uint8)
        sample = DetDataSample(
            metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
        inputs.append(picture)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def ours(options: argparse.Namespace, heads: int = HEADS) -> Side:
    """The first heads of the sweep."""
    from vicregl_bench.backbones.frozen import FrozenTrunk
    from vicregl_bench.heads.detection_sweep import DetectionSweep, LinearDetectionHead
    from vicregl_bench.tasks.detection.dataset import preprocessor
    from vicregl_bench.tasks.detection.frozen_detector import (
        FrozenSweepDetector,
        build_detection_sweep,
    )
    from vicregl_bench.tasks.detection.settings import DetectionSettings
    from vicregl_bench.tasks.protocol import load_task
    from vicregl_bench.tasks.training import build_optimizer

    source = damped(ARCH)
    task = load_task("voc_det_linear", family=source.architecture.family, arch=ARCH)
    architecture = source.architecture
    assert isinstance(task.settings, DetectionSettings)
    whole = build_detection_sweep(task.settings, architecture)
    assert len(whole.heads) == HEADS
    sweep = DetectionSweep(
        architecture.widths[architecture.proposals],
        architecture.widths[architecture.regions],
        CLASSES,
        whole.heads[:heads],
        options=whole.options,
    ).to(options.device)
    with torch.no_grad():
        for linear in sweep.linears:
            assert isinstance(linear, LinearDetectionHead)
            linear.classes.bias[CLASSES] = BACKGROUND
    trunk = FrozenTrunk(
        source.build(task.settings.backbone.output_stride),
        precision=options.precision,
        device=options.device,
    )
    model = FrozenSweepDetector(
        trunk, sweep, preprocessor(source.card), architecture=architecture
    ).to(options.device)
    groups = [
        {**group, "lr": WARM_UP * head.lr}
        for group, head in zip(sweep.param_groups(), sweep.heads, strict=True)
    ]
    wrapper = build_optimizer(task, groups)

    def train(batch: Batch) -> None:
        model.train_step(batch, wrapper)
        assert (sweep.diverged_at < 0).all(), "a head diverged: less is computed"

    @torch.no_grad()
    def test(batch: Batch) -> None:
        model.test_step(batch)

    return Side(train, test)


def plain_mmdet(options: argparse.Namespace) -> Side:
    """Faster R-CNN C4 of mmdetection, everything trained."""
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    from vicregl_bench.tasks.detection.dataset import preprocessor
    from vicregl_bench.tasks.detection.models import FasterRCNNOptions, build_frcnn_c4
    from vicregl_bench.tasks.detection.settings import DetectionSettings
    from vicregl_bench.tasks.protocol import load_task
    from vicregl_bench.tasks.training import optimizer_options

    source = damped(ARCH)
    task = load_task("voc_det_frcnn_c4", family=source.architecture.family, arch=ARCH)
    assert isinstance(task.settings, DetectionSettings)
    model = build_frcnn_c4(
        source,
        FasterRCNNOptions(**task.settings.detector.model_dump()),
        num_classes=CLASSES,
        data_preprocessor=preprocessor(source.card),
        run_seed=0,
        head_seed=0,
    ).to(options.device)
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.bias[CLASSES] = BACKGROUND
    kind, keywords = optimizer_options(task)
    rate = WARM_UP * task.settings.sweep.lrs[0]
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=rate, **keywords)
    half = options.precision == "bf16"
    wrapper = AmpOptimWrapper(dtype="bfloat16", optimizer=optimizer) if half else None
    wrapper = wrapper or OptimWrapper(optimizer)

    def train(batch: Batch) -> None:
        model.train()
        model.train_step(batch, wrapper)

    @torch.no_grad()
    def test(batch: Batch) -> None:
        model.eval()
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=half):
            model.test_step(batch)

    return Side(train, test)


def floor(options: argparse.Namespace) -> Side:
    """The frozen forward alone, on preprocessed pictures."""
    from vicregl_bench.backbones.frozen import FrozenTrunk

    trunk = FrozenTrunk(damped(ARCH).build(16), precision=options.precision, device=options.device)
    images = torch.randn(options.batch_size, 3, *options.size).to(options.device)
    return Side(lambda batch: trunk(images), lambda batch: trunk(images[: len(batch["inputs"])]))


SIDES: dict[str, Callable[[argparse.Namespace], Side]] = {
    "ours": ours,
    "one": functools.partial(ours, heads=1),
    "mmdet": plain_mmdet,
    "floor": floor,
}


class Sections:
    """Seconds spent in some functions, each with all that it calls."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, dict[str, float]()

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def watch(self, owner: Any, name: str, section: str) -> Iterator[None]:
        """Count what `owner.name` takes."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            begin = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[section] = self.seconds.get(section, 0.0) + self._now() - begin

        with mock.patch.object(owner, name, watched):
            yield


def sections(step: Callable[[Batch], Any], batch: Batch, device: str) -> dict[str, float]:
    """Seconds of one step of ours in each of its sections; NMS is part of the proposals."""
    from mmengine.optim import OptimWrapper

    from vicregl_bench.backbones.frozen import FrozenTrunk
    from vicregl_bench.heads import detection_sweep, region_proposals

    parts, sweep = region_proposals.ProposalParts, detection_sweep.DetectionSweep
    clock = Sections(device)
    with ExitStack() as stack:
        for owner, name, section in (
            (FrozenTrunk, "__call__", "trunk"),
            (parts, "propose_all", PROPOSALS),
            (region_proposals, "first_kept", NMS),
            (sweep, "_draw_anchors", "anchors drawn"),
            (parts, "sample_all_regions", "regions drawn"),
            (sweep, "_region_weights", "RoIAlign's weights"),
            (detection_sweep._Training, "train_anchors", "anchors' layers and losses"),
            (detection_sweep._Training, "train_regions", "regions' layers and losses"),
            (sweep, "_detect", "detections"),
            (OptimWrapper, "step", "optimiser"),
        ):
            stack.enter_context(clock.watch(owner, name, section))
        clock.seconds["all"] = timed(step, batch, device)
    return clock.seconds


def measure(what: str, batch: Batch, sides: dict[str, Side], options: argparse.Namespace) -> float:
    """Take the sides in turns, print the medians, and return the ratio of ours to mmdet's."""
    steps: dict[str, Callable[[Batch], Any]] = {
        name: getattr(side, what) for name, side in sides.items()
    }
    for step in steps.values():
        timed(step, batch, options.device)
    rounds, watched = [], []
    for _ in range(options.rounds):
        rounds.append({name: timed(step, batch, options.device) for name, step in steps.items()})
        watched.append(
            {name: sections(steps[name], batch, options.device) for name in ("ours", "one")}
        )
    median = {name: statistics.median(one[name] for one in rounds) for name in steps}
    ratios = [one["ours"] / one["mmdet"] for one in rounds]
    ratio = statistics.median(ratios)
    unit = f"{what}, {len(batch['inputs'])} picture{'s' if len(batch['inputs']) > 1 else ''}"
    print(f"{unit:18s} seconds: " + ", ".join(f"{name} {s:.2f}" for name, s in median.items()))
    runs = f"; of its {HEADS} runs {ratio / HEADS:.4f}" if what == "train" else ""
    print(
        f"{unit:18s} ours / mmdet {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}){runs}; "
        f"floor {median['floor'] / median['ours']:.2f} of ours"
    )

    def a_head_more(section: str) -> float:
        return statistics.median(
            (one["ours"][section] - one["one"][section]) / (HEADS - 1) for one in watched
        )

    print(
        f"{unit:18s} a head more {1e3 * (median['ours'] - median['one']) / (HEADS - 1):.1f} ms; "
        f"its proposals {1e3 * a_head_more(PROPOSALS):.1f} ms, of which NMS "
        f"{1e3 * a_head_more(NMS):.1f} ms; all heads' proposals "
        f"{statistics.median(one['ours'][PROPOSALS] / one['ours']['all'] for one in watched):.0%} "
        f"of ours",
        flush=True,
    )
    if options.profile:
        for section in watched[0]["ours"]:
            seconds = statistics.median(one["ours"][section] for one in watched)
            print(f"{unit:18s}   {section:28s} {seconds:6.3f} s")
        print_operators(unit, steps["ours"], batch, options.device)
    return ratio


def print_operators(unit: str, step: Callable[[Batch], Any], batch: Batch, device: str) -> None:
    """Where the time of ours goes, operator by operator."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler:
        timed(step, batch, device)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    for event in events[:8]:
        share = getattr(event, key) / total
        print(f"{unit:18s}   {share:5.1%}  {event.key} ({event.count} calls)", flush=True)


def print_memory(options: argparse.Namespace) -> None:
    """Peak memory of each side's training in a process of its own."""
    peaks = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--size", *map(str, options.size)]
        for name in ("batch_size", "device", "precision"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[side] = float(done.stdout.split()[-1])
    print("train, peak MiB: " + ", ".join(f"{side} {peak:.0f}" for side, peak in peaks.items()))


def run_side(options: argparse.Namespace) -> None:
    """Two training steps of one side; prints the peak memory in MiB."""
    from vicregl_bench.records.environment import peak_memory_mib

    side = SIDES[options.side](options)
    for _ in range(2):
        side.train(make_batch(options.batch_size, tuple(options.size)))
    cuda = options.device.startswith("cuda")
    print(torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_memory_mib())


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--size", type=int, nargs=2, default=[300, 500], metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--batch-size", type=int, default=2, help="in training; test takes one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where our time goes")
    parser.add_argument("--check", action="store_true", help=f"fail where training is above {MOST}")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    import_engine("detection")
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 on both sides
    if options.side:
        run_side(options)
        return
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{ARCH}, {options.batch_size} x {options.size[0]} x {options.size[1]} px on "
        f"{options.device}, {options.precision}; {options.rounds} rounds",
        flush=True,
    )
    batch = make_batch(options.batch_size, tuple(options.size))
    sides = {name: make(options) for name, make in SIDES.items()}
    ratio = measure("train", batch, sides, options)
    measure("test", {name: values[:1] for name, values in batch.items()}, sides, options)
    if options.memory:
        print_memory(options)
    if options.check and ratio > MOST:
        sys.exit(f"a training iteration takes {ratio:.2f} of mmdetection's, not {MOST}")


if __name__ == "__main__":
    main()
