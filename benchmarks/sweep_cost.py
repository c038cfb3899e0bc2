"""What a whole learning-rate sweep costs beside one plain mmsegmentation run.

Runs, in turns and in one process, a training iteration of
  A  this suite: fifteen linear heads (5 learning rates x 3 seeds) on one frozen forward,
  B  plain mmsegmentation: EncoderDecoder, frozen ResNet-50, FCNHead without convolutions, one
     learning rate,
on the same batch (data loading is left out on both sides), and prints the ratio A / B of every pair
with its median. Then the peak memory of fifteen heads over one head, each in a process of its own.
With --data-root, the mIoU of every head with the trunk in bf16 against fp32.

    python benchmarks/sweep_cost.py
    python benchmarks/sweep_cost.py --precision bf16
    python benchmarks/sweep_cost.py --rounds 0 --ckpt FILE --arch resnet50_v1 --data-root DIR
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vicregl_bench.cli.quiet import import_engine

ARCH = "resnet50"
LRS = [0.1, 0.05, 0.03, 0.02, 0.01]


def make_batch(batch_size: int, size: int) -> dict[str, Any]:
    """A batch as mmseg's loader gives it: uint8 pictures and blocky labels with ignored pixels."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for _ in range(batch_size):
        inputs.append(
            torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        )
        coarse = torch.randint(0, 21, (size // 16, size // 16), generator=generator)
        label = coarse.repeat_interleave(16, 0).repeat_interleave(16, 1)
        label[:4] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label[None]))
        sample.set_metainfo({"img_shape": (size, size), "ori_shape": (size, size)})
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def damped_state() -> dict[str, torch.Tensor]:
    """Random weights whose residual branches are damped, so that features have a natural size."""
    from vicregl_bench.backbones.resnet import random_resnet_state

    state = random_resnet_state(ARCH, 0)
    return {k: v * 0.2 if k.endswith("bn3.weight") else v for k, v in state.items()}


def preprocessor(size: int) -> dict[str, Any]:
    """The same preprocessing for both sides."""
    return {
        "type": "mmseg.SegDataPreProcessor",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "size": (size, size),
        "seg_pad_val": 255,
    }


def ours(arguments: argparse.Namespace, heads: int) -> Callable[[dict[str, Any]], None]:
    """A training step of the first `heads` of the sweep."""
    from mmengine.optim import OptimWrapper

    from vicregl_bench.backbones.frozen import FrozenTrunk
    from vicregl_bench.backbones.resnet import build_resnet
    from vicregl_bench.heads.linear_sweep import LinearSweep
    from vicregl_bench.heads.sweep import HeadSpec
    from vicregl_bench.tasks.segmentation.frozen_segmentor import FrozenSweepSegmentor

    backbone = build_resnet(ARCH, arguments.output_stride)
    backbone.load_state_dict(damped_state())
    specs = [HeadSpec(lr, seed) for lr in LRS for seed in range(3)][:heads]
    sweep = LinearSweep(2048, 21, specs)
    model = FrozenSweepSegmentor(
        FrozenTrunk(backbone, precision=arguments.precision), sweep, preprocessor(arguments.size)
    )
    optimizer = torch.optim.SGD(sweep.param_groups(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    wrapper = OptimWrapper(optimizer)
    return lambda batch: model.train_step(batch, wrapper)


def plain_mmseg(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """A training step of mmsegmentation with a frozen backbone and one linear head."""
    from mmengine.optim import OptimWrapper
    from mmengine.registry import init_default_scope
    from mmseg.models import EncoderDecoder

    from vicregl_bench.backbones.resnet import resnet_options

    init_default_scope("mmseg")
    model = EncoderDecoder(
        data_preprocessor=preprocessor(arguments.size),
        backbone={
            "type": "ResNet",
            **resnet_options(ARCH, arguments.output_stride),
            "frozen_stages": 4,
            "norm_eval": True,
        },
        decode_head={
            "type": "FCNHead",
            "in_channels": 2048,
            "in_index": 3,
            "channels": 2048,
            "num_convs": 0,
            "concat_input": False,
            "dropout_ratio": 0.0,
            "num_classes": 21,
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss"},
        },
    )
    model.backbone.load_state_dict(damped_state())
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert len(parameters) == 2, "only the head's weight and bias may train"
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    wrapper = OptimWrapper(optimizer)
    return lambda batch: model.train_step(batch, wrapper)


def seconds(step: Callable[[dict[str, Any]], None], batch: dict[str, Any]) -> float:
    """Wall-clock of one step."""
    begin = time.perf_counter()
    step(batch)
    return time.perf_counter() - begin


def compare_time(arguments: argparse.Namespace) -> None:
    """Alternate both sides and print every pair's ratio and the medians."""
    batch = make_batch(arguments.batch_size, arguments.size)
    sides = [ours(arguments, 15), plain_mmseg(arguments)]
    for side in sides:
        seconds(side, batch)
    pairs = [(seconds(sides[0], batch), seconds(sides[1], batch)) for _ in range(arguments.rounds)]
    for a, b in pairs:
        print(f"ours, 15 heads {a:6.2f} s   mmseg, 1 head {b:6.2f} s   ratio {a / b:.3f}")
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"median: ours {medians[0]:.2f} s, mmseg {medians[1]:.2f} s, ratio {ratio:.3f}")


def peak_memory(arguments: argparse.Namespace, heads: int) -> float:
    """Peak resident memory in MiB of a process that trains `heads` heads for three iterations."""
    command = [
        sys.executable,
        __file__,
        "--child-heads",
        str(heads),
        "--size",
        str(arguments.size),
        "--batch-size",
        str(arguments.batch_size),
        "--output-stride",
        str(arguments.output_stride),
        "--precision",
        arguments.precision,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def child(arguments: argparse.Namespace) -> None:
    """Train some heads and print the peak memory."""
    from vicregl_bench.records.environment import peak_memory_mib

    batch = make_batch(arguments.batch_size, arguments.size)
    step = ours(arguments, arguments.child_heads)
    for _ in range(3):
        step(batch)
    print(peak_memory_mib())


def compare_precision(arguments: argparse.Namespace) -> None:
    """Run voc_linear (ci) in both precisions and print the difference head by head."""
    from vicregl_bench.records import read_records

    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            command = [sys.executable, "-m", "vicregl_bench", "run", "--ckpt", arguments.ckpt]
            command += ["--task", "voc_linear", "--profile", "ci", "--precision", precision]
            command += ["--data-root", arguments.data_root, "--out", folder]
            command += ["--arch", arguments.arch] if arguments.arch else []
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        scores = {
            record.environment.precision: {(r.lr, r.seed): r.score for r in record.results}
            for record in read_records(Path(folder))
        }
    differences = []
    for head, exact in scores["fp32"].items():
        rough = scores["bf16"][head]
        differences.append(rough - exact)
        print(f"lr {head[0]:<5g} seed {head[1]}: fp32 {exact:.2f}  bf16 {rough:.2f}")
    print(
        json.dumps(
            {
                "mean_difference": round(statistics.mean(differences), 3),
                "largest_difference": round(max(map(abs, differences)), 3),
            }
        )
    )


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output-stride", type=int, default=8)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--ckpt", default=f"random:{ARCH}")
    parser.add_argument("--arch")
    parser.add_argument("--data-root")
    parser.add_argument("--child-heads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import_engine()
    if arguments.child_heads:
        child(arguments)
        return
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"ResNet-50 at output stride {arguments.output_stride}, {arguments.batch_size} x "
        f"{arguments.size} px, trunk in {arguments.precision}"
    )
    if arguments.rounds:
        compare_time(arguments)
        fifteen, one = peak_memory(arguments, 15), peak_memory(arguments, 1)
        print(
            f"peak memory: 15 heads {fifteen:.0f} MiB, 1 head {one:.0f} MiB, "
            f"ratio {fifteen / one:.3f}"
        )
    if arguments.data_root:
        compare_precision(arguments)


if __name__ == "__main__":
    main()
