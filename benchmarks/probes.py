"""Linear classification, its whole grid and on cached features, beside one plain evaluation.

On the class folders of --data-root, or on made-up ones, in turns and in one process:

linear  a training iteration, on the same batches of one loader (random crops, batch, workers),
  ours    this suite: the seven learning rates x three seeds of folder_linear on a frozen ResNet,
  plain   torchvision's ResNet of the same weights, frozen, in eval mode; nn.Linear, SGD, one rate,
  floor   the frozen forward alone,
  and prints the median ratio ours / plain of the iterations alone, and with the loading of their
  batch; --check fails where the former is above the limit, since with loading it is only nearer 1.
cached  folder_linear_cached of the same pictures (features once and its grid of penalties by
  L-BFGS) against the plain evaluation's whole schedule: one measured epoch, loading included, times
  the protocol's 100. Scores are another protocol's: no score stands beside the plain one's.

kNN has a program of its own, which --knn calls: knn.py, 100,000 x 2,048 beside scikit-learn.

    python benchmarks/probes.py --data-root DIR --batch-size 64 --workers 2 --check
    python benchmarks/probes.py --arch resnet18 --batch-size 16 --size 96 --pictures 64
    python benchmarks/probes.py --device cuda --precision bf16 --batch-size 256 --workers 16
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from segmentation import damped, timed
from torch import Tensor, nn

from vicregl_bench.cli.quiet import import_engine

MOST = 1.2
"""Of the plain evaluation's wall-clock, what a training iteration of ours may take (`--check`)."""

Batch = dict[str, Any]
Step = Callable[[Batch], Any]


class Setting:
    """What both sides have in common: pictures, loader, weights."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from vicregl_bench.data import make_image_folder, read_folder
        from vicregl_bench.tasks.protocol import load_task

        root = options.data_root
        if root is None:
            side = options.size * 8 // 7  # 256 of 224
            root = make_image_folder(
                folder / "pictures", train=options.pictures, val=8, seed=0, size=(side, side)
            )
        whole = read_folder(root)
        every = max(1, len(whole.train) // options.pictures)
        self.pictures = whole.train[::every][: options.pictures]
        self.classes = options.classes or len(whole.classes)
        self.options = options
        self.source = damped(options.arch)
        family = self.source.architecture.family
        side = options.size
        overrides = {
            "data.crop": side,
            "data.resize": [side * 8 // 7] * 2,
            "schedule.batch_size": options.batch_size,
        }
        self.task = load_task("folder_linear", overrides=overrides, family=family)
        del overrides["schedule.batch_size"]
        self.cached = load_task("folder_linear_cached", overrides=overrides, family=family)

    def trunk(self) -> Any:
        """The frozen backbone as this suite runs it."""
        from vicregl_bench.backbones.frozen import FrozenTrunk

        return FrozenTrunk(
            self.source.build(), precision=self.options.precision, device=self.options.device
        )

    def batches(self) -> Iterator[Batch]:
        """The endless stream of training batches."""
        from mmengine.runner import Runner

        from vicregl_bench.tasks.classification.dataset import train_loader

        config = train_loader(
            self.pictures,
            self.task.settings.data,
            batch_size=self.options.batch_size,
            seed=0,
            workers=self.options.workers,
        )
        return iter(Runner.build_dataloader(config))

    def images(self, batch: Batch) -> Tensor:
        """Normalised pictures of a batch on the device."""
        card, device = self.source.card, self.options.device
        mean, std = (
            torch.tensor(each, device=device).view(3, 1, 1) for each in (card.mean, card.std)
        )
        images = batch["inputs"].to(device).float()
        return (images - mean) / std


def ours(setting: Setting) -> Step:
    """A training step of all heads."""
    from vicregl_bench.tasks.classification.dataset import preprocessor
    from vicregl_bench.tasks.classification.frozen_classifier import (
        FrozenSweepClassifier,
        build_classifier_sweep,
    )
    from vicregl_bench.tasks.training import build_optimizer

    task, device = setting.task, setting.options.device
    architecture = setting.source.architecture
    sweep = build_classifier_sweep(task.settings, architecture, setting.classes).to(device)
    assert len(sweep.heads) == 21
    model = FrozenSweepClassifier(setting.trunk(), sweep, preprocessor(setting.source.card))
    model = model.to(device)
    wrapper = build_optimizer(task, sweep.param_groups())
    return lambda batch: model.train_step(batch, wrapper)


def plain(setting: Setting) -> Step:
    """A training step of one linear layer on torchvision's frozen ResNet."""
    import torchvision

    options = setting.options
    model = torchvision.models.get_model(setting.source.architecture.name, weights=None)
    lacking = model.load_state_dict(setting.source.state_dict, strict=False)
    assert set(lacking.missing_keys) <= {"fc.weight", "fc.bias"} and not lacking.unexpected_keys
    model.requires_grad_(False)
    model.fc = nn.Linear(model.fc.in_features, setting.classes)
    model.to(options.device).eval()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-6)
    half = options.precision == "bf16"
    kind = torch.device(options.device).type

    def step(batch: Batch) -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            logits = model(setting.images(batch))
        labels = batch["data_samples"]["label"].to(options.device)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def floor(setting: Setting) -> Step:
    """The frozen forward alone."""
    trunk = setting.trunk()
    return lambda batch: trunk.pooled(setting.images(batch))


SIDES = {"ours": ours, "plain": plain, "floor": floor}


def measure_linear(setting: Setting) -> float:
    """Iterations in turns, every round on a new batch; returns the ratio ours / plain."""
    options = setting.options
    steps = {name: make(setting) for name, make in SIDES.items()}
    batches = setting.batches()
    first = next(batches)
    for step in steps.values():
        timed(step, first, options.device)
    rounds, loading = [], []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        batch = next(batches)
        loading.append(time.perf_counter() - begin)
        rounds.append({name: timed(step, batch, options.device) for name, step in steps.items()})
    median = {name: statistics.median(one[name] for one in rounds) for name in steps}
    ratios = [one["ours"] / one["plain"] for one in rounds]
    loaded = [
        (one["ours"] + load) / (one["plain"] + load)
        for one, load in zip(rounds, loading, strict=True)
    ]
    ratio = statistics.median(ratios)
    print(
        "linear  seconds: "
        + ", ".join(f"{name} {value:.3f}" for name, value in median.items())
        + f", loading {statistics.median(loading):.3f}"
    )
    print(
        f"linear  ours / plain {ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}), with loading "
        f"{statistics.median(loaded):.3f}; of its 21 runs {ratio / 21:.3f}; floor "
        f"{median['floor'] / median['ours']:.2f} of ours",
        flush=True,
    )
    return ratio


def cached_seconds(setting: Setting, folder: Path) -> tuple[float, float]:
    """Seconds of the features of all pictures, and of the grid's fits."""
    from vicregl_bench.cli.reporter import StderrReporter
    from vicregl_bench.features.cache import FeatureCache
    from vicregl_bench.features.extractor import CentralCrop, Extractor
    from vicregl_bench.features.logistic import fit_logistic
    from vicregl_bench.features.scaler import Scaler

    options, settings = setting.options, setting.cached.settings
    crop = CentralCrop(tuple(settings.data.resize), settings.data.crop)
    extractor = Extractor(setting.source, setting.trunk(), crop)
    begin = time.perf_counter()
    with StderrReporter(quiet=True) as reporter:
        features = FeatureCache(folder).extract(
            extractor,
            setting.pictures,
            reporter=reporter,
            batch_size=options.batch_size,
            workers=options.workers,
        )
    between = time.perf_counter()
    vectors = features.tensor()
    vectors = Scaler.fit(vectors, settings.probe.scaling)(vectors).to(options.device)
    labels = torch.tensor([one.label for one in setting.pictures], device=options.device)
    for l2 in settings.sweep.l2:
        fit_logistic(
            vectors,
            labels,
            setting.classes,
            l2=l2,
            max_iter=settings.lbfgs.max_iter,
            tolerance=settings.lbfgs.tolerance,
        )
    return between - begin, time.perf_counter() - between


def plain_epoch_seconds(setting: Setting, step: Step) -> float:
    """Seconds of one epoch of the plain evaluation, its loader's start left out."""
    options = setting.options
    count = -(-len(setting.pictures) // options.batch_size)
    batches = setting.batches()
    next(batches)
    begin = time.perf_counter()
    for batch in islice(batches, count):
        timed(step, batch, options.device)
    return time.perf_counter() - begin


def measure_cached(setting: Setting, folder: Path) -> None:
    """Features and fits beside an epoch, in turns; prints the ratio to the whole schedule."""
    epochs = setting.task.settings.schedule.epochs
    step = plain(setting)
    timed(step, next(setting.batches()), setting.options.device)
    rounds = []
    for number in range(setting.options.rounds):
        taking, fitting = cached_seconds(setting, folder / f"features{number}")
        rounds.append((taking, fitting, plain_epoch_seconds(setting, step)))
    taking, fitting, epoch = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median((a + b) / (epochs * c) for a, b, c in rounds)
    print(
        f"cached  {len(setting.pictures):,} pictures, seconds: features {taking:.2f}, "
        f"{len(setting.cached.settings.sweep.l2)} fits {fitting:.2f}, plain epoch {epoch:.2f}"
    )
    print(
        f"cached  ours / plain {ratio:.4f}: {taking + fitting:.1f} s to {epochs * epoch:.0f} s "
        f"(one epoch x {epochs})",
        flush=True,
    )


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="class folders; made up where not given")
    parser.add_argument("--arch", default="resnet50", help="a ResNet that torchvision has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224, help="side of the crops")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=128, help="training pictures at most")
    parser.add_argument("--classes", type=int, help="of the heads; the data's own by default")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--only", nargs="*", choices=["linear", "cached"])
    parser.add_argument("--knn", action="store_true", help="run knn.py too")
    parser.add_argument("--check", action="store_true", help=f"fail where linear is above {MOST}")
    options = parser.parse_args()
    import_engine("classification")
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 on both sides
    only = options.only or ["linear", "cached"]
    ratio = 0.0
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(options, Path(name))
        print(
            f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
            f"{options.arch}, {options.batch_size} x {options.size} px on {options.device}, "
            f"{options.precision}; {setting.classes:,} classes, {options.workers} workers; "
            f"{options.rounds} rounds",
            flush=True,
        )
        if "linear" in only:
            ratio = measure_linear(setting)
        if "cached" in only:
            measure_cached(setting, Path(name))
    if options.knn:
        program = Path(__file__).with_name("knn.py")
        subprocess.run([sys.executable, str(program), "--device", options.device], check=True)
    if options.check and ratio > MOST:
        sys.exit(f"a training iteration takes {ratio:.2f} of the plain evaluation's, not {MOST}")


if __name__ == "__main__":
    main()
