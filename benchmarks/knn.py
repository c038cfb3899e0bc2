"""Our k nearest neighbours beside scikit-learn's brute force, in turns and in one process.

  A  this suite: `features.knn`'s search and votes, chunks of val and of train, float32,
  B  scikit-learn: KNeighborsClassifier(metric="cosine", algorithm="brute").predict, float32,

on the same random features. Prints the ratio A / B of every pair with its median, the share of val
pictures that both give the same class (equal votes are settled differently), and the peak memory of
each side in a process of its own. The issue's size is the default; --device cuda moves A alone.

    python benchmarks/knn.py
    python benchmarks/knn.py --train 5000 --val 500 --width 256 --rounds 3
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vicregl_bench.features.knn import BANK_CHUNK, QUERY_CHUNK, Neighbours, nearest_rows

Classes = npt.NDArray[np.int64]


def make_features(arguments: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Features of overlapping classes: of train, its labels, of val."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(arguments.classes, arguments.width, generator=generator)
    labels = torch.randint(arguments.classes, (arguments.train,), generator=generator)
    true = torch.randint(arguments.classes, (arguments.val,), generator=generator)
    train = torch.randn(arguments.train, arguments.width, generator=generator)
    val = torch.randn(arguments.val, arguments.width, generator=generator)
    for rows, own in ((train, labels), (val, true)):
        for first in range(0, len(rows), 1024):  # in place: the data alone should make the peak
            rows[first : first + 1024] += 0.5 * centres[own[first : first + 1024]]
    return train, labels, val


def ours(
    arguments: argparse.Namespace, train: Tensor, labels: Tensor
) -> Callable[[Tensor], Classes]:
    """This suite's classes of val pictures."""

    def predict(val: Tensor) -> Classes:
        similarities, rows = nearest_rows(
            train,
            val,
            arguments.k,
            device=arguments.device,
            query_chunk=arguments.val_chunk,
            bank_chunk=arguments.train_chunk,
        )
        found = Neighbours(similarities, labels[rows])
        return found.predict([arguments.k])[0, :, 0].numpy()

    return predict


def sklearn(
    arguments: argparse.Namespace, train: Tensor, labels: Tensor
) -> Callable[[Tensor], Classes]:
    """scikit-learn's classes of val pictures."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(arguments.k, metric="cosine", algorithm="brute")
    model.fit(train.numpy(), labels.numpy())
    return lambda val: np.asarray(model.predict(val.numpy()))


SIDES = {"ours": ours, "sklearn": sklearn}


def compare_time(arguments: argparse.Namespace) -> None:
    """Alternate both sides and print every pair's ratio and the medians."""
    train, labels, val = make_features(arguments)
    sides = [side(arguments, train, labels) for side in SIDES.values()]
    found = [side(val[:64]) for side in sides]  # warm
    pairs = []
    for _ in range(arguments.rounds):
        took = []
        for number, side in enumerate(sides):
            begin = time.perf_counter()
            found[number] = side(val)
            took.append(time.perf_counter() - begin)
        pairs.append(took)
        print(f"ours {took[0]:7.2f} s   sklearn {took[1]:7.2f} s   ratio {took[0] / took[1]:.3f}")
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"median: ours {medians[0]:.2f} s, sklearn {medians[1]:.2f} s, ratio {ratio:.3f}")
    print(f"the same class: {100 * (found[0] == found[1]).mean():.2f} % of val")


def peak_memory(side: str) -> tuple[float, float]:
    """MiB that a process of its own takes with the features alone, and at its peak."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak = map(float, done.stdout.split()[-2:])
    return before, peak


def child(arguments: argparse.Namespace) -> None:
    """Classify once, and print the peak memory before and after."""
    from vicregl_bench.records.environment import peak_memory_mib

    train, labels, val = make_features(arguments)
    before = peak_memory_mib()
    SIDES[arguments.child](arguments, train, labels)(val)
    print(before, peak_memory_mib())


def main() -> None:
    """Parse the command line and run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=100_000)
    parser.add_argument("--val", type=int, default=2_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--val-chunk", type=int, default=QUERY_CHUNK)
    parser.add_argument("--train-chunk", type=int, default=BANK_CHUNK)
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{arguments.train:,} x {arguments.width} train, {arguments.val:,} val, k = {arguments.k}, "
        f"{arguments.classes:,} classes, ours on {arguments.device}"
    )
    if arguments.rounds:
        compare_time(arguments)
    for side in SIDES:
        before, peak = peak_memory(side)
        print(f"peak memory, {side}: {peak:.0f} MiB, {peak - before:.0f} above the features'")


if __name__ == "__main__":
    main()
